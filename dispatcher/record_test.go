package dispatcher

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/verdict"
)

func TestRecordsRoundTrip(t *testing.T) {
	text := "R 3 7 5 1731234567890 tok.en\n" + entry{Number: 7, Started: 1, Status: 503, Verdict: verdict.Retry, Reason: "status_503", Body: "a\nb"}.line()
	r, err := parseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	want := record{state: 'R', generation: 3, number: 7, spent: 5, at: 1731234567890, token: "tok.en", attempts: text[strings.Index(text, "\n"):]}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(record{})); diff != "" {
		t.Error(diff)
	}
	if e := parseEntries(r.attempts); len(e) != 1 || e[0].Body != "a\nb" {
		t.Errorf("entries: %+v", e)
	}
	for _, bad := range []string{"", "R", "R 1 2 3", "\n{}"} {
		if _, err := parseRecord(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestOnlyTheLastAnswersAreKept(t *testing.T) {
	log := ""
	for n := 1; n <= 150; n++ {
		log = appendEntry(log, entry{Number: n, Verdict: verdict.Retry, Reason: "status_500", Body: "sorry", Headers: map[string]string{"Server": "x"}})
	}
	entries := parseEntries(log)
	if len(entries) != keptEntries || entries[len(entries)-1].Number != 150 {
		t.Fatalf("%d entries, last %d", len(entries), entries[len(entries)-1].Number)
	}
	for i, e := range entries {
		if kept := e.Body != "" && e.Headers != nil; kept != (i >= len(entries)-keptAnswers) {
			t.Errorf("entry %d of %d: answer kept %t", i, len(entries), kept)
		}
	}
}

func TestWhatIsKeptOfAnAnswer(t *testing.T) {
	headers, body := keepAnswer(&egress.Response{Header: http.Header{
		"Content-Type": {"text/html"}, "Set-Cookie": {"session=canary"}, "Location": {"https://login.example/?token=canary"},
		"Server":           {strings.Repeat("s", 5000)},
		"Www-Authenticate": {`Bearer error="canary-token"`},
	}, Body: []byte("you sent canary-token" + strings.Repeat("\xff", 2000))}, blotter{"canary-token"})
	size := len(body)
	if strings.Contains(body, "canary") || !strings.HasPrefix(body, "you sent ***") {
		t.Errorf("the body keeps a secret: %s", body)
	}
	for name, value := range headers {
		size += len(name) + len(value)
		if strings.Contains(value, "canary") {
			t.Errorf("%s keeps a secret: %s", name, value)
		}
	}
	if headers["Content-Type"] != "text/html" || headers["Location"] != "https://login.example/" || headers["Set-Cookie"] != "" {
		t.Errorf("headers: %v", headers)
	}
	if size > answerSize {
		t.Errorf("%d bytes are kept", size)
	}
}
