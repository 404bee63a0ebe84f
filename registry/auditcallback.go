package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// callbackLine is a line about how a callback changed: old is nil if it is new. The changes are sealed, as the callback is.
func callbackLine(ctx context.Context, keyset *Keyset, action string, old, next *Callback) (string, error) {
	plain, err := json.Marshal(changesOf(old, next))
	if err != nil {
		return "", fmt.Errorf("registry: write a line of the audit trail: %w", err)
	}
	sealed, err := keyset.seal(plain, auditPlace(next.Company))
	if err != nil {
		return "", err
	}
	return storedLine{Company: next.Company, Actor: Actor(ctx), Action: action, Object: CallbackObject(next.ID), Sealed: sealed}.String(), nil
}

func auditPlace(company string) string { return company + "/audit" }

// changesOf compares two callbacks, either of which may be nil, as the audit trail shows them. A changed secret is seen to change, and is not shown.
func changesOf(old, next *Callback) []AuditChange {
	before, after := auditFields(old), auditFields(next)
	if next != nil && next.SecretGiven || old != nil && next != nil { // a secret that creation made is no setting
		auditSecret(before, old)
		auditSecret(after, next)
	}
	return diff(before, after)
}

// auditSecret adds the newest signing secret of a callback, which may be nil.
func auditSecret(fields map[string]auditField, cb *Callback) {
	if cb != nil && len(cb.Secrets) > 0 {
		fields["secret"] = auditField{cb.Secrets[0].Secret.Reveal(), Masked}
	}
}

// auditFields are the settings of a callback by their paths.
func auditFields(cb *Callback) map[string]auditField {
	fields := map[string]auditField{}
	if cb == nil {
		return fields
	}
	doc, err := cb.editable()
	if err != nil { // a year beyond 9999
		return fields
	}
	flatten(fields, "", parseAny(doc))
	hide := func(name, real, shown string) {
		if _, there := fields[name]; there {
			fields[name] = auditField{real, shown}
		}
	}
	for name, value := range cb.Headers {
		hide("headers."+name, value, Masked)
	}
	if cb.TLS != nil {
		hide("tls.client_key", cb.TLS.ClientKey, Masked)
		if cert := cb.Certificate(); cert != nil {
			hide("tls.client_certificate", cb.TLS.ClientCertificate, cert.Subject+", until "+cert.NotAfter.Format(time.RFC3339)+", "+cert.Fingerprint)
		}
		hide("tls.ca", cb.TLS.CA, fingerprint(cb.TLS.CA))
	}
	hide("destination.url", cb.Destination.URL, withoutQuery(cb.Destination.URL))
	if cb.Auth != nil {
		hide("auth.token", cb.Auth.Token, Masked)
		hide("auth.password", cb.Auth.Password, Masked)
		hide("auth.client_secret", cb.Auth.ClientSecret, Masked)
		hide("auth.token_url", cb.Auth.TokenURL, withoutQuery(cb.Auth.TokenURL))
	}
	return fields
}

func withoutQuery(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return Masked
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.User = "", false, "", nil
	return u.String()
}
