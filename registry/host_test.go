package registry

import "testing"

// TestDestinationHost: URLs that lead to one host and port have one name, which says nothing of them.
func TestDestinationHost(t *testing.T) {
	host := func(url string) string { return Destination{URL: url}.Host() }
	want := host("https://partner.example/a")
	for _, same := range []string{"https://partner.example/b?c=d", "https://PARTNER.example:443/", "https://partner.example./", "HTTPS://partner.example"} {
		if host(same) != want {
			t.Errorf("%s is another host", same)
		}
	}
	for _, other := range []string{"http://partner.example/a", "https://partner.example:8443/a", "https://a.partner.example/a", "https://partner.exampl/e"} {
		if host(other) == want {
			t.Errorf("%s is the same host", other)
		}
	}
	if len(want) != 16 {
		t.Error(want)
	}
}
