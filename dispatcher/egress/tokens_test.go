package egress

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestTokenRequest: what goes over the wire, with the credentials in either place; once it is known where they belong, nothing is tried twice.
func TestTokenRequest(t *testing.T) {
	for _, inBody := range []bool{false, true} {
		t.Run(fmt.Sprintf("in the body %t", inBody), func(t *testing.T) {
			endpoint := &issuer{inBody: inBody}
			var uri string
			tokens, creds, log := newTokens(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				uri = r.RequestURI
				endpoint.ServeHTTP(w, r)
			}))
			creds.Scopes, creds.Audience = []string{"a", "b:c"}, "https://api.example"
			first, waited, err := tokens.Get(t.Context(), someone, creds)
			if err != nil || first.Reveal() != "token-1" || waited <= 0 {
				t.Fatalf("%v after %s, %v", first, waited, err)
			}
			if again, waited, err := tokens.Get(t.Context(), someone, creds); err != nil || again != first || waited != 0 {
				t.Errorf("asked again: %v after %s, %v", again, waited, err)
			}
			probes := 1
			if inBody {
				probes = 2
			}
			if asked, _ := endpoint.counts(); asked != probes {
				t.Errorf("%d requests for the first token", asked)
			}
			first.got = first.got.Add(-time.Minute)
			if !first.Refused() {
				t.Error("an old token that is refused is kept")
			}
			if second := mustGet(t, tokens, someone, creds); second.Reveal() != "token-2" {
				t.Errorf("the second token is %s", second.Reveal())
			}
			if asked, issued := endpoint.counts(); asked != probes+1 || issued != 2 {
				t.Errorf("%d requests, %d tokens", asked, issued)
			}
			form, header := endpoint.forms[probes], endpoint.headers[probes]
			want := url.Values{"grant_type": {"client_credentials"}, "scope": {"a b:c"}, "audience": {"https://api.example"}}
			if inBody {
				maps.Copy(want, url.Values{"client_id": {"me"}, "client_secret": {tokenSecret}})
			}
			if form.Encode() != want.Encode() || (header.Get("Authorization") == "") != inBody {
				t.Errorf("form %v, header %v", form, header)
			}
			if header.Get("User-Agent") != "Ringback/test" || header.Get("Accept") != "application/json" || uri != "/a%2Fb?x=<y>" {
				t.Errorf("%s with %v", uri, header)
			}
			if len(log.all) != 2 || log.all[0].Owner != someone || log.all[0].Took <= 0 || log.all[1].Err != nil {
				t.Errorf("reported: %+v", log.all)
			}
		})
	}
	endpoint := &issuer{}
	tokens, creds, _ := newTokens(t, endpoint)
	token := mustGet(t, tokens, someone, creds)
	if said := fmt.Sprintf("%v %+v %v %+v", token, token, creds, &creds); strings.Contains(said, "token-1") || strings.Contains(said, tokenSecret) {
		t.Errorf("printed: %s", said)
	}
	if form := endpoint.forms[0]; form.Has("audience") || form.Has("scope") {
		t.Errorf("asked for what nobody wanted: %v", form)
	}
}

