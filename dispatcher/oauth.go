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

// send encodes, signs, sends and judges. The request has a callback.
func (a *attempt) send(ctx context.Context, by *sender) (s sent) {
	start := time.Now()
	defer func() { s.took, s.keeps = time.Since(start), by.keeps }()
	if a.wantsToken() {
		return a.postWithToken(ctx, by)
	}
	return a.post(ctx, by, "")
}

// postWithToken gets an access token and posts with it, all within the request's timeout. A partner that refuses a token that was good, or is
// old, has probably revoked it: then the request is made once more with a new one, in the same attempt.
func (a *attempt) postWithToken(ctx context.Context, by *sender) (s sent) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	for again := true; ; again = false {
		token, err := a.getToken(ctx, by)
		if err != nil {
			return s.withoutToken(err)
		}
		s = a.post(ctx, by, token.Reveal())
		switch {
		case s.response == nil:
			return s
		case s.response.Status != http.StatusUnauthorized:
			token.Worked()
			return s
		case !token.Refused() || !again || s.Verdict == verdict.Delivered:
			return s
		}
	}
}

// getToken gets a token, and notes in the attempt's span if that took a fetch.
func (a *attempt) getToken(ctx context.Context, by *sender) (*egress.Token, error) {
	auth := a.callback.Auth
	token, waited, err := by.tokens.Get(ctx, egress.Owner{Company: a.ref.Company, Callback: a.ref.Callback}, egress.ClientCredentials{
		TokenURL: auth.TokenURL, ClientID: auth.ClientID, ClientSecret: auth.ClientSecret, Scopes: auth.Scopes, Audience: auth.Audience,
		Identity: identityOf(a.callback.TokenTLS()),
	})
	if waited > 0 {
		trace.SpanFromContext(ctx).AddEvent("oauth2.token", trace.WithAttributes(
			attribute.Float64("ringback.duration_ms", float64(waited)/float64(time.Millisecond))))
	}
	return token, err
}

// withoutToken is what came of a request that got no token. If the partner had refused one before, that answer was not the last word.
func (s sent) withoutToken(err error) sent {
	s.Judgement = verdict.JudgeError(err)
	s.Unconnected = false // the token server is another destination
	if s.response != nil && s.Reason == verdict.ReasonOAuthToken {
		s.Note = "the partner refused the token it had (401), and " + s.Note
	}
	s.response, s.timing = nil, egress.Timing{}
	return s
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
			detail = egress.ForOperators(detail)
			log.WarnContext(ctx, "oauth2 token not fetched", append(args, "detail", detail)...)
			return
		}
		log.InfoContext(ctx, "oauth2 token fetched", args...)
	}
}
