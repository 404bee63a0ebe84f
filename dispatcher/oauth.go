package dispatcher

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// postWithToken gets an access token and posts with it, all within the attempt's timeout. A partner that refuses a token that was good, or is
// old, has probably revoked it: then the request is made once more with a new one, in the same attempt.
func (a *attempt) postWithToken(ctx context.Context, s *sender) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	for again := true; ; again = false {
		token, err := a.getToken(ctx, s)
		if err != nil {
			a.withoutToken(err)
			return
		}
		a.accessToken = token.Reveal()
		a.post(ctx, s)
		switch {
		case a.response == nil:
			return
		case a.response.Status != http.StatusUnauthorized:
			token.Worked()
			return
		case !token.Refused() || !again || a.Verdict == verdict.Delivered:
			return
		}
	}
}

// getToken gets a token, and notes in the attempt's span if that took a fetch.
func (a *attempt) getToken(ctx context.Context, s *sender) (*egress.Token, error) {
	auth := a.callback.Auth
	token, waited, err := s.tokens.Get(ctx, egress.Owner{Company: a.ref.Company, Callback: a.ref.Callback}, egress.ClientCredentials{
		TokenURL: auth.TokenURL, ClientID: auth.ClientID, ClientSecret: auth.ClientSecret, Scopes: auth.Scopes, Audience: auth.Audience,
	})
	if waited > 0 {
		trace.SpanFromContext(ctx).AddEvent("oauth2.token", trace.WithAttributes(
			attribute.Float64("ringback.duration_ms", float64(waited)/float64(time.Millisecond))))
	}
	return token, err
}

// withoutToken judges an attempt that got no token. If the partner had refused one before, that answer was not the last word.
func (a *attempt) withoutToken(err error) {
	a.Judgement = verdict.JudgeError(err)
	a.Unconnected = false // the token server is another destination
	if a.response != nil && a.Reason == verdict.ReasonOAuthToken {
		a.Note = "the partner refused the token it had (401), and " + a.Note
	}
	a.response, a.timing = nil, egress.Timing{}
}

// wantsToken reports whether the callback's requests carry an access token.
func (a *attempt) wantsToken() bool {
	return a.callback.Auth != nil && a.callback.Auth.Type == registry.AuthOAuth2
}

// logFetched returns what logs the asking for tokens.
func logFetched(log *slog.Logger) func(ctx context.Context, f egress.Fetched) {
	return func(ctx context.Context, f egress.Fetched) {
		args := []any{"company", f.Owner.Company, "callback", f.Owner.Callback, "took", f.Took.Round(time.Microsecond).String()}
		if f.Err != nil {
			detail := f.Err.Detail
			if f.Err.Inside {
				_, detail = egress.Unmask(f.Err.Reason, detail)
			}
			log.WarnContext(ctx, "oauth2 token not fetched", append(args, "detail", detail)...)
			return
		}
		log.InfoContext(ctx, "oauth2 token fetched", args...)
	}
}

// send encodes, signs, sends and judges.
func (a *attempt) send(ctx context.Context, s *sender) {
	if a.callback == nil {
		return // finish finds the gate saying so
	}
	if a.unproven {
		a.Judgement = verdict.Judgement{Verdict: verdict.Retry, Reason: verdict.ReasonUnverified}
		return
	}
	start := time.Now()
	defer func() { a.took = time.Since(start) }()
	if a.wantsToken() {
		a.postWithToken(ctx, s)
		return
	}
	a.post(ctx, s)
}