// TestEachOwnerHasItsOwnToken: whoever changes anything in the credentials gets another token, and so does another callback.
func TestEachOwnerHasItsOwnToken(t *testing.T) {
	endpoint := &issuer{answer: func(n int, w http.ResponseWriter, _ *http.Request) bool {
		tell(w, 200, map[string]any{"access_token": fmt.Sprint(n)})
		return true
	}}
	tokens, creds, _ := newTokens(t, endpoint)
	changed := map[string]func(*Owner, *ClientCredentials){
		"as it was": func(*Owner, *ClientCredentials) {},
		"company":   func(o *Owner, _ *ClientCredentials) { o.Company = "other" },
		"callback":  func(o *Owner, _ *ClientCredentials) { o.Callback = 2 },
		"URL":       func(_ *Owner, c *ClientCredentials) { c.TokenURL += "&z" },
		"client":    func(_ *Owner, c *ClientCredentials) { c.ClientID += "2" },
		"secret":    func(_ *Owner, c *ClientCredentials) { c.ClientSecret += "2" },
		"scopes":    func(_ *Owner, c *ClientCredentials) { c.Scopes = []string{"a"} },
		"audience":  func(_ *Owner, c *ClientCredentials) { c.Audience = "a" },
	}
	seen := map[string]string{}
	for range 2 {
		for name, change := range changed {
			owner, creds := someone, creds
			change(&owner, &creds)
			value := mustGet(t, tokens, owner, creds).Reveal()
			if before, known := seen[value]; known && before != name {
				t.Errorf("%q and %q share a token", before, name)
			}
			seen[value] = name
		}
	}
	if asked, _ := endpoint.counts(); asked != len(changed) {
		t.Errorf("%d tokens for %d", asked, len(changed))
	}
}

// TestTokenLife follows a token of 100 s through its life: fetched beside it from 80 s, not used from 95 s.
func TestTokenLife(t *testing.T) {
	broken := false
	endpoint := &issuer{life: 100}
	endpoint.answer = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		if broken {
			w.WriteHeader(503)
		}
		return broken
	}
	inTokenBubble(t, endpoint, func(t *testing.T, tokens *Tokens, creds ClientCredentials) {
		began := time.Now()
		want := func(at time.Duration, value string, asked int) {
			t.Helper()
			time.Sleep(time.Until(began.Add(at)))
			token, waited, err := tokens.Get(t.Context(), someone, creds)
			if err != nil || token.Reveal() != value || waited != 0 {
				t.Fatalf("at %s: %v after %s, %v", at, token, waited, err)
			}
			synctest.Wait()
			if n, _ := endpoint.counts(); n != asked {
				t.Fatalf("at %s: %d requests, want %d", at, n, asked)
			}
		}
		mustGet(t, tokens, someone, creds)
		want(79*time.Second, "token-1", 1)
		broken = true
		want(80*time.Second, "token-1", 2) // and 503
		want(80*time.Second+900*time.Millisecond, "token-1", 2)
		want(81*time.Second, "token-1", 3)
		want(94*time.Second, "token-1", 4)
		time.Sleep(2 * time.Second)
		if _, _, err := tokens.Get(t.Context(), someone, creds); err == nil || err.Error() != "oauth_token: the token endpoint answered 503" {
			t.Errorf("a token that is about to expire was given out: %v", err)
		}
		if _, _, err := tokens.Get(t.Context(), someone, creds); err == nil {
			t.Error("no error the second time")
		}
		if n, _ := endpoint.counts(); n != 5 {
			t.Errorf("%d requests: a failure was not remembered", n)
		}
		broken = false
		time.Sleep(time.Second)
		if token := mustGet(t, tokens, someone, creds); token.Reveal() != "token-2" {
			t.Errorf("mended, and got %s", token.Reveal())
		}
		// The refresh beside an old token: the old one is used meanwhile, the new one afterwards.
		time.Sleep(85 * time.Second)
		if token := mustGet(t, tokens, someone, creds); token.Reveal() != "token-2" {
			t.Errorf("at 85 s: %s", token.Reveal())
		}
		synctest.Wait()
		if token := mustGet(t, tokens, someone, creds); token.Reveal() != "token-3" {
			t.Errorf("after the refresh: %s", token.Reveal())
		}
	})
}

// TestATokenWithoutExpiryStays, until it is refused.
func TestATokenWithoutExpiryStays(t *testing.T) {
	endpoint := &issuer{}
	inTokenBubble(t, endpoint, func(t *testing.T, tokens *Tokens, creds ClientCredentials) {
		first := mustGet(t, tokens, someone, creds)
		for range 100 { // days, asked for every half hour
			time.Sleep(30 * time.Minute)
			if mustGet(t, tokens, someone, creds) != first {
				t.Fatal("it was fetched again")
			}
		}
		other := Owner{"acme", 2}
		for range 2 {
			time.Sleep(sourceIdle / 2)
			mustGet(t, tokens, other, creds)
		}
		if len(tokens.sources) != 1 || tokens.recent.Len() != 1 {
			t.Error("what nobody used for an hour is kept")
		}
	})
}

