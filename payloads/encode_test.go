package payloads_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
)

func TestEncodeJSONIsByteForByte(t *testing.T) {
	for _, payload := range []string{"{ \"b\":1,\r\n\t\"a\":\"\\u00e9<>&\" }\n", "[1.0,1e2]", "null"} {
		got, err := payloads.Encode(payloads.ContentTypeJSON, json.RawMessage(payload))
		if err != nil || string(got) != payload {
			t.Errorf("%q became %q, error %v", payload, got, err)
		}
	}
}

// TestForm holds the notation, field for field, and that it can be read back.
func TestForm(t *testing.T) {
	tests := []struct{ what, payload, form, back string }{
		{"empty", `{}`, "", `{}`},
		{"document order", `{"z":"1","a":"2","m":"3"}`, "z=1 & a=2 & m=3", `{"z":"1","a":"2","m":"3"}`},
		{"a string as it is", `{"s":"a b&c=d+e%f/é"}`, "s=a b&c=d+e%f/é", `{"s":"a b&c=d+e%f/é"}`},
		{"an escape read", `{"s":"N\u00f3mina\n<"}`, "s=Nómina\n<", `{"s":"Nómina\n<"}`},
		{"numbers literally", `{"i":1.0,"e":1E+2,"big":12345678901234567890}`, "i=1.0 & e=1E+2 & big=12345678901234567890", `{"i":"1.0","e":"1E+2","big":"12345678901234567890"}`},
		{"booleans", `{"t":true,"f":false}`, "t=true & f=false", `{"t":"true","f":"false"}`},
		{"null is empty", `{"n":null,"s":""}`, "n= & s=", `{"n":"","s":""}`},
		{"an empty array and object", `{"a":[],"o":{}}`, "a=[] & o={}", `{"a":"[]","o":"{}"}`},
		{"nested names", `{"wallet_item":{"tokens":{"first_name":"Calrissian","n":1}},"p":"q"}`, "wallet_item[tokens][first_name]=Calrissian & wallet_item[tokens][n]=1 & p=q", `{"wallet_item":{"tokens":{"first_name":"Calrissian","n":"1"}},"p":"q"}`},
		{"items", `{"items":[{"sku":{"code":"sku1230"},"q":2},[true,[]],"x"]}`, "items[0][sku][code]=sku1230 & items[0][q]=2 & items[1][0]=true & items[1][1]=[] & items[2]=x", `{"items":[{"sku":{"code":"sku1230"},"q":"2"},["true","[]"],"x"]}`},
		{"more items than digits", `{"a":[0,1,2,3,4,5,6,7,8,9,10]}`, "a[0]=0 & a[1]=1 & a[2]=2 & a[3]=3 & a[4]=4 & a[5]=5 & a[6]=6 & a[7]=7 & a[8]=8 & a[9]=9 & a[10]=10", `{"a":["0","1","2","3","4","5","6","7","8","9","10"]}`},
		{"brackets in a name", `{"a b[0]":{"]":"x","[":"y"}}`, "a b%5B0%5D[%5D]=x & a b%5B0%5D[%5B]=y", `{"a b[0]":{"]":"x","[":"y"}}`},
		{"what looks encoded", `{"%5B":{"%":"x","%31":"y"}}`, "%255B[%25]=x & %255B[%2531]=y", `{"%5B":{"%":"x","%31":"y"}}`},
		{"names of digits", `{"0":{"0":"a","12":"b","1x":"c","٣":"d"}}`, "0[%30]=a & 0[%312]=b & 0[1x]=c & 0[٣]=d", `{"0":{"0":"a","12":"b","1x":"c","٣":"d"}}`},
		{"empty names", `{"":{"":{"":"x"}}}`, "%[%][%]=x", `{"":{"":{"":"x"}}}`},
		{"a name twice", `{"a":{"x":1},"b":2,"a":{"y":3,"y":[4]}}`, "a[y][0]=4 & b=2", `{"a":{"y":["4"]},"b":"2"}`},
		{"a name twice among many", `{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"a":1,"2":2,"a":3}`, "1=1 & 2=2 & 3=1 & 4=1 & 5=1 & 6=1 & 7=1 & 8=1 & 9=1 & a=3", `{"1":"1","2":"2","3":"1","4":"1","5":"1","6":"1","7":"1","8":"1","9":"1","a":"3"}`},
		{"names that differ in case", `{"a":1,"A":2}`, "a=1 & A=2", `{"a":"1","A":"2"}`},
		{"space around", " \n{ \"a\" : { \"b\" : \"c\" } }\n", "a[b]=c", `{"a":{"b":"c"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			got, err := payloads.Encode(payloads.ContentTypeForm, json.RawMessage(tt.payload))
			if want := asForm(tt.form); err != nil || string(got) != want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, want)
			}
			back, err := payloads.DecodeForm(got)
			if err != nil || string(back) != tt.back {
				t.Errorf("read back %s (%v)\nwant      %s", back, err, tt.back)
			}
		})
	}
}

// asForm is the form of fields that are parted by " & ".
func asForm(fields string) string {
	if fields == "" {
		return ""
	}
	var form []string
	for field := range strings.SplitSeq(fields, " & ") {
		name, text, _ := strings.Cut(field, "=")
		form = append(form, url.QueryEscape(name)+"="+url.QueryEscape(text))
	}
	return strings.Join(form, "&")
}

// TestFormOnTheWire holds the bytes themselves once: other tests count on url.QueryEscape.
func TestFormOnTheWire(t *testing.T) {
	got, err := payloads.Encode(payloads.ContentTypeForm, json.RawMessage(`{"a b":[{"%":"x y&z=1+1/é~"}]}`))
	if want := "a+b%5B0%5D%5B%2525%5D=x+y%26z%3D1%2B1%2F%C3%A9~"; err != nil || string(got) != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
}

// TestFormIsBounded: what would fill gigabytes is given up at 4 MiB, before it costs any.
func TestFormIsBounded(t *testing.T) {
	const deep = 9990
	for name, tt := range map[string]struct {
		payload string
		fits    bool
	}{
		"deep, and many values": {strings.Repeat(`{"a":`, deep) + "[" + strings.Repeat("1,", 200_000) + "1]" + strings.Repeat("}", deep), false},
		"a long name":           {`{"` + strings.Repeat("n", 1<<19) + `":[` + strings.Repeat("1,", 1<<13) + "1]}", false},
		"many empty objects":    {`{"a":[` + strings.Repeat("{},", 220_000) + "{}]}", false},
		"one name many times":   {`{` + strings.Repeat(`"a":{"a":1},`, 40_000) + `"a":2}`, true},
		"as deep as JSON goes":  {strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), true},
		"deep and empty":        {strings.Repeat(`{"a":`, 9999) + "[]" + strings.Repeat("}", 9999), true},
		"one long text":         {`{"a":"` + strings.Repeat("é", 1<<19) + `"}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			body, err := payloads.Encode(payloads.ContentTypeForm, json.RawMessage(tt.payload))
			runtime.ReadMemStats(&after)
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 256<<20 {
				t.Errorf("a payload of %d bytes took %d MiB", len(tt.payload), allocated>>20)
			}
			if !tt.fits {
				wantField(t, err, "body.payload", "more than 4 MiB as a form")
				return
			}
			if err != nil || len(body) > 4<<20 {
				t.Fatalf("%d bytes: %v", len(body), err)
			}
			if _, err := payloads.DecodeForm(body); err != nil {
				t.Errorf("does not read back: %v", err)
			}
		})
	}
}

func TestDecodeFormRefuses(t *testing.T) {
	tests := []struct{ form, words string }{
		{"a=1&a[b]=2", "field 2 of the form lies within what is a value already"},
		{"a[b]=2&a=1", "field 2 of the form gives a value to what has one, or holds others"},
		{"a=1&b=2&a=3", "field 3 of the form gives a value to what has one"},
		{"a[0]=1&a[0]=2", "field 2 of the form gives a value"},
		{"a=1&%61=2", "field 2 of the form gives a value"},
		{"a[0]=1&a[b]=2", "names a member of what is an array"},
		{"a[b]=1&a[0]=2", "numbers an item of what is an object"},
		{"a[1]=1", "out of sequence"},
		{"a[0]=1&a[2]=1", "field 2 of the form is an item out of sequence"},
		{"a[999999999]=1", "out of sequence"},
		{"a[99999999999999999999]=1", "out of sequence"},
		{"a[0]=1&a[01]=1", "out of sequence"},
		{"a[]=1", "name that no payload gives"},
		{"=1", "name that no payload gives"},
		{"[a]=1", "name that no payload gives"},
		{"a]=1", "name that no payload gives"},
		{"a%25zz=1", "name that no payload gives"},
		{"a[b%25]=1", "name that no payload gives"},
		{"a[%25FF]=1", "name that no payload gives"},
		{"a[b=1", "without its ]"},
		{"a[[b]]=1", "more than brackets"},
		{"a[b]c=1", "more than brackets"},
		{"a[b]]=1", "more than brackets"},
		{"a", "has no ="},
		{"a=1&", "field 2 of the form has no ="},
		{"&a=1", "field 1 of the form has no ="},
		{"a=%zz", "two hex digits"},
		{"%=1", "two hex digits"},
		{"a=%FF", "UTF-8"},
		{"%FF=1", "UTF-8"},
		{"a" + strings.Repeat("[b]", 10_000) + "=1", "10000 levels deep"},
		{"a=" + strings.Repeat("x", 4<<20), "4 MiB"},
		{`{"a":1}`, "has no ="},
	}
	for _, tt := range tests {
		got, err := payloads.DecodeForm([]byte(tt.form))
		if err == nil || got != nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%.40q gives %.40s and %v, want an error that says %q", tt.form, got, err, tt.words)
		}
	}
}

func TestDecodeFormOfOthers(t *testing.T) { // forms that are not written as Encode does, and mean the same
	for form, want := range map[string]string{
		"a[b]=1&c=2&a[d]=3":        `{"a":{"b":"1","d":"3"},"c":"2"}`,
		"a[0][x]=1&a[1]=2&a[0]=":   "",
		"a[0][x]=1&a[1]=2&a[0][y]": "",
		"%61%5Bb%5D=%31":           `{"a":{"b":"1"}}`,
		"a[%2531%2532]=x":          `{"a":{"12":"x"}}`,
	} {
		got, err := payloads.DecodeForm([]byte(form))
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s gives %s (%v), want %s", form, got, err, want)
		}
	}
}

func TestEncodeFormRefuses(t *testing.T) {
	tests := []struct{ payload, location, words string }{
		{`[1]`, "body.payload", "must be an object"},
		{`"a=b"`, "body.payload", "must be an object"},
		{`null`, "body.payload", "must be an object"},
		{``, "body.payload", "not valid JSON"},
		{`{"a":}`, "body.payload", "not valid JSON"},
		{"\ufeff{}", "body.payload", "begins with a byte order mark (U+FEFF)"},
		{`{"a":"\ud800"}`, "body.payload.a", "half of a surrogate pair"},
		{`{"a":[1,{"b":"x\udc00\ud83d\ude00"}]}`, "body.payload.a[1].b", "half of a surrogate pair"},
		{`{"a":1,"\ud83d\ud83d\ude00":2}`, `body.payload["\ufdd0😀"]`, "half of a surrogate pair"},
		{`{"a":"\uD83Dx"}`, "body.payload.a", "half of a surrogate pair"},
		{`{"a":"\ud83d\\ude00"}`, "body.payload.a", "half of a surrogate pair"},
	}
	for _, tt := range tests {
		_, err := payloads.Encode(payloads.ContentTypeForm, json.RawMessage(tt.payload))
		wantField(t, err, tt.location, tt.words)
	}
}

func TestEncodeUnknownContentType(t *testing.T) {
	for _, ct := range []string{"", "text/plain", "application/json; charset=utf-8", "APPLICATION/JSON"} {
		if body, err := payloads.Encode(ct, json.RawMessage(`{}`)); err == nil || body != nil {
			t.Errorf("%q: %s, %v", ct, body, err)
		}
	}
}

func TestEncodeFormOfTheWalletExample(t *testing.T) {
	body, err := payloads.Encode(payloads.ContentTypeForm, builtin(t, "wallet_item_install").Example)
	if err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"event_type": "wallet_item_install", "wallet_campaign[token]": "r3zhm8"} {
		if form.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, form.Get(name), want)
		}
	}
}

func ExampleEncode() {
	payload := json.RawMessage(`{"status": "OK", "totalCfdi": "$1,962.36", "items": [1, {"sku": "b"}]}`)
	body, err := payloads.Encode(payloads.ContentTypeForm, payload)
	fmt.Println(string(body), err)
	// Output: status=OK&totalCfdi=%241%2C962.36&items%5B0%5D=1&items%5B1%5D%5Bsku%5D=b <nil>
}

func ExampleDecodeForm() {
	payload, err := payloads.DecodeForm([]byte("status=OK&items%5B0%5D=1&items%5B1%5D%5Bsku%5D=b"))
	fmt.Println(string(payload), err)
	// Output: {"status":"OK","items":["1",{"sku":"b"}]} <nil>
}
