package egresstest

// Inner are addresses that no request may reach unless an operator allows it.
var Inner = []string{
	"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254",
	"172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.175.48.1",
	"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
	"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:168.63.129.16", "::ffff:0:127.0.0.1",
	"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "100::1", "100:0:0:1::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
	"2002:7f00:1::", "2002:a9fe:a9fe::1", "2620:4f:8000::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "2606:4700::1%lo", "fec0::1", "ff02::1",
	"192.0.0.170", "198.51.100.255", "2001:0:7f00:1::", "fd00::1", "ff0e::1", "::2", "8000::1",
}

// Outer are addresses that any request may reach, on the ports 80, 443 and 8443.
var Outer = []string{"1.1.1.1", "93.184.215.14", "::ffff:93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::1", "168.63.129.17"}

// Partner is the name whose address is one of [Outer]; RebindName leads there and to 127.0.0.1 in turns.
const (
	Partner    = "partner.example"
	RebindName = "rebind.example"

	partnerAddr = "93.184.215.14"
)

// Names are names whose owner points them inside, with what the name server says of each; "cname NAME" is an alias of NAME.
var Names = map[string][]string{
	"a.example":        {"127.0.0.1"},
	"a2.example":       {"127.8.8.8"},
	"zero.example":     {"0.0.0.0"},
	"aaaa.example":     {"::1"},
	"unspec.example":   {"::"},
	"mapped.example":   {"::ffff:127.0.0.1"},
	"alias.example":    {"cname target.example", "127.0.0.1"},
	"two.example":      {"127.0.0.1", "127.0.0.2"},
	"both.example":     {"127.0.0.1", "::1"},
	"metadata.example": {"169.254.169.254"},
	"azure.example":    {"168.63.129.16"},
	"private.example":  {"10.0.0.1", "192.168.0.1", "fd00::1"},
	"nat64.example":    {"64:ff9b::7f00:1"},
	"teredo.example":   {"2001:0:7f00:1::"},
	"sixtofour.example": {
		"2002:7f00:1::",
	},
}

// URLs are spellings that reach the inside with one resolver or another, or by an answer of the partner; those of [Names] come on top.
var URLs = []string{
	// Addresses, in the spellings that one parser or another takes.
	"http://127.0.0.1/", "http://127.8.8.8/", "http://127.1/", "http://127.0.1/", "http://127.0.0.1./", "http://127.000.000.001/", "http://0/", "http://0.0.0.0/",
	"http://2130706433/", "http://0x7f000001/", "http://0X7F000001/", "http://0x7f.1/", "http://0x7f.0.0.0x1/", "http://017700000001/", "http://0177.0.0.1/", "http://0177.1/",
	"http://[::]/", "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[::ffff:0:127.0.0.1]/",
	"http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::7f00:1]/", "http://[2002:7f00:1::]/", "http://[2001:0:7f00:1::]/", "http://[::1%25lo]/", "http://[fe80::1%25lo]/", "http://[fec0::1]/",
	"http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://[::ffff:a9fe:a9fe]/", "http://[fd00:ec2::254]/latest/", "http://168.63.129.16/", "http://100.100.100.200/",
	"http://10.0.0.1/", "http://172.16.0.1:8080/", "http://192.168.0.1/", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1:8443/",
	// Names.
	"http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://a.localhost/", "https://localhost/", "http://localhost.localdomain/", "http://loopback.hosts.example/",
	"http://metadata/", "http://metadata.google.internal/", "http://redis/", "http://redis.prod.svc/", "http://redis.prod.svc.cluster.local/", "http://vault.service.consul/",
	"http://1.0.0.127.in-addr.arpa/", "http://printer.local/",
	// Names in letters, digits and dots that IDNA maps to ASCII.
	"http://127。0。0。1/", "http://127%E3%80%820%E3%80%820%E3%80%821/", "http://①②⑦.0.0.1/", "http://１２７.0.0.1/", "http://𝟙𝟚𝟟.0.0.1/", "http://127．0｡0。1/", "http://２１３０７０６４３３/",
	"http://ⓛocalhost/", "http://ＬＯＣＡＬＨＯＳＴ/", "http://localhost。/", "http://local\u00adhost/", "http://local\u200bhost/",
	// What one parser takes for the host, and another for something else.
	"http://partner.example@127.0.0.1/", "http://user:pw@127.0.0.1/", "http://partner.example@127.0.0.1@partner.example/", "http://partner.example／@127.0.0.1/", `http://127.0.0.1\@partner.example/`,
	"http://127.0.0.1#partner.example/", "http://127.0.0.1?@partner.example/", "http://127.0.0.1 partner.example/", "http://127.0.0.1\t/", "http://127.0.0.1\r\nHost: partner.example/",
	// Ports and schemes.
	"http://partner.example:22/", "http://partner.example:6379/", "http://partner.example:8080/", "gopher://127.0.0.1:6379/_INFO", "ftp://127.0.0.1/", "file:///etc/passwd", "unix:///var/run/docker.sock",
	// Answers of the partner that lead elsewhere.
	"http://partner.example/301?http://127.0.0.1/", "http://partner.example/302?http://127.0.0.1/", "http://partner.example/303?http://127.0.0.1/", "http://partner.example/307?http://127.0.0.1/",
	"http://partner.example/308?http://127.0.0.1/", "http://partner.example/302?http://169.254.169.254/", "http://partner.example/307?http://partner.example:8080/", "http://partner.example/302?//127.0.0.1/",
	"http://partner.example/302?file:///etc/passwd", "http://partner.example/302?gopher://127.0.0.1:6379/",
}
