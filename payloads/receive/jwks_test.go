package receive_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/payloads/receive"
)

// A publisher is the server that keys are fetched from. It may be used within one bubble.
type publisher struct {
	keys    []payloads.PublicKey
	control string
	broken  bool
	hold    chan struct{} // an answer waits for it
	fetched int
}

// RoundTrip answers as GET …/jwks.json does.
func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	p.fetched++
	if p.hold != nil {
		select {
		case <-p.hold:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if p.broken {
		return nil, errors.New("no route to host")
	}
	text, err := json.Marshal(payloads.JWKS(p.keys))
	if err != nil {
		return nil, err
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
	if p.control != "" {
		resp.Header.Set("Cache-Control", p.control)
	}
	resp.Body = readCloser{strings.NewReader(string(text))}
	return resp, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func pair() (payloads.SigningKey, payloads.PublicKey) {
	private := payloads.NewSigningKey()
	return private, private.Public()
}

func (p *publisher) jwks(t *testing.T) *receive.JWKS {
	t.Helper()
	keys, err := receive.NewJWKS("https://ringback.example/companies/acme/.well-known/jwks.json", &http.Client{Transport: p})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// signedBy is an attempt that the key pairs sign.
func (d *desk) signedBy(id string, at time.Time, pairs ...payloads.SigningKey) *http.Request {
	d.t.Helper()
	r := d.signed(id, sample, at, d.secret)
	signatures, err := payloads.SignEd25519(id, at, sample, pairs...)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Webhook-Signature", signatures)
	return r
}

func TestPublishedKeysVerify(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, first := pair()
		two, second := pair()
		p := &publisher{keys: []payloads.PublicKey{first}, control: "public, max-age=3600"}
		d := newDesk(t, receive.Config{Keys: p.jwks(t).Keys})
		const yes, no = http.StatusNoContent, http.StatusUnauthorized
		d.want("its key", d.signedBy("dlv_1", time.Now(), one), yes, "dlv_1")
		d.want("beside a strange one", d.signedBy("dlv_2", time.Now(), two, one), yes, "dlv_1", "dlv_2")
		d.want("six minutes old", d.signedBy("dlv_3", time.Now().Add(-6*time.Minute), one), no, "dlv_1", "dlv_2")
		d.want("six minutes ahead", d.signedBy("dlv_3", time.Now().Add(6*time.Minute), one), no, "dlv_1", "dlv_2")
		d.want("beyond the tenth signature", d.signedBy("dlv_3", time.Now(), append(slices.Repeat([]payloads.SigningKey{two}, 10), one)...), no, "dlv_1", "dlv_2")
		d.want("the symmetric scheme, which nothing is known for", d.signed("dlv_3", sample, time.Now(), d.secret), no, "dlv_1", "dlv_2")
		if p.fetched != 1 {
			t.Fatalf("fetched %d times within a minute", p.fetched)
		}

		// Another key pair takes its place: the first signature of it has the keys fetched anew, and strangers have them fetched once a minute.
		p.keys = []payloads.PublicKey{second}
		time.Sleep(time.Minute)
		d.want("the next key", d.signedBy("dlv_3", time.Now(), two), yes, "dlv_1", "dlv_2", "dlv_3")
		d.want("the key before", d.signedBy("dlv_4", time.Now(), one), no, "dlv_1", "dlv_2", "dlv_3")
		for range 100 {
			d.serve(d.signedBy("dlv_4", time.Now(), one))
		}
		if p.fetched != 2 {
			t.Errorf("fetched %d times, want 2", p.fetched)
		}
		time.Sleep(time.Hour)
		d.want("after max-age", d.signedBy("dlv_4", time.Now(), two), yes, "dlv_1", "dlv_2", "dlv_3", "dlv_4")
		if p.fetched != 3 {
			t.Errorf("fetched %d times, want 3", p.fetched)
		}
	})
}

// TestSecretsAndKeysTogether: either is enough, while a callback changes from one to the other.
func TestSecretsAndKeysTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, first := pair()
		two, _ := pair()
		p := &publisher{keys: []payloads.PublicKey{first}}
		d := newDesk(t, receive.Config{Keys: p.jwks(t).Keys, Secrets: []string{}})
		both := d.signedBy("dlv_3", time.Now(), two)
		both.Header.Add("Webhook-Signature", d.signed("dlv_3", sample, time.Now(), d.secret).Header.Get("Webhook-Signature"))
		d.want("a secret", d.signed("dlv_1", sample, time.Now(), d.secret), http.StatusNoContent, "dlv_1")
		d.want("a key", d.signedBy("dlv_2", time.Now(), one), http.StatusNoContent, "dlv_1", "dlv_2")
		d.want("a secret beside a strange key", both, http.StatusNoContent, "dlv_1", "dlv_2", "dlv_3")
		d.want("a strange key", d.signedBy("dlv_4", time.Now(), two), http.StatusUnauthorized, "dlv_1", "dlv_2", "dlv_3")
	})
}

