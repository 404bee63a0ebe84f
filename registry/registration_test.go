package registry

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

// refusing is an address policy that refuses one host.
func refusing(host string) func(string) error {
	return func(u string) error {
		if host != "" && strings.Contains(u, host) {
			return errors.New("must not point inside")
		}
		return nil
	}
}

func TestDecodeRefuses(t *testing.T) {
	const ok = `"destination":{"url":"https://x.example/"}`
	many := strings.Builder{}
	for i := range 21 {
		fmt.Fprintf(&many, `,"X-%d":"v"`, i)
	}
	tests := []struct{ name, body, want string }{
		{"not an object", `[1]`, "body must be an object, but is an array"},
		{"null", `null`, "body must be an object, but is null"},
		{"no type", `{` + ok + `}`, "body.callback_type is missing"},
		{"no destination", `{"callback_type":"payment_proof"}`, "body.destination is missing"},
		{"unknown type", `{"callback_type":"nope",` + ok + `}`, "body.callback_type names no such type; none is near, and GET /callback-types lists all; an operator adds one with `ringback types put`"},
		{"type no string", `{"callback_type":7,` + ok + `}`, "body.callback_type must be a string, but is a number"},
		{"bad type name", `{"callback_type":"a b",` + ok + `}`, "body.callback_type must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or .."},
		{"bad glob", `{"callback_type":"a b*",` + ok + `}`, "body.callback_type must be a glob"},
		{"long glob", `{"callback_type":"` + strings.Repeat("*", 65) + `",` + ok + `}`, "body.callback_type must be a glob"},
		{"alias differs", `{"callback_type":"wallet_item_install","event_type":"payment_proof",` + ok + `}`, "body.event_type is the deprecated alias"},
		{"alias unknown", `{"event_type":"nope",` + ok + `}`, "body.event_type names no such type"},
		{"block with a glob", `{"callback_type":"wallet_*","wallet_item_install":{"campaign_token":"x"},` + ok + `}`, "body.wallet_item_install narrows the match for one type"},
		{"block named as the glob", `{"callback_type":"customer.*","customer.*":{"a":"b"},` + ok + `}`, `body["customer.*"] narrows the match for one type`},
		{"block named as the star", `{"callback_type":"*","*":{},` + ok + `}`, `body["*"] narrows the match for one type`},
		{"member twice", `{"callback_type":"*","callback_type":"*",` + ok + `}`, "body.callback_type is given twice: which one is meant?"},
		{"member twice, escaped", `{"trace":true,"\u0074race":false,"callback_type":"*",` + ok + `}`, "body.trace is given twice"},
		{"inner member twice", `{"callback_type":"*","auth":{"type":"bearer","token":"SECRET","token":"SECRET2"},` + ok + `}`, "body.auth.token is given twice"},
		{"header twice, spelt the same", `{"callback_type":"*","headers":{"X-A":"SECRET","X-A":"SECRET"},` + ok + `}`, "body.headers.X-A is given twice"},
		{"other type's block", `{"callback_type":"payment_proof","wallet_item_install":{},` + ok + `}`, "body.wallet_item_install does not go with callback_type payment_proof"},
		{"both wallet blocks", `{"callback_type":"wallet_item_install","wallet_item_install":{},"wallet_item_remove":{},` + ok + `}`, "give one block only"},
		{"unknown attribute", `{"callback_type":"wallet_item_install","wallet_item_install":{"campaign":"x"},` + ok + `}`, "body.wallet_item_install.campaign is not an attribute"},
		{"attribute no string", `{"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":1},` + ok + `}`, "body.wallet_item_install.campaign_token must be a string"},
		{"attribute empty", `{"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":""},` + ok + `}`, "body.wallet_item_install.campaign_token must have 1 to"},
		{"attribute null", `{"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":null},` + ok + `}`, "body.wallet_item_install.campaign_token must have 1 to"},
		{"block no object", `{"callback_type":"wallet_item_install","wallet_item_install":"x",` + ok + `}`, "body.wallet_item_install must be an object, but is a string"},
		{"no url", `{"callback_type":"*","destination":{}}`, "body.destination.url is missing"},
		{"url no string", `{"callback_type":"*","destination":{"url":["SECRET"]}}`, "body.destination.url must be a string, but is an array"},
		{"url relative", `{"callback_type":"*","destination":{"url":"/SECRET"}}`, "body.destination.url must be an absolute"},
		{"url scheme", `{"callback_type":"*","destination":{"url":"ftp://SECRET/"}}`, "body.destination.url must be an absolute"},
		{"url broken", `{"callback_type":"*","destination":{"url":"https://SECRET:x:y/%zz"}}`, "body.destination.url must be an absolute"},
		{"url ends in percent", `{"callback_type":"*","destination":{"url":"https://x/SECRET/100%"}}`, "body.destination.url has a % without two hex digits after it: write %25"},
		{"url escape", `{"callback_type":"*","destination":{"url":"https://x/SECRET%zz"}}`, "body.destination.url has a % without"},
		{"url control", `{"callback_type":"*","destination":{"url":"https://x/SECRET\n"}}`, "body.destination.url must not hold control characters"},
		{"url delete", `{"callback_type":"*","destination":{"url":"https://x/\u007fSECRET"}}`, "body.destination.url must not hold control characters"},
		{"url long", `{"callback_type":"*","destination":{"url":"https://x/` + strings.Repeat("S", 2048) + `"}}`, "body.destination.url must have at most 2048 bytes"},
		{"url user", `{"callback_type":"*","destination":{"url":"https://SECRET:SECRET@x/"}}`, "body.destination.url must not hold user info"},
		{"url fragment", `{"callback_type":"*","destination":{"url":"https://x/#SECRET"}}`, "body.destination.url must not hold a fragment"},
		{"url empty fragment", `{"callback_type":"*","destination":{"url":"https://x/#"}}`, "body.destination.url must not hold a fragment"},
		{"url policy", `{"callback_type":"*","destination":{"url":"https://inside/SECRET"}}`, "body.destination.url must not point inside"},
		{"method", `{"callback_type":"*","destination":{"url":"https://x","method":"GET"}}`, "body.destination.method must be POST or PUT or PATCH"},
		{"content type", `{"callback_type":"*","destination":{"url":"https://x","content_type":"text/xml"}}`, "body.destination.content_type must be"},
		{"destination member", `{"callback_type":"*","destination":{"url":"https://x","headers":{}}}`, "body.destination.headers is not known here"},
		{"unknown member", `{"callback_type":"*","colour":"SECRET",` + ok + `}`, "body.colour is not known: a registration has"},
		{"odd member", `{"callback_type":"*","a.b\n":1,` + ok + `}`, `body["a.b\n"] is not known`},
		{"read-only member", `{"callback_type":"*","callback_id":1,` + ok + `}`, "body.callback_id is set by Ringback"},
		{"url at the top", `{"callback_type":"*","url":"https://SECRET",` + ok + `}`, "the URL to call is destination.url"},
		{"own secret", `{"callback_type":"*","secret":"SECRET",` + ok + `}`, "body.secret cannot sign: a signing secret is whsec_ and the base64 of 24 to 64 bytes"},
		{"health member", `{"callback_type":"*","pending":1,` + ok + `}`, "body.pending is set by Ringback"},
		{"description", `{"callback_type":"*","description":"` + strings.Repeat("x", 1025) + `",` + ok + `}`, "body.description must have at most"},
		{"start date", `{"callback_type":"*","start_date":"tomorrow",` + ok + `}`, "body.start_date must be a time"},
		{"start date far", `{"callback_type":"*","start_date":"9999-12-31T23:59:59-10:00",` + ok + `}`, "body.start_date must be a time"},
		{"trace", `{"callback_type":"*","trace":"yes",` + ok + `}`, "body.trace must be true or false"},
		{"success", `{"callback_type":"*","success":"2xx",` + ok + `}`, "body.success must be"},
		{"timeout number", `{"callback_type":"*","timeout":15,` + ok + `}`, "body.timeout must be a string"},
		{"timeout short", `{"callback_type":"*","timeout":"999ms",` + ok + `}`, "body.timeout must be a duration"},
		{"timeout long", `{"callback_type":"*","timeout":"61s",` + ok + `}`, "from 1s to 60s"},
		{"interval", `{"callback_type":"*","retry":{"initial_interval":"0s"},` + ok + `}`, "body.retry.initial_interval must be a duration"},
		{"interval huge", `{"callback_type":"*","retry":{"max_interval":"9999999h"},` + ok + `}`, "body.retry.max_interval must be a duration"},
		{"intervals crossed", `{"callback_type":"*","retry":{"initial_interval":"10s","max_interval":"5s"},` + ok + `}`, "body.retry.max_interval must not be less"},
		{"multiplier", `{"callback_type":"*","retry":{"multiplier":10.1},` + ok + `}`, "body.retry.multiplier must be"},
		{"multiplier absurd", `{"callback_type":"*","retry":{"multiplier":1e999},` + ok + `}`, "body.retry.multiplier must be"},
		{"attempts", `{"callback_type":"*","retry":{"max_attempts":0},` + ok + `}`, "body.retry.max_attempts must be"},
		{"attempts many", `{"callback_type":"*","retry":{"max_attempts":101},` + ok + `}`, "body.retry.max_attempts must be"},
		{"attempts broken", `{"callback_type":"*","retry":{"max_attempts":1.5},` + ok + `}`, "body.retry.max_attempts must be"},
		{"retry member", `{"callback_type":"*","retry":{"attempts":3},` + ok + `}`, "body.retry.attempts is not known here"},
		{"rate limit no object", `{"callback_type":"*","rate_limit":50,` + ok + `}`, "body.rate_limit must be an object, but is a number"},
		{"rate missing", `{"callback_type":"*","rate_limit":{"burst":1},` + ok + `}`, "body.rate_limit.per_second is missing: give a number from 0.01 to 10000"},
		{"rate null", `{"callback_type":"*","rate_limit":{"per_second":null},` + ok + `}`, "body.rate_limit.per_second is missing"},
		{"rate low", `{"callback_type":"*","rate_limit":{"per_second":0.0099},` + ok + `}`, "body.rate_limit.per_second must be a number from 0.01 to 10000"},
		{"rate high", `{"callback_type":"*","rate_limit":{"per_second":10000.1},` + ok + `}`, "body.rate_limit.per_second must be"},
		{"rate absurd", `{"callback_type":"*","rate_limit":{"per_second":1e999},` + ok + `}`, "body.rate_limit.per_second must be"},
		{"rate as text", `{"callback_type":"*","rate_limit":{"per_second":"50"},` + ok + `}`, "body.rate_limit.per_second must be"},
		{"burst none", `{"callback_type":"*","rate_limit":{"per_second":1,"burst":0},` + ok + `}`, "body.rate_limit.burst must be a whole number from 1 to 10000"},
		{"burst high", `{"callback_type":"*","rate_limit":{"per_second":1,"burst":10001},` + ok + `}`, "body.rate_limit.burst must be"},
		{"burst broken", `{"callback_type":"*","rate_limit":{"per_second":1,"burst":1.5},` + ok + `}`, "body.rate_limit.burst must be"},
		{"rate limit member", `{"callback_type":"*","rate_limit":{"per_second":1,"per_minute":2},` + ok + `}`, "body.rate_limit.per_minute is not known here: there are per_second, burst"},
		{"auth kind", `{"callback_type":"*","auth":{"type":"digest"},` + ok + `}`, "body.auth.type must be bearer, basic or oauth2"},
		{"auth no kind", `{"callback_type":"*","auth":{"token":"SECRET"},` + ok + `}`, "body.auth.type is missing"},
		{"oauth2 without URL", `{"callback_type":"*","auth":{"type":"oauth2","client_id":"a","client_secret":"SECRET"},` + ok + `}`, "body.auth.token_url is missing"},
		{"oauth2 without client", oauth2(`"token_url":"https://x","client_secret":"SECRET"`), "body.auth.client_id is missing"},
		{"oauth2 without secret", oauth2(`"token_url":"https://x","client_id":"SECRET"`), "body.auth.client_secret is missing"},
		{"oauth2 empty secret", oauth2(`"token_url":"https://x","client_id":"SECRET","client_secret":""`), "body.auth.client_secret is missing"},
		{"oauth2 hidden secret", oauth2(`"token_url":"https://x","client_id":"SECRET","client_secret":"***"`), "body.auth.client_secret must be the secret itself"},
		{"oauth2 secret of two lines", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET\n"`), "body.auth.client_secret must have"},
		{"oauth2 secret no string", oauth2(`"token_url":"https://x","client_id":"a","client_secret":["SECRET"]`), "body.auth.client_secret must be a string, but is an array"},
		{"oauth2 URL no string", oauth2(`"token_url":{},"client_id":"a","client_secret":"SECRET"`), "body.auth.token_url must be a string"},
		{"oauth2 URL relative", oauth2(`"token_url":"SECRET/token","client_id":"a","client_secret":"s"`), "body.auth.token_url must be an absolute"},
		{"oauth2 URL inside", oauth2(`"token_url":"https://inside/SECRET","client_id":"a","client_secret":"s"`), "body.auth.token_url must not point inside"},
		{"oauth2 URL with user", oauth2(`"token_url":"https://u:SECRET@x/","client_id":"a","client_secret":"s"`), "body.auth.token_url must not hold user info"},
		{"oauth2 URL long", oauth2(`"token_url":"https://x/` + strings.Repeat("a", 2048) + `","client_id":"a","client_secret":"s"`), "body.auth.token_url must have at most"},
		{"oauth2 audience", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET","audience":"` + strings.Repeat("a", 2049) + `"`), "body.auth.audience must have at most"},
		{"oauth2 scope with space", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET","scopes":["a","SECRET b"]`), "body.auth.scopes[1] must be visible"},
		{"oauth2 scope with quote", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET","scopes":["SECRET\""]`), "body.auth.scopes[0] must be visible"},
		{"oauth2 empty scope", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET","scopes":["a",null]`), "body.auth.scopes[1] must be visible"},
		{"oauth2 scopes as text", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET","scopes":"SECRET b"`), "body.auth.scopes must be a list"},
		{"oauth2 many scopes", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET","scopes":["a"` + strings.Repeat(`,"a"`, 50) + `]`), "body.auth.scopes must be at most 50"},
		{"oauth2 long scopes", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET","scopes":["` + strings.Repeat("a", 2049) + `"]`), "body.auth.scopes must be at most"},
		{"oauth2 leftovers", oauth2(`"token_url":"https://x","client_id":"a","client_secret":"SECRET","token":"SECRET"`), "body.auth.token is not known here"},
		{"no token", `{"callback_type":"*","auth":{"type":"bearer"},` + ok + `}`, "body.auth.token must be"},
		{"token with space", `{"callback_type":"*","auth":{"type":"bearer","token":"SECRET TOKEN"},` + ok + `}`, "body.auth.token must be"},
		{"hidden token", `{"callback_type":"*","auth":{"type":"bearer","token":"***"},` + ok + `}`, "body.auth.token must be the secret itself"},
		{"hidden password", `{"callback_type":"*","auth":{"type":"basic","username":"u","password":"***"},` + ok + `}`, "body.auth.password must be the secret itself"},
		{"token no string", `{"callback_type":"*","auth":{"type":"bearer","token":1},` + ok + `}`, "body.auth.token must be a string"},
		{"user with colon", `{"callback_type":"*","auth":{"type":"basic","username":"a:b","password":"SECRET"},` + ok + `}`, "body.auth.username must have"},
		{"no user", `{"callback_type":"*","auth":{"type":"basic","password":"SECRET"},` + ok + `}`, "body.auth.username is missing"},
		{"password", `{"callback_type":"*","auth":{"type":"basic","username":"a","password":"SECRET\n"},` + ok + `}`, "body.auth.password must have"},
		{"auth leftovers", `{"callback_type":"*","auth":{"type":"bearer","token":"t","password":"SECRET"},` + ok + `}`, "body.auth.password is not known here"},
		{"header value", `{"callback_type":"*","headers":{"X-A":"SECRET\r\nX: y"},` + ok + `}`, "body.headers.X-A must hold visible ASCII"},
		{"header value space", `{"callback_type":"*","headers":{"X-A":" SECRET"},` + ok + `}`, "body.headers.X-A must hold visible ASCII"},
		{"header value kind", `{"callback_type":"*","headers":{"X-A":["SECRET"]},` + ok + `}`, "body.headers.X-A must be a string"},
		{"hidden header", `{"callback_type":"*","headers":{"X-A":"***"},` + ok + `}`, "body.headers.X-A must be the secret itself"},
		{"header twice for a receiver that takes _ for -", `{"callback_type":"*","headers":{"X-A":"1","x_a":"2"},` + ok + `}`, "stands twice"},
		{"header twice", `{"callback_type":"*","headers":{"X-A":"1","x-a":"2"},` + ok + `}`, "stands twice"},
		{"headers many", `{"callback_type":"*","headers":{` + many.String()[1:] + `},` + ok + `}`, "body.headers must be at most 20"},
		{"headers large", `{"callback_type":"*","headers":{"X-A":"` + strings.Repeat("S", 4096) + `"},` + ok + `}`, "body.headers must have at most 4096 bytes"},
		{"authorization twice", `{"callback_type":"*","auth":{"type":"bearer","token":"t"},"headers":{"authorization":"SECRET"},` + ok + `}`, "body.headers.authorization is set by auth"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decode(payloads.Builtin(), refusing("inside"), []byte(tt.body), nil)
			invalid, ok := errors.AsType[*payloads.InvalidError](err)
			if !ok || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got  %v\nwant %s", err, tt.want)
			}
			if text, _ := json.Marshal(invalid.Fields); strings.Contains(string(text), "SECRET") {
				t.Errorf("the error repeats a secret: %s", text)
			}
			if len(invalid.Fields) != 1 {
				t.Errorf("one fault is reported %d times: %v", len(invalid.Fields), err)
			}
		})
	}
}

// TestMembersAreThoseThatAreRead: what is listed as a registration's member is read as one, and every member that is read or shown is listed.
func TestMembersAreThoseThatAreRead(t *testing.T) {
	unknown := func(name string) bool {
		_, err := decode(payloads.Builtin(), refusing(""), fmt.Appendf(nil, `{%q:null}`, name), nil)
		return strings.Contains(fmt.Sprint(err), at("body", name)+" is not known: a registration has")
	}
	if !unknown("colour") {
		t.Error("a member that there is not is read")
	}
	shownSettings := slices.DeleteFunc(slices.Clone(settable), func(name string) bool { return name == "secret" })
	for _, name := range append(slices.Clone(settable), aliasOfType) {
		if unknown(name) {
			t.Errorf("%s is listed, and not read", name)
		}
	}
	narrow, err := decode(payloads.Builtin(), refusing(""), []byte(`{"callback_type":"*","destination":{"url":"https://x"},"filter":{"pointer":"/a","op":"exists"},"template":{"kind":"x"}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	full := &Callback{
		Type: "*", Description: "d", StartDateGiven: true, Headers: map[string]string{"X-A": "1"}, Auth: &Auth{}, TLS: &TLS{ServerName: "x.example"}, Success: payloads.Any2xx, RateLimit: &RateLimit{}, HeaderStyle: payloads.StyleSvix, Filter: narrow.Filter, Template: narrow.Template, Envelope: EnvelopeStructured, Body: BodyThin, Batch: &Batch{}, Ordering: &Ordering{}, Signature: &Signature{HMAC: true, Ed25519: true},
		Status: Disabled, DisabledReason: "gone", UnverifiedReason: "timeout", StatusAt: time.Now(),
	}
	editable, err := full.editable()
	if err != nil {
		t.Fatal(err)
	}
	given := slices.Sorted(maps.Keys(parseAny(editable).(map[string]any)))
	if diff := cmp.Diff(slices.Sorted(slices.Values(shownSettings)), given); diff != "" {
		t.Errorf("settable (-listed +there):\n%s", diff)
	}
	shown, err := full.render("whsec_x")
	if err != nil {
		t.Fatal(err)
	}
	listed := memberNames()
	for name := range parseAny(shown).(map[string]any) {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is shown, and not listed", name)
		}
	}
	for _, typ := range payloads.Builtin().Types() {
		for _, name := range slices.Concat(blockNames(typ), []string{typ.Name}) {
			if slices.Contains(listed, name) {
				t.Errorf("%s has a block %s, which is a member", typ.Name, name)
			}
		}
	}
}

func TestDecodeReportsEveryFault(t *testing.T) {
	_, err := decode(payloads.Builtin(), refusing(""), []byte(`{"callback_type":"nope","timeout":"1h","x":1,"destination":{"url":"x","method":"GET"}}`), nil)
	invalid, ok := errors.AsType[*payloads.InvalidError](err)
	if !ok {
		t.Fatal(err)
	}
	var got []string
	for _, f := range invalid.Fields {
		got = append(got, f.Location)
	}
	want := []string{"body.callback_type", "body.destination.method", "body.destination.url", "body.timeout", "body.x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefusesBadJSON(t *testing.T) {
	for _, body := range []string{"", " ", "{", `{"a":1}{}`, `{"a":1} x`, "SECRET", strings.Repeat("[", 20000)} {
		if _, err := decode(payloads.Builtin(), refusing(""), []byte(body), nil); !errors.Is(err, ErrBadJSON) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%.20q: %v", body, err)
		}
	}
}

// The place is that of the fault in the whole body, counted from 1.
func TestSyntaxErrorsNameTheByte(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":{"b":[1,]}}`:                 "at byte 14: invalid character ']'",
		`{"callback_type":"*",}`:           "at byte 22:",
		`{"a":1} x`:                        "at byte 9:",
		`nope`:                             "at byte 2:",
		`{"a":"é"`:                         "it ends too early, after byte 9",
		``:                                 "it ends too early, after byte 0",
		"{\"a\":\"\xff\"}":                 "it is not UTF-8 text",
		"{\"callback_type\":\"\xc3\x28\"}": "it is not UTF-8 text",
	} {
		policy := refusing("")
		_, decodeErr := decode(payloads.Builtin(), policy, []byte(body), nil)
		_, patchErr := applyPatch(payloads.Builtin(), policy, &Callback{Type: "*"}, []byte(body))
		visitErr := Members([]byte(body), func(string, json.RawMessage) string { return "" })
		for _, err := range []error{decodeErr, patchErr, visitErr} {
			if !errors.Is(err, ErrBadJSON) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %s", body, err, want)
			}
		}
	}
}

func TestMembers(t *testing.T) {
	var got []string
	visit := func(name string, value json.RawMessage) string {
		got = append(got, name+"="+string(value))
		if name == "bad" {
			return "is bad"
		}
		return ""
	}
	if err := Members([]byte(" {\"a\" : { \"x\":1,\"x\" : 2 } ,\"\\u0062\":[1E+2]}\n"), visit); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{`a={ "x":1,"x" : 2 }`, "b=[1E+2]"}, got); diff != "" {
		t.Error(diff)
	}
	for body, want := range map[string]string{
		`{"a":1,"bad":2,"a":3}`: "body.bad is bad; body.a is given twice: which one is meant?",
		` [1]`:                  "body must be a JSON object, but is an array",
		`null`:                  "body must be a JSON object, but is null",
	} {
		if err := Members([]byte(body), visit); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func TestPatchesAreReadAsStrictly(t *testing.T) {
	cb := &Callback{
		Type: "*", Destination: Destination{URL: "https://x", Method: "POST", ContentType: DefaultContentType},
		Auth: &Auth{Type: AuthBasic, Username: "u"}, Timeout: DefaultTimeout, Retry: Retry{DefaultInitialInterval, DefaultMultiplier, DefaultMaxInterval, DefaultMaxAttempts},
	}
	for patch, want := range map[string]string{
		`{"description":"a","description":"b"}`:        "body.description is given twice: which one is meant?",
		`{"timeout":null,"timeout":"9s"}`:              "body.timeout is given twice",
		`{"retry":{"multiplier":2,"multiplier":3}}`:    "body.retry.multiplier is given twice",
		`{"headers":{"X-A":"1","X-A":"2"},"status":7}`: "body.headers.X-A is given twice",
		`{"*":{"a":"b"}}`:                              `body["*"] narrows the match for one type`,
		`{"auth":{"password":"***"}}`:                  "body.auth.password must be the secret itself",
	} {
		_, err := applyPatch(payloads.Builtin(), refusing(""), cb, []byte(patch))
		if _, ok := errors.AsType[*payloads.InvalidError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", patch, err, want)
		}
	}
}

func TestOnlyAPasswordThatIsSetIsMasked(t *testing.T) {
	for auth, shown := range map[string]string{
		`{"type":"basic","username":"u"}`:                `{"type":"basic","username":"u"}`,
		`{"type":"basic","username":"u","password":""}`:  `{"type":"basic","username":"u"}`,
		`{"type":"basic","username":"u","password":"p"}`: `{"type":"basic","username":"u","password":"***"}`,
		`{"type":"bearer","token":"t"}`:                  `{"type":"bearer","token":"***"}`,
		`{"scopes":[],"client_secret":"s","client_id":"c","token_url":"https://x/?a","type":"oauth2","audience":""}`: `{"type":"oauth2","token_url":"https://x/?a","client_id":"c","client_secret":"***"}`,
	} {
		cb, err := decode(payloads.Builtin(), refusing(""), fmt.Appendf(nil, `{"callback_type":"*","destination":{"url":"https://x"},"auth":%s}`, auth), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := cb.MarshalJSON()
		if err != nil || !strings.Contains(string(text), `"auth":`+shown) {
			t.Errorf("%s is shown in %s, %v", auth, text, err)
		}
	}
}

// TestWhatWasRegisteredOnceStays: a callback from before a host or a header name was refused can be changed in all else, and goes on as it is.
func TestWhatWasRegisteredOnceStays(t *testing.T) {
	policy := refusing("receiver")
	const then = `{"callback_type": "*", "destination": {"url": "http://receiver/hook"}, "auth": {"type": "oauth2", "token_url": "http://receiver/token", "client_id": "me", "client_secret": "s"}}`
	old, err := decode(payloads.Builtin(), nil, []byte(then), nil)
	if err != nil {
		t.Fatal(err)
	}
	old.Headers = map[string]string{"X-Forwarded-For": "10.1.2.3", "X_Real_IP": "10.1.2.3", "X-Own": "1", "X-Two": "2", "X_Two": "2"}
	if got := old.TakenHeaders(); !slices.Equal(got, []string{"X-Forwarded-For", "X_Real_IP"}) {
		t.Errorf("the headers that could not be registered now are %q", got)
	}
	for patch, refused := range map[string]string{
		`{"description": "new"}`:                                 "",
		`{"headers": {"X-Own": "2"}}`:                            "",
		`{"headers": {"x-forwarded-for": "10.3.2.1"}}`:           "",
		`{"headers": {"X_Real_IP": null}}`:                       "",
		`{"destination": {"url": "http://receiver/hook"}}`:       "",
		`{"destination": {"url": "http://receiver/other"}}`:      "body.destination.url",
		`{"auth": {"token_url": "http://receiver/other"}}`:       "body.auth.token_url",
		`{"headers": {"X-Forwarded-Host": "a"}}`:                 "body.headers.X-Forwarded-Host",
		`{"headers": {"X-Real-IP": "10.1.2.3"}}`:                 "body.headers.X-Real-IP",
		`{"headers": {"X_Own": "1"}}`:                            "body.headers.X_Own",
		`{"headers": {"X_Two": "3"}}`:                            "",
		`{"headers": {"Authorization": "Bearer x"}}`:             "body.headers.Authorization",
		`{"headers": {"X-Forwarded-For": null, "Metadata": ""}}`: "body.headers.Metadata",
	} {
		next, err := applyPatch(payloads.Builtin(), policy, old, []byte(patch))
		if refused == "" && (err != nil || next.Headers["X-Forwarded-For"] == "") {
			t.Errorf("%s: %v", patch, err)
		}
		if refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
			t.Errorf("%s: %v, want a complaint about %s", patch, err, refused)
		}
	}
}

// FuzzHeaders registers two headers. A header that passes goes out as it is. No receiver can take it for one that a callback may not set, nor one
// of the two for the other.
func FuzzHeaders(f *testing.F) {
	for name := range ownHeaders {
		f.Add(name, strings.ReplaceAll(strings.ToLower(name), "-", "_"), "v")
	}
	for _, prefix := range ownPrefixes {
		f.Add("X-"+prefix, strings.ToUpper(prefix)+"x", "v")
	}
	f.Add("X-A", "x_a", "1")
	f.Add("X-A", "X-B", " \t")
	f.Add("a\r\nHost", "\u212aeep-Alive", "a\r\nb: c") // the Kelvin sign folds to k
	f.Fuzz(func(t *testing.T, one, two, value string) {
		given, err := json.Marshal(map[string]any{"callback_type": "*", "destination": map[string]any{"url": "https://partner.example/"}, "headers": map[string]string{one: value, two: value}})
		if err != nil {
			t.Fatal(err)
		}
		cb, err := decode(payloads.Builtin(), nil, given, nil)
		if err != nil {
			return
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://partner.example/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		folded := map[string]bool{}
		for name, value := range cb.Headers {
			fold := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
			if folded[fold] {
				t.Errorf("%q stands twice in %q", name, cb.Headers)
			}
			folded[fold] = true
			for own := range ownHeaders {
				if fold == strings.ToLower(own) {
					t.Errorf("%q passed for %s", name, own)
				}
			}
			for _, prefix := range ownPrefixes {
				if strings.HasPrefix(fold, strings.ToLower(prefix)) {
					t.Errorf("%q passed for %s", name, prefix)
				}
			}
			req.Header.Set(name, value)
		}
		var sent bytes.Buffer
		if err := req.Write(&sent); err != nil {
			t.Fatal(err)
		}
		read, err := http.ReadRequest(bufio.NewReader(&sent))
		if err != nil {
			t.Fatalf("%q goes out as what no server reads: %v", cb.Headers, err)
		}
		for name := range read.Header {
			ours := slices.Contains([]string{"User-Agent", "Content-Length", "Cache-Control"}, name) // net/http's; the last one by its reader
			if !ours && !slices.ContainsFunc(slices.Collect(maps.Keys(cb.Headers)), func(n string) bool { return strings.EqualFold(n, name) }) {
				t.Errorf("%q arrives, and %q went out", name, cb.Headers)
			}
		}
		for name, value := range cb.Headers {
			if got := read.Header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%s: %q arrives as %q", name, value, got)
			}
		}
	})
}

func TestHeaderNames(t *testing.T) {
	refused := []string{
		"", " ", "a b", "a:b", "a\r\nb", "é", "a/b", "(x)", "Host", "hOsT", "Content-Length", "transfer-encoding", "Connection", "TE", "Trailer", "Upgrade", "Expect", "Keep-Alive",
		"Proxy-Authorization", "proxy-connection", "Webhook-Id", "webhook-signature", "WEBHOOK-anything", "Ringback-Attempt", "Idempotency-Key", "x-idempotency-key", "Cookie", "Content-Type", "User-Agent",
		"X-Forwarded-For", "x-forwarded-host", "X-Forwarded", "Forwarded", "X-Real-IP", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL",
		"Metadata-Flavor", "Metadata", "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds", "X-Google-Metadata-Request",
		"X_Forwarded_For", "x_real-ip", "content_length", "Transfer_Encoding", "Webhook_Id", "metadata_flavor", "X_aws_ec2_metadata_token", "Proxy_Authorization",
	}
	for _, name := range refused {
		if why := refuseHeader(name, false); why == "" {
			t.Errorf("%q was taken", name)
		}
	}
	for _, name := range []string{"X-Api-Key", "authorization", "x", "A_b.c~1", "Accept", "Webhooks", "X-Forward", "X-Metadata", "Metadata-Version"} {
		if why := refuseHeader(name, false); why != "" {
			t.Errorf("%q %s", name, why)
		}
	}
	for name := range ownHeaders { // they are looked up in canonical form
		if refuseHeader(strings.ToUpper(name), false) == "" {
			t.Errorf("%q in capitals was taken", name)
		}
	}
}

func TestDurationsAreWrittenShortly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "1s", 90 * time.Second: "90s", time.Minute: "60s", 2 * time.Minute: "2m", 12 * time.Hour: "12h", 90 * time.Minute: "1h30m",
		time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s", 0: "0s", 20 * time.Minute: "20m", 10 * time.Hour: "10h",
	} {
		got := formatDuration(d)
		back, err := time.ParseDuration(got)
		if got != want || err != nil || back != d {
			t.Errorf("%v is written %q, want %q, and read %v, %v", d, got, want, back, err)
		}
	}
}

func TestRetryDefaultsGiveWay(t *testing.T) {
	for retry, want := range map[string]Retry{
		`{}`:                                      {5 * time.Second, 2.5, 12 * time.Hour, 15},
		`{"max_interval":"2s"}`:                   {2 * time.Second, 2.5, 2 * time.Second, 15},
		`{"initial_interval":"24h"}`:              {24 * time.Hour, 2.5, 24 * time.Hour, 15},
		`{"multiplier":1,"max_attempts":1}`:       {5 * time.Second, 1, 12 * time.Hour, 1},
		`{"multiplier":null,"max_interval":null}`: {5 * time.Second, 2.5, 12 * time.Hour, 15},
	} {
		cb, err := decode(payloads.Builtin(), refusing(""), fmt.Appendf(nil, `{"callback_type":"*","destination":{"url":"https://x"},"retry":%s}`, retry), nil)
		if err != nil || cb.Retry != want {
			t.Errorf("%s: %+v, %v", retry, cb, err)
		}
	}
}

func TestRateLimitsAreReadAndWritten(t *testing.T) {
	for limit, want := range map[string]string{
		`null`:                              "",
		`{"per_second":50}`:                 "50 50",
		`{"per_second":50,"burst":null}`:    "50 50",
		`{"per_second":50,"burst":100}`:     "50 100",
		`{"per_second":0.01}`:               "0.01 1",
		`{"per_second":2.5}`:                "2.5 3",
		`{"per_second":1e4}`:                "10000 10000",
		`{"per_second":10000,"burst":1}`:    "10000 1",
		`{"per_second":0.3333333333333333}`: "0.3333333333333333 1",
	} {
		cb, err := decode(payloads.Builtin(), refusing(""), fmt.Appendf(nil, `{"callback_type":"*","destination":{"url":"https://x"},"rate_limit":%s}`, limit), nil)
		if err != nil || cb.RateLimit.String() != want {
			t.Errorf("%s: %v, %v, want %q", limit, cb.RateLimit, err, want)
		}
	}
}

func TestMergeFollowsRFC7396(t *testing.T) {
	// The examples of appendix A.
	for _, tt := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		got, err := json.Marshal(merge(parseAny([]byte(tt[0])), parseAny([]byte(tt[1]))))
		if err != nil || string(got) != tt[2] {
			t.Errorf("%s merged into %s gives %s, want %s (%v)", tt[1], tt[0], got, tt[2], err)
		}
	}
}