// TestWhichRefusalsCount: a brand-new token that never worked is not thrown away for a 401, nor is one after the other.
func TestWhichRefusalsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		worked := newToken("a", time.Now(), 0)
		worked.Worked()
		if !worked.Refused() || worked.usable(time.Now()) {
			t.Error("it had worked, and is kept")
		}
		fresh := newToken("b", time.Now(), 0)
		fresh.instead = true
		fresh.Worked()
		if fresh.Refused() {
			t.Error("one refused after the other, and given up")
		}
		time.Sleep(provenAge)
		if !fresh.Refused() || fresh.usable(time.Now()) {
			t.Error("it had worked for a while, and is kept")
		}
		doubtful := newToken("a", time.Now(), 0)
		time.Sleep(provenAge - 1)
		if doubtful.Refused() || !doubtful.usable(time.Now()) {
			t.Error("it never worked, and is given up while it is new")
		}
		time.Sleep(time.Nanosecond)
		if !doubtful.Refused() {
			t.Error("it never worked, and is kept for good")
		}
	})
}

// TestARevokedTokenCostsOneRefresh, however many deliveries have it in hand, and a late refusal does not throw the new one away.
func TestARevokedTokenCostsOneRefresh(t *testing.T) {
	endpoint := &issuer{}
	inTokenBubble(t, endpoint, func(t *testing.T, tokens *Tokens, creds ClientCredentials) {
		old := mustGet(t, tokens, someone, creds)
		old.Worked()
		time.Sleep(provenAge)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if !old.Refused() {
					t.Error("kept")
				}
				if token, _, err := tokens.Get(t.Context(), someone, creds); err != nil || token.Reveal() != "token-2" {
					t.Errorf("%v, %v", token, err)
				}
			})
		}
		wg.Wait()
		old.Refused()
		if token := mustGet(t, tokens, someone, creds); token.Reveal() != "token-2" {
			t.Errorf("a late refusal of the old token cost the new one: %s", token.Reveal())
		}
		if _, issued := endpoint.counts(); issued != 2 {
			t.Errorf("%d tokens", issued)
		}
	})
}

// TestWhoWaitsForAToken: one fetch for all; one who gives up leaves it to the others; and nobody waits longer than 10 s.
func TestWhoWaitsForAToken(t *testing.T) {
	release := make(chan struct{})
	endpoint := &issuer{answer: func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n == 1 {
			time.Sleep(3 * time.Second)
			return false
		}
		select { // silent
		case <-r.Context().Done():
		case <-release:
		}
		return true
	}}
	inTokenBubble(t, endpoint, func(t *testing.T, tokens *Tokens, creds ClientCredentials) {
		release = make(chan struct{})
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, waited, err := tokens.Get(ctx, someone, creds)
			if wantError(t, err, OAuth); waited != time.Second || !strings.Contains(err.Error(), "did not answer in time") {
				t.Errorf("%v after %s", err, waited)
			}
		})
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			context.AfterFunc(ctx, func() {})
			time.AfterFunc(2*time.Second, cancel)
			_, _, err := tokens.Get(ctx, someone, creds)
			wantError(t, err, Canceled)
		})
		for range 100 {
			wg.Go(func() {
				if token, waited, err := tokens.Get(t.Context(), someone, creds); err != nil || waited != 3*time.Second || token.Reveal() != "token-1" {
					t.Errorf("%v after %s, %v", token, waited, err)
				}
			})
		}
		wg.Wait()
		if asked, _ := endpoint.counts(); asked != 1 || time.Since(began) != 3*time.Second {
			t.Errorf("%d requests in %s", asked, time.Since(began))
		}

		other := Owner{"acme", 2}
		_, waited, err := tokens.Get(t.Context(), other, creds)
		if wantError(t, err, OAuth); waited != tokenTimeout {
			t.Errorf("%v after %s", err, waited)
		}

		closeWhileWaiting(t, tokens, creds)
		if token := mustGet(t, tokens, someone, creds); token.Reveal() != "token-1" {
			t.Error("a token that is there is kept from a closed house")
		}
		close(release)
	})
}