// TestKeysThatCannotBeFetched: what cannot be verified comes again (503), known keys go on for an hour, and a fetch that hangs keeps nobody waiting.
func TestKeysThatCannotBeFetched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, first := pair()
		p := &publisher{broken: true, keys: []payloads.PublicKey{first}, control: "max-age=600"}
		keys := p.jwks(t)
		d := newDesk(t, receive.Config{Keys: keys.Keys})
		for range 10 {
			d.want("no keys yet", d.signedBy("dlv_1", time.Now(), one), http.StatusServiceUnavailable)
		}
		if p.fetched != 1 {
			t.Errorf("fetched %d times at once", p.fetched)
		}
		p.broken = false
		time.Sleep(5 * time.Second)
		d.want("there again", d.signedBy("dlv_1", time.Now(), one), http.StatusNoContent, "dlv_1")

		p.broken = true
		time.Sleep(11 * time.Minute)
		d.want("past their time", d.signedBy("dlv_2", time.Now(), one), http.StatusNoContent, "dlv_1", "dlv_2")
		p.hold = make(chan struct{})
		time.Sleep(5 * time.Second)
		go func() { _, _ = keys.Keys(t.Context(), false) }()
		synctest.Wait()
		before := time.Now()
		d.want("while a fetch hangs", d.signedBy("dlv_3", time.Now(), one), http.StatusNoContent, "dlv_1", "dlv_2", "dlv_3")
		if waited := time.Since(before); waited > 0 {
			t.Errorf("waited %s for a fetch", waited)
		}
		impatient, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := keys.Keys(impatient, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one who waits for newer keys gets %v", err)
		}
		time.Sleep(10 * time.Second) // the fetch gives up
		p.hold = nil
		time.Sleep(time.Hour)
		d.want("an hour past their time", d.signedBy("dlv_4", time.Now(), one), http.StatusServiceUnavailable, "dlv_1", "dlv_2", "dlv_3")
	})
}

// TestKeysAreFetchedOnce however many ask at once.
func TestKeysAreFetchedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, first := pair()
		p := &publisher{keys: []payloads.PublicKey{first}, hold: make(chan struct{})}
		d := newDesk(t, receive.Config{Keys: p.jwks(t).Keys})
		statuses := make(chan int, 20)
		for i := range cap(statuses) {
			r := d.signedBy("dlv_"+strconv.Itoa(i), time.Now(), one)
			go func() { statuses <- d.serve(r).Code }()
		}
		synctest.Wait()
		close(p.hold)
		for range cap(statuses) {
			if got := <-statuses; got != http.StatusNoContent {
				t.Errorf("answered %d", got)
			}
		}
		if p.fetched != 1 {
			t.Errorf("fetched %d times", p.fetched)
		}
	})
}

// TestAFetchOutlivesItsCaller: a sender who hangs up does not take the keys from the others.
func TestAFetchOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, first := pair()
		p := &publisher{keys: []payloads.PublicKey{first}, hold: make(chan struct{})}
		keys := p.jwks(t)
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, _ = keys.Keys(ctx, false) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		close(p.hold)
		if got, err := keys.Keys(t.Context(), false); err != nil || len(got) != 1 || p.fetched != 1 {
			t.Errorf("%d keys, %v, fetched %d times", len(got), err, p.fetched)
		}
	})
}

func TestNewJWKSRefusesNonsense(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]bool{
		"https://ringback.example/companies/acme/.well-known/jwks.json": true, "http://127.0.0.1:8080/jwks.json": true, "http://localhost/jwks.json": true, "http://[::1]/jwks.json": true,
		"": false, "jwks.json": false, "http://ringback.example/jwks.json": false, "ftp://ringback.example/": false, "https://key@ringback.example/": false, "https://%zz/": false,
	} {
		if _, err := receive.NewJWKS(at, nil); (err == nil) != want {
			t.Errorf("%q: %v", at, err)
		}
	}
}

func TestMaxAge(t *testing.T) {
	t.Parallel()
	for control, want := range map[string]time.Duration{
		"": time.Hour, "max-age=300": 5 * time.Minute, "public, Max-Age=\"300\"": 5 * time.Minute, "max-age=1": time.Minute, "max-age=99999999": 24 * time.Hour,
		"max-age=-1": time.Hour, "no-store, max-age=300": time.Minute,
	} {
		if got := receive.MaxAge(http.Header{"Cache-Control": {control}}); got != want {
			t.Errorf("%q: %s, want %s", control, got, want)
		}
	}
}