func TestGatesReadBack(t *testing.T) {
	g := Gate{Status: Disabled, Reason: "gone", At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	if back, err := ParseGate(g.String()); err != nil || back != g {
		t.Errorf("%+v, %v", back, err)
	}
	if open, err := ParseGate(""); err != nil || open != (Gate{Status: Enabled}) {
		t.Errorf("%+v, %v", open, err)
	}
	for _, bad := range []string{"x", "{}", `{"status":"enabled"}`, `{"status":1}`, "null"} {
		if _, err := ParseGate(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// Each registration that is accepted can be shown. The answer can be registered
// again, but for the members that only an answer has and the secrets that it hides. A
// refusal is explained without the secrets.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"callback_type":"wallet_item_install","event_type":"wallet_item_install","wallet_item_install":{"campaign_token":"r3zhm8"},"destination":{"url":"https://x.example/?a=<&b","method":"POST","content_type":"application/json"}}`,
		`{"event_type":"wallet_item_remove","wallet_item_install":{},"destination":{"url":"HTTP://x:8080"}}`,
		`{"callback_type":"customer.*","destination":{"url":"https://x","method":"PUT","content_type":"application/x-www-form-urlencoded"},"description":"é\u2028","start_date":"2030-01-31T12:00:00.123456789+02:00","headers":{"X-Origin":"v","x-two":""},"auth":{"type":"basic","username":"u","password":""},"success":"any_2xx","trace":true,"timeout":"1.5s","retry":{"initial_interval":"1s","multiplier":1.1,"max_interval":"90s","max_attempts":3}}`,
		`{"callback_type":"*","destination":{"url":"https://x"},"auth":{"type":"bearer","token":"t"},"timeout":null}`,
		`{"callback_type":"*","destination":{"url":"https://x"},"auth":{"type":"oauth2","token_url":"https://X/token?a=<&b","client_id":"c","client_secret":"s","scopes":["a","b"],"audience":"é"}}`,
		`{"callback_type":"*","destination":{"url":"https://x"},"rate_limit":{"per_second":0.1}}`,
		`{"callback_type":"nope","wallet_item_install":[],"destination":null,"headers":{"a":1},"auth":[],"retry":{"multiplier":"x"}}`,
		`null`, `[`, `{"":{}}`,
		`{"callback_type":"*","destination":{"url":"https://Bücher。example:８443/SECRET?\u00e9"}}`, `{"callback_type":"*","destination":{"url":"https://u:SECRET@x/"}}`, `{"callback_type":"*","destination":{"url":"https://x/%zzSECRET"}}`, `{"callback_type":"*","auth":{"type":"bearer","token":["SECRET"]}}`,
		`{"callback_type":"*","destination":{"url":"https://x"},"auth":{"type":"bearer","token":"SECRET \n","x":1},"headers":{"Host":"a","X-A":5}}`,
		`{"callback_type":"*","destination":{"url":"https://x"},"auth":{"type":"basic","username":"a:b","password":"SECRET\u0000"}}`,
		`{"callback_type":"*","destination":{"url":"https://x"},"headers":{"X-A":" SECRET","x-a":"***"},"auth":{"type":"digest","password":"b"},"timeout":5}`,
	} {
		f.Add(seed)
	}
	policy := refusing("")
	f.Fuzz(func(t *testing.T, body string) {
		cb, err := decode(payloads.Builtin(), policy, []byte(body), nil)
		if err != nil {
			invalid, ok := errors.AsType[*payloads.InvalidError](err)
			if !ok && !errors.Is(err, ErrBadJSON) {
				t.Fatalf("%T %v", err, err)
			}
			explained, _ := json.Marshal(invalid)
			if hidesSecret(body) && strings.Contains(err.Error()+string(explained), "SECRET") {
				t.Fatalf("%s is explained with its secret: %v", body, err)
			}
			return
		}
		cb.Company, cb.ID = "acme", 1
		cb.CreatedAt = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		cb.UpdatedAt, cb.Status = cb.CreatedAt, Enabled
		if !cb.StartDateGiven {
			cb.StartDate = cb.CreatedAt
		}
		shown, err := cb.MarshalJSON()
		if err != nil || !json.Valid(shown) {
			t.Fatalf("%s: %v", shown, err)
		}

		again, err := decode(payloads.Builtin(), policy, asRegistration(t, cb, shown), nil)
		if err != nil {
			t.Fatalf("what is shown is refused: %v\n%s", err, shown)
		}
		again.Company, again.ID, again.CreatedAt, again.UpdatedAt, again.Status = cb.Company, cb.ID, cb.CreatedAt, cb.UpdatedAt, cb.Status
		if !cb.StartDateGiven {
			again.StartDate = cb.StartDate
		}
		if diff := cmp.Diff(cb, again, cmp.AllowUnexported(Callback{})); diff != "" {
			t.Fatalf("registered again it differs:\n%s", diff)
		}

		same, err := applyPatch(payloads.Builtin(), policy, cb, shown)
		if err != nil {
			t.Fatalf("what is shown is refused as a patch: %v\n%s", err, shown)
		}
		same.UpdatedAt, same.Status = cb.UpdatedAt, cb.Status
		if diff := cmp.Diff(cb, same, cmp.AllowUnexported(Callback{})); diff != "" {
			t.Fatalf("a patch that repeats what is shown changes it:\n%s", diff)
		}
	})
}

// asRegistration turns an answer into the registration it came from.
func asRegistration(t *testing.T, cb *Callback, shown []byte) []byte {
	t.Helper()
	doc := parseAny(shown).(map[string]any)
	maps.DeleteFunc(doc, func(name string, _ any) bool {
		return slices.Contains(slices.Collect(maps.Keys(readOnly)), name) || name == "start_date" && !cb.StartDateGiven
	})
	if headers, ok := doc["headers"].(map[string]any); ok {
		for name := range headers {
			headers[name] = cb.Headers[name]
		}
	}
	if auth, ok := doc["auth"].(map[string]any); ok {
		for name, secret := range map[string]string{"token": cb.Auth.Token, "password": cb.Auth.Password, "client_secret": cb.Auth.ClientSecret} {
			if auth[name] == Masked {
				auth[name] = secret
			}
		}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// oauth2 is a registration with these members in its auth.
func oauth2(members string) string {
	return `{"callback_type":"*","auth":{"type":"oauth2",` + members + `},"destination":{"url":"https://x"}}`
}

// A hidden client secret stays with the server it was given for: nobody can have it sent elsewhere by changing the rest.
func TestAHiddenClientSecretStaysWithItsServer(t *testing.T) {
	policy := refusing("")
	registered := func(url string) *Callback {
		cb, err := decode(payloads.Builtin(), policy, []byte(oauth2(`"token_url":"`+url+`","client_id":"c","client_secret":"SECRET"`)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return cb
	}
	for _, tt := range []struct {
		from, to string
		kept     bool
	}{
		{"https://id.example/token", "https://id.example/token", true},
		{"https://id.example/token", "https://ID.example:443/oauth2/token?v=2", true},
		{"http://id.example:80/", "http://id.example/", true},
		{"https://id.example:8443/a", "https://id.example:8443/b", true},
		{"https://id.example/token", "https://evil.example/token", false},
		{"https://id.example/token", "https://id.example.evil.example/token", false},
		{"https://id.example/token", "http://id.example/token", false},
		{"https://id.example/token", "https://id.example:8443/token", false},
	} {
		cb := registered(tt.from)
		for _, patch := range []string{`{"auth":{"token_url":"` + tt.to + `"}}`, `{"auth":{"token_url":"` + tt.to + `","client_secret":"***","client_id":"d","scopes":["x"]}}`} {
			next, err := applyPatch(payloads.Builtin(), policy, cb, []byte(patch))
			switch {
			case tt.kept && (err != nil || next.Auth.ClientSecret != "SECRET" || next.Auth.TokenURL != tt.to):
				t.Errorf("%s -> %s: %v", tt.from, tt.to, err)
			case !tt.kept && (err == nil || !strings.Contains(err.Error(), "body.auth.client_secret must be given anew") || strings.Contains(err.Error(), "SECRET")):
				t.Errorf("%s -> %s: %v", tt.from, tt.to, err)
			}
		}
		next, err := applyPatch(payloads.Builtin(), policy, cb, []byte(`{"auth":{"token_url":"`+tt.to+`","client_secret":"NEW"}}`))
		if err != nil || next.Auth.ClientSecret != "NEW" {
			t.Errorf("%s -> %s with a new secret: %v", tt.from, tt.to, err)
		}
	}
}

// hidesSecret reports whether body says SECRET once, and where a registration has a secret.
func hidesSecret(body string) bool {
	var doc struct {
		Destination struct{ URL any }
		Auth        struct{ Token, Password, ClientSecret any }
		Headers     map[string]any
	}
	if strings.Count(body, "SECRET") != 1 || json.Unmarshal([]byte(body), &doc) != nil {
		return false
	}
	said := fmt.Sprint(doc.Destination.URL, doc.Auth.Token, doc.Auth.Password, slices.Collect(maps.Values(doc.Headers)))
	return strings.Contains(said, "SECRET")
}

// TestHalvesOfPairsAreRefused: a value that would be kept as U+FFFD would match, or be sent, as another text.
func TestHalvesOfPairsAreRefused(t *testing.T) {
	for _, body := range []string{
		`{"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":"\ud800"},"destination":{"url":"https://x.example/"}}`,
		`{"callback_type":"*","description":"\udc00","destination":{"url":"https://x.example/"}}`,
	} {
		policy := refusing("")
		_, decodeErr := decode(payloads.Builtin(), policy, []byte(body), nil)
		_, patchErr := applyPatch(payloads.Builtin(), policy, &Callback{Type: "*"}, []byte(body))
		for _, err := range []error{decodeErr, patchErr} {
			if fault, ok := errors.AsType[*payloads.InvalidError](err); !ok || !strings.Contains(fault.Error(), "body holds half of a surrogate pair") {
				t.Errorf("%s: %v", body, err)
			}
		}
	}
}
