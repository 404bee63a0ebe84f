package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

// The pages of deploy/contracts: one for each contract, the recipe for another one, and which page is whose.
const (
	walletPage    = "deploy/contracts/WALLET.md"
	paymentPage   = "deploy/contracts/PAYMENT_PROOF.md"
	loyaltyPage   = "deploy/contracts/LOYALTY.md"
	entryCodePage = "deploy/contracts/ENTRY_CODE.md"
	newPage       = "deploy/contracts/NEW.md"
	indexPage     = "deploy/contracts/README.md"
)

var contractPages = []string{walletPage, paymentPage, loyaltyPage, entryCodePage, newPage, indexPage}

// formFields is what the wallet's page calls the fields it shows of a form.
const formFields = "fields.txt"

// filesInUse are the files of a contract's page that something looks at: a command that names them, or the tests here.
func filesInUse(text string) []string {
	var commands strings.Builder
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(m[2], " terminal=") {
			commands.WriteString(m[3])
		}
	}
	var files []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		name, isFile := strings.CutPrefix(m[2], " file=")
		if isFile && (m[1] == "http" || name == formFields || strings.Contains(commands.String(), name)) {
			files = append(files, name)
		}
	}
	return files
}

// TestContractPages follows each contract's page at a desk of its own. Whatever arrives passes by a tap, and the requests that the
// page shows are compared with it.
func TestContractPages(t *testing.T) {
	t.Parallel()
	for _, name := range []string{walletPage, paymentPage, loyaltyPage, entryCodePage} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			text := page(t, name)
			if strings.Contains(text, "npm install") {
				mustHave(t, "npm")
			}
			d, seen := followContract(t, text)
			pictures := 0
			for _, m := range fence.FindAllStringSubmatch(text, -1) {
				if m[1] == "http" {
					pictures++
					checkPicture(t, text, m[3], seen)
				}
			}
			if pictures == 0 {
				t.Error("the page shows no request as it stands on the wire")
			}
			switch name {
			case entryCodePage:
				checkDecisions(t, d, text)
			case paymentPage:
				if got := seen.find(t, "proof-2", "1").request.Header.Get("Authorization"); got != "Bearer "+freshToken {
					t.Errorf("with oauth2, Authorization is %q", got)
				}
			case loyaltyPage:
				seen.find(t, "update-2", "1") // was held
				for _, n := range []string{"3", "2"} {
					if got := seen.findBatch(t, n).request.Header; got.Get("X-Proof-Of-Origin") != "what-only-we-know" {
						t.Errorf("a batch came without the header of one's own: %v", got)
					}
				}
			case walletPage:
				checkForm(t, snippet(t, text, formFields), seen)
			}
		})
	}
}

// followContract follows a page with `ringback dev` on its port 8080 and, on its port 9000, a tap before where `ringback listen` is.
func followContract(t *testing.T, text string) (*desk, *tap) {
	t.Helper()
	listener := freePort(t)
	seen := &tap{to: &url.URL{Scheme: "http", Host: "127.0.0.1:" + listener}}
	before := httptest.NewServer(seen)
	t.Cleanup(before.Close)
	server := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +http://(\S+)`)[1]
	ports := map[string]string{"8080": port(t, server), "9000": port(t, strings.TrimPrefix(before.URL, "http://")), "9001": freePort(t), "9002": tokenEndpoint(t)}
	d := newPlace(t, "RINGBACK_SERVER=http://"+server, "RINGBACK_RECEIVER_LISTEN=127.0.0.1:"+listener,
		"npm_config_audit=false", "npm_config_fund=false", "npm_config_prefer_offline=true")
	text = withPorts(t, text, ports)
	d.writeFiles(text)
	d.follow(text)
	return d, seen
}

// freshToken is what the token endpoint gives out.
const freshToken = "fresh-1"

// tokenEndpoint is the identity provider of the page on payment proofs. It returns its port.
func tokenEndpoint(t *testing.T) string {
	t.Helper()
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		id, secret, _ := r.BasicAuth()
		if r.FormValue("grant_type") != "client_credentials" || id != "ringback" || secret != "CLIENT_SECRET" ||
			r.FormValue("scope") != "payments.write" || r.FormValue("audience") != "https://partner.example" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error": "invalid_client"}`)
			return
		}
		_, _ = io.WriteString(w, `{"access_token": "`+freshToken+`", "token_type": "Bearer", "expires_in": 300}`)
	}))
	t.Cleanup(provider.Close)
	return port(t, strings.TrimPrefix(provider.URL, "http://"))
}

