package dispatcher

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

func TestRecordsRoundTrip(t *testing.T) {
	text := "R 3 7 5 1731234567890 tok.en\n" + ledger.Entry{Number: 7, Started: 1, Status: 503, Verdict: verdict.Retry, Reason: "status_503", Body: "a\nb"}.Line()
	r, err := ledger.ParseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Record{State: 'R', Generation: 3, Number: 7, Spent: 5, At: 1731234567890, Token: "tok.en", Attempts: text[strings.Index(text, "\n"):]}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(ledger.Record{})); diff != "" {
		t.Error(diff)
	}
	if e := ledger.ParseEntries(r.Attempts); len(e) != 1 || e[0].Body != "a\nb" {
		t.Errorf("entries: %+v", e)
	}
	for _, bad := range []string{"", "R", "R 1 2 3", "\n{}"} {
		if _, err := ledger.ParseRecord(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestOnlyTheLastAnswersAreKept(t *testing.T) {
	log := ""
	for n := 1; n <= 150; n++ {
		log = ledger.AppendEntry(log, ledger.Entry{Number: n, Verdict: verdict.Retry, Reason: "status_500", Body: "sorry", Headers: map[string]string{"Server": "x"}})
	}
	entries := ledger.ParseEntries(log)
	if len(entries) != ledger.KeptEntries || entries[len(entries)-1].Number != 150 {
		t.Fatalf("%d entries, last %d", len(entries), entries[len(entries)-1].Number)
	}
	for i, e := range entries {
		if kept := e.Body != "" && e.Headers != nil; kept != (i >= len(entries)-ledger.KeptAnswers) {
			t.Errorf("entry %d of %d: answer kept %t", i, len(entries), kept)
		}
	}
}

func TestWhatIsKeptOfAnAnswer(t *testing.T) {
	headers, body := keepAnswer(&egress.Response{Header: http.Header{
		"Content-Type": {"text/html"}, "Set-Cookie": {"session=canary"}, "Location": {"https://login.example/?token=canary"},
		"Server":           {strings.Repeat("s", 5000)},
		"Www-Authenticate": {`Bearer error="canary-token"`},
	}, Body: []byte("you sent canary-token" + strings.Repeat("\xff", 2000))}, blotter{"canary-token"}, DefaultKeepAnswerBytes)
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
	if size > DefaultKeepAnswerBytes {
		t.Errorf("%d bytes are kept", size)
	}
}