// closeWhileWaiting closes tokens under somebody who waits: that ends a fetch that hangs, and there is no other after it.
func closeWhileWaiting(t *testing.T, tokens *Tokens, creds ClientCredentials) {
	t.Helper()
	third := Owner{"acme", 3}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, err := tokens.Get(t.Context(), third, creds)
		wantError(t, err, Canceled)
	})
	synctest.Wait()
	tokens.Close()
	wg.Wait()
	_, _, err := tokens.Get(t.Context(), third, creds)
	wantError(t, err, Canceled)
}

// TestCloseWaitsForFetches, their report included.
func TestCloseWaitsForFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reported := false
		tokens := NewTokens(newClient(t, Config{}), "", func(context.Context, Fetched) {
			time.Sleep(time.Second)
			reported = true
		}, neverPanics(t))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _, err := tokens.Get(ctx, someone, ClientCredentials{TokenURL: "no URL"})
		wantError(t, err, OAuth)
		if tokens.Close(); !reported {
			t.Error("it did not wait")
		}
	})
}

// TestTokensAreBounded: the one that was not used for longest goes first.
func TestTokensAreBounded(t *testing.T) {
	tokens := NewTokens(newClient(t, Config{}), "", func(context.Context, Fetched) {}, neverPanics(t))
	t.Cleanup(tokens.Close)
	first := tokens.use(someone, ClientCredentials{}, time.Now())
	for n := range maxSources {
		tokens.use(Owner{"acme", int64(n + 10)}, ClientCredentials{}, time.Now())
		if n == maxSources/2 {
			tokens.use(someone, ClientCredentials{}, time.Now())
		}
	}
	if len(tokens.sources) != maxSources || tokens.recent.Len() != maxSources {
		t.Errorf("%d and %d are kept", len(tokens.sources), tokens.recent.Len())
	}
	if tokens.use(someone, ClientCredentials{}, time.Now()) != first {
		t.Error("one in use was forgotten")
	}
	if _, kept := tokens.sources[sourceKey{owner: Owner{"acme", 10}}]; kept {
		t.Error("the one that was not used for longest is kept")
	}
}

// TestOnlyAReplacementHasToProveItself: the first refusal of a token that worked is believed at once, that of the one in its place a second later.
func TestOnlyAReplacementHasToProveItself(t *testing.T) {
	tokens, creds, _ := newTokens(t, &issuer{})
	for want := range 3 {
		token := mustGet(t, tokens, Owner{"acme", 1}, creds)
		token.Worked()
		if refused := token.Refused(); refused != (want == 0) {
			t.Errorf("token %d: refused at once %t", want, refused)
		}
	}
}

// neverPanics is for Tokens that must not.
func neverPanics(t *testing.T) func(context.Context, any) {
	return func(_ context.Context, cause any) { t.Errorf("panicked: %v", cause) }
}

// TestAFetchThatPanicsHasFailed: whoever waits for its token hears so, and the process lives.
func TestAFetchThatPanicsHasFailed(t *testing.T) {
	var caught []any
	panicked := func(_ context.Context, cause any) { caught = append(caught, cause) }
	tokens := NewTokens(nil, "", func(context.Context, Fetched) { panic("while it reported") }, panicked)
	token, _, err := tokens.Get(t.Context(), Owner{}, ClientCredentials{TokenURL: "https://partner.example/token"})
	if e, ok := errors.AsType[*Error](err); token != nil || !ok || e.Reason != OAuth {
		t.Errorf("%v, %v", token, err)
	}
	tokens.Close()
	if len(caught) != 2 {
		t.Errorf("caught %v, want the request's and the report's", caught)
	}
}