// own are headers that differ from request to request, or with the machine.
var own = []string{"User-Agent", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"}

// checkPicture compares a request that the page shows with the one that came: its first line, its headers, all of them, and its body.
// A picture without a body means that of the file with the type's name.
func checkPicture(t *testing.T, text, picture string, seen *tap) {
	t.Helper()
	want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(strings.TrimSuffix(picture, "\n"), "\n", "\r\n") + "\r\n\r\n")))
	if err != nil {
		t.Fatalf("%v:\n%s", err, picture)
	}
	eventType := want.Header.Get("Ringback-Event-Type")
	_, body, _ := strings.Cut(strings.TrimSpace(picture), "\n\n")
	if body == "" {
		body = strings.TrimSpace(snippet(t, text, eventType+".json"))
	}
	var got tapped
	if n := want.Header.Get("Ringback-Batch"); n != "" {
		got = seen.findBatch(t, n)
	} else {
		got = seen.find(t, want.Header.Get("Ringback-Event-Id"), want.Header.Get("Ringback-Attempt"))
	}
	if got.request.Method != want.Method || got.request.RequestURI != want.RequestURI {
		t.Errorf("it came as %s %s, and the page says %s %s", got.request.Method, got.request.RequestURI, want.Method, want.RequestURI)
	}
	for name := range got.request.Header {
		if want.Header.Get(name) == "" && name != "Accept-Encoding" {
			t.Errorf("%s is sent, and the page's %s does not say so", name, eventType)
		}
	}
	for name := range want.Header {
		is, shown := got.request.Header.Get(name), want.Header.Get(name)
		if is == "" || is != shown && !slices.Contains(own, name) {
			t.Errorf("%s of %s is %q, and the page says %q", name, eventType, is, shown)
		}
	}
	if diff := cmp.Diff(settled(t, eventType, body), settled(t, eventType, string(got.body))); diff != "" {
		t.Errorf("the body of %s (-page +request):\n%s", eventType, diff)
	}
}

// checkForm: each field that the page shows is one of the form that came.
func checkForm(t *testing.T, shown string, seen *tap) {
	t.Helper()
	got := seen.find(t, "removed-2", "1")
	form, err := url.ParseQuery(string(got.body))
	if err != nil || got.request.Header.Get("Content-Type") != payloads.ContentTypeForm {
		t.Fatalf("%v, and it is %s", err, got.request.Header.Get("Content-Type"))
	}
	for line := range strings.Lines(shown) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if !form.Has(name) || form.Get(name) != value {
			t.Errorf("the page shows %s=%s, and the form has %q", name, value, form[name])
		}
	}
}

// settled is a body without what Ringback writes into it on every attempt.
func settled(t *testing.T, eventType, body string) string {
	t.Helper()
	if eventType == "" { // a batch
		return body
	}
	typ, ok := payloads.Builtin().Lookup(eventType)
	if !ok {
		t.Fatalf("there is no type %s", eventType)
	}
	if typ.Stamp == "" {
		return body
	}
	return regexp.MustCompile(`("`+strings.TrimPrefix(typ.Stamp, "/")+`": )"[^"]*"`).ReplaceAllString(body, "$1(when it was sent)")
}

// find waits for the request of an attempt at an event.
func (p *tap) find(t *testing.T, event, attempt string) tapped {
	t.Helper()
	return p.await(t, "attempt "+attempt+" at event "+event, func(h http.Header) bool {
		return h.Get("Ringback-Event-Id") == event && h.Get("Ringback-Attempt") == attempt
	})
}

// findBatch waits for a batch of so many events.
func (p *tap) findBatch(t *testing.T, events string) tapped {
	t.Helper()
	return p.await(t, "a batch of "+events, func(h http.Header) bool { return h.Get("Ringback-Batch") == events })
}

// await waits for a request with such headers.
func (p *tap) await(t *testing.T, what string, fits func(http.Header) bool) tapped {
	t.Helper()
	deadline := time.After(patience)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		p.mu.Lock()
		seen := slices.Clone(p.seen)
		p.mu.Unlock()
		for _, s := range seen {
			if fits(s.request.Header) {
				return s
			}
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%s never came", what)
		}
	}
}

// checkDecisions: each status that the page tells askers of was the answer to somebody, here or in the page's terminal.
func checkDecisions(t *testing.T, d *desk, text string) {
	t.Helper()
	asked := d.terminal("1")
	asked.paste(`echo '{"entryCode": "jane"}' | RINGBACK_COMPANY=nobody ringback events ask --type entry_code.verify --payload - || true`)
	for _, row := range rows(t, text, "status") {
		if row[0] == "200" {
			asked.await(`callback 3 answered 200`)
			continue
		}
		asked.await(`ringback: .* \(` + regexp.QuoteMeta(row[0]) + `\)`)
	}
}

