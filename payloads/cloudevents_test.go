package payloads_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

func TestCloudEvent(t *testing.T) {
	e := payloads.CloudEvent{ID: "e-1", Source: "urn:ringback:company:acme", Type: "a.b", Time: time.Date(2026, 1, 31, 23, 59, 59, 1_999_999, time.FixedZone("", 3600))}
	got, err := e.Structured([]byte("{ \"n\":1.0, \"t\":\"\\u00e9<>\" }\n"))
	const attributes = `{"specversion":"1.0","id":"e-1","source":"urn:ringback:company:acme","type":"a.b","time":"2026-01-31T22:59:59.001Z"`
	if want := attributes + `,"datacontenttype":"application/json","data":` + "{ \"n\":1.0, \"t\":\"\\u00e9<>\" }\n}"; err != nil || string(got) != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
	headers := map[string]string{}
	e.Header(func(name, value string) { headers[name] = value })
	if diff := cmp.Diff(map[string]string{
		"ce-specversion": "1.0", "ce-id": "e-1", "ce-source": "urn:ringback:company:acme", "ce-type": "a.b", "ce-time": "2026-01-31T22:59:59.001Z",
	}, headers); diff != "" {
		t.Error(diff)
	}
	e.DataRef = "https://ringback.example.com/payloads/x"
	if got, err := e.Structured([]byte(`{}`)); err != nil || string(got) != attributes+`,"dataref":"https://ringback.example.com/payloads/x"}` {
		t.Errorf("got %s (%v)", got, err)
	}
}
