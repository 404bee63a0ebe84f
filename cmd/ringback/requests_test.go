package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// TestARequestIsShown as it went out, and its answer: for people with its JSON indented, and elsewhere byte for byte. Nothing that a terminal would obey gets there.
func TestARequestIsShown(t *testing.T) {
	t.Parallel()
	const raw = `{ "a":1.0,"b":"\u00e9" }`
	body := raw
	sent := client.Attempt{
		Number: 2, StatusCode: 500, ResponseHeaders: map[string]string{"Content-Type": "text/html"}, ResponseBody: "<p>\x1b[2J\u202eno",
		Request: &client.Request{Method: "PUT", URL: "https://partner.example/hook?k=***", Headers: map[string]string{"Webhook-Id": "dlv_x", "Authorization": "***"}, Body: &body, SentAt: time.Now(), Incomplete: true},
		Timing:  &client.Timing{DNS: 1.25, FirstByte: 80, Total: 82.5, Reused: true},
	}
	missing := client.Attempt{Number: 3, RequestMissing: "nothing was sent", Timing: &client.Timing{Total: 0.2}}
	slow := client.Attempt{Number: 7, Timing: &client.Timing{DNS: 99.96, Connect: 1500.25, FirstByte: 12345.678, Total: 13945.888}}
	unsaid := client.Attempt{Number: 6}
	bodiless := client.Attempt{Number: 4, Request: &client.Request{Method: "POST", BodyMissing: "the event's body is no longer kept"}}
	inPart := client.Attempt{Number: 5, Request: &client.Request{Method: "POST", BodyMissing: "of its 2 elements one is missing", Elements: []client.Element{
		{DeliveryID: "dlv_x", EventID: "x", Body: raw}, {Missing: "its event was erased\x1b"},
	}}}
	show := func(width int, asked bool, a client.Attempt) string {
		var b bytes.Buffer
		if err := printExchange(printer{w: &b, width: width}, &a, asked); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for name, tt := range map[string]struct {
		got         string
		want, wants []string // what is there, and what is not
	}{
		"to a file": {show(0, true, sent), []string{
			"attempt 2 sent", "in 82.5ms (dns 1.25ms, first byte 80ms, on a connection that had served before)", "PUT https://partner.example/hook?k=***\nAuthorization: ***\nWebhook-Id: dlv_x\n\n" + raw + "\n",
			"not be written to its end", "attempt 2 was answered 500:\n\nContent-Type: text/html\n\n<p>\uFFFD[2J\uFFFDno\n",
		}, []string{"\x1b", "\u202e"}},
		"to a terminal":   {show(80, true, sent), []string{"{\n  \"a\": 1.0,\n  \"b\": \"\\u00e9\"\n}\n"}, []string{raw}},
		"only the answer": {show(0, false, sent), []string{"was answered 500"}, []string{"PUT", "sent"}},
		"none":            {show(0, true, missing), []string{"attempt 3 sent", ", in 0.2ms:\n\n(nothing was sent)\n"}, []string{"answered", "()"}},
		"slow":            {show(0, true, slow), []string{", in 13946ms (dns 100ms, connect 1500ms, first byte 12346ms):"}, nil},
		"unsaid":          {show(0, true, unsaid), []string{"attempt 6 sent", "(the server does not say what was sent)\n"}, []string{"()"}},
		"without body":    {show(0, true, bodiless), []string{"(the body is not shown: the event's body is no longer kept)"}, nil},
		"in part":         {show(0, true, inPart), []string{"(the body is not shown: of its 2 elements one is missing)\n\nelement 1 of 2, dlv_x\n\n" + raw + "\n\nelement 2 of 2, its event was erased\uFFFD\n"}, []string{"\x1b"}},
		"nothing":         {show(0, false, missing), []string{""}, []string{"attempt"}},
	} {
		for _, want := range tt.want {
			if !strings.Contains(tt.got, want) {
				t.Errorf("%s lacks %q:\n%s", name, want, tt.got)
			}
		}
		for _, not := range tt.wants {
			if strings.Contains(tt.got, not) {
				t.Errorf("%s has %q:\n%s", name, not, tt.got)
			}
		}
	}
}