// TestContractPagesShowTheSamples: a file with a type's name is the sample of the contract's document, or the type's example where the
// document has none.
func TestContractPagesShowTheSamples(t *testing.T) {
	t.Parallel()
	shown := 0
	for _, name := range contractPages {
		for _, m := range fence.FindAllStringSubmatch(page(t, name), -1) {
			file, _ := strings.CutPrefix(m[2], " file=")
			typ, known := payloads.Builtin().Lookup(strings.TrimSuffix(file, ".json"))
			if !known {
				continue
			}
			shown++
			var want, got any
			if err := json.Unmarshal(payloadOf(t, typ.Name), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(m[3]), &got); err != nil {
				t.Fatalf("%s, %s: %v", name, file, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s is not the document's sample (-sample +page):\n%s", name, file, diff)
			}
		}
	}
	if shown < 4 {
		t.Errorf("only %d samples are shown", shown)
	}
}

// TestContractPagesNameEveryType: who reads the page learns which types there are.
func TestContractPagesNameEveryType(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{walletPage: "wallet", paymentPage: "payment_proof", loyaltyPage: "loyalty", entryCodePage: "entry_code"} {
		text, err := os.ReadFile(filepath.Join(root, "payloads", "contracts", file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var contract struct{ Types map[string]json.RawMessage }
		if err := json.Unmarshal(text, &contract); err != nil {
			t.Fatal(err)
		}
		for typ := range contract.Types {
			if !strings.Contains(page(t, name), "`"+typ+"`") {
				t.Errorf("%s does not name %s", name, typ)
			}
		}
	}
}

// TestNewContractPage is somebody who adds a contract by the recipe, in a copy of the repository.
func TestNewContractPage(t *testing.T) {
	t.Parallel()
	ports := map[string]string{"8080": freePort(t), "9000": freePort(t)}
	d := newDesk(t, ports)
	flags, err := exec.Command("go", "env", "GOFLAGS").Output()
	if err != nil {
		t.Fatal(err)
	}
	// What was compiled once is compiled for every copy, wherever it lies.
	d.env = append(d.env, "GOFLAGS="+strings.TrimSpace(string(flags)+" -trimpath"))
	text := withPorts(t, page(t, newPage), ports)
	d.writeFiles(text)
	d.build()
	d.run("go", "test", "-run", "^$", "./payloads")
	d.follow(text)
	d.terminal("1").press(syscall.SIGINT)
	d.terminal("1").await(`msg=stopped`)
}

// TestNewContractPageMembers: the page explains every member that a type in a file may have.
func TestNewContractPageMembers(t *testing.T) {
	t.Parallel()
	var want, got []string
	full, err := json.Marshal(payloads.Type{
		Description: "d", Schema: []byte("{}"), Example: []byte("{}"), Match: map[string]string{"a": "/a"}, MatchBlocks: []string{"b"},
		Success: payloads.Any2xx, Validation: payloads.Warn, Stamp: "/s", Synchronous: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(full, &members); err != nil {
		t.Fatal(err)
	}
	for name := range members {
		want = append(want, name)
	}
	for _, row := range rows(t, page(t, newPage), "member") {
		got = append(got, strings.Trim(row[0], "`"))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members (-there are +explained):\n%s", diff)
	}
}

// TestNewContractPageMessages makes each of the faults in the page's own example.
func TestNewContractPageMessages(t *testing.T) {
	t.Parallel()
	text := page(t, newPage)
	for _, row := range rows(t, text, "you wrote") {
		fault, message := strings.Trim(row[0], "`"), strings.Trim(row[1], "`")
		var contract struct{ Types map[string]payloads.Type }
		if err := json.Unmarshal([]byte(snippet(t, text, "payloads/contracts/parking.json")), &contract); err != nil {
			t.Fatal(err)
		}
		typ := contract.Types["parking.left"]
		typ.Name = "parking.left"
		if _, err := payloads.NewCatalogue(typ); err != nil {
			t.Fatalf("the example itself is not sound: %v", err)
		}
		if err := json.NewDecoder(bytes.NewReader([]byte("{" + fault + "}"))).Decode(&typ); err != nil {
			t.Fatalf("%s: %v", fault, err)
		}
		if _, err := payloads.NewCatalogue(typ); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s\nsays    %v\nthe page %s", fault, err, message)
		}
	}
}
