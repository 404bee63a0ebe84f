package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher"
)

// TestListsAreFollowed: a list command prints all that there is, over pages, as one table or one document; with --limit so much, and how to go on.
func TestListsAreFollowed(t *testing.T) {
	t.Parallel()
	const events = dispatcher.MaxLimit + 40
	dev := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0")
	env := []string{"RINGBACK_SERVER=" + dev.await(`API +(http://\S+)`)[1], "RINGBACK_KEY=dev", "RINGBACK_COMPANY=acme"}
	dev.await(`msg=ready`)
	ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", "http://127.0.0.1:1/")
	ringback(t, env, "callbacks", "pause", "1")
	var text strings.Builder
	for i := range events {
		_, _ = fmt.Fprintf(&text, `{"event_type":"payment_proof","event_id":"e-%d","payload":{"requestId":"%d","status":"OK"}}`+"\n", i, i)
	}
	ringback(t, env, "events", "send", eventsFile(t, text.String()))

	table := ringback(t, env, "deliveries", "list")
	if n := strings.Count(table, "dlv_"); n != events || strings.Count(table, "ACCEPTED") != 1 {
		t.Errorf("%d rows of %d, %d headers", n, events, strings.Count(table, "ACCEPTED"))
	}
	if n := strings.Count(ringback(t, env, "deliveries", "list", "--state", "dead,held", "--callback", "1"), "dlv_"); n != events {
		t.Errorf("%d rows of %d by filter", n, events)
	}
	if n := len(listedDocument(t, ringback(t, env, "deliveries", "list", "-o", "json"))); n != events {
		t.Errorf("%d entries of %d in the document", n, events)
	}

	const part = dispatcher.MaxLimit + 10
	stdout, stderr, code := try(t, env, "deliveries", "list", "--limit", fmt.Sprint(part), "-o", "json")
	first, more := listedDocument(t, stdout), regexp.MustCompile(`there is more: add --cursor (\S+)\n`).FindStringSubmatch(stderr)
	if code != exitOK || len(first) != part || more == nil || !strings.Contains(stdout, more[1]) {
		t.Fatalf("exit %d, %d entries, %q", code, len(first), stderr)
	}
	seen := map[string]bool{}
	for _, d := range append(first, listedDocument(t, ringback(t, env, "deliveries", "list", "--cursor", more[1], "-o", "json"))...) {
		seen[d.DeliveryID] = true
	}
	if len(seen) != events {
		t.Errorf("%d of %d after going on", len(seen), events)
	}
	if stdout, stderr, code := try(t, env, "deliveries", "list", "--limit", "3"); code != exitOK || strings.Count(stdout, "dlv_") != 3 || !strings.Contains(stderr, "--cursor") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}

type listedDelivery struct {
	DeliveryID string `json:"delivery_id"`
}

func listedDocument(t *testing.T, doc string) []listedDelivery {
	t.Helper()
	var list struct{ Deliveries []listedDelivery }
	if err := json.Unmarshal([]byte(doc), &list); err != nil {
		t.Fatal(err)
	}
	return list.Deliveries
}

// TestPagesMakeOneDocument: what stands before the entries is the first page's, what stands behind them the last one's, in the form of a single page.
func TestPagesMakeOneDocument(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pages []string
		want  string
	}{
		"one":       {[]string{`{"a":{"b":[1]},"list":[{"x":1},[2,3]],"next_cursor":"n"}`}, `{"a":{"b":[1]},"list":[{"x":1},[2,3]],"next_cursor":"n"}`},
		"several":   {[]string{`{"a":1,"list":[1],"next_cursor":"m"}`, `{"a":2,"list":[]}`, `{"a":3,"list":[2,{"y":"ü"}],"next_cursor":"n"}`}, `{"a":1,"list":[1,2,{"y":"ü"}],"next_cursor":"n"}`},
		"empty":     {[]string{`{"list":[]}`}, `{"list":[]}`},
		"two empty": {[]string{`{"list":[],"next_cursor":"m"}`, `{"list":[],"z":true}`}, `{"list":[],"z":true}`},
	} {
		var got, want bytes.Buffer
		l := jsonList{w: &got, member: "list"}
		for i, page := range tt.pages {
			if err := l.page(json.RawMessage(page), i == 0, i == len(tt.pages)-1); err != nil {
				t.Fatal(err)
			}
		}
		if err := (printer{w: &want}).raw(json.RawMessage(tt.want)); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() {
			t.Errorf("%s: %s\nwant %s", name, &got, &want)
		}
	}
	if err := (&jsonList{w: os.Stderr, member: "list"}).page(json.RawMessage(`<html>`), true, true); err == nil {
		t.Error("a page of HTML is taken")
	}
}
