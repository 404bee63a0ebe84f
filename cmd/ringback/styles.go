package main

import (
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/payloads"
)

// styleFlag names the header style of a callback, for who verifies.
func styleFlag(usage string) *cli.StringFlag {
	return &cli.StringFlag{Name: "style", Usage: usage}
}

// styleOf reads --style; empty: it is not given.
func styleOf(c *cli.Context) (payloads.HeaderStyle, error) {
	style := payloads.HeaderStyle(c.String("style"))
	if style != "" && !slices.Contains(payloads.HeaderStyles(), style) {
		return "", usagef("--style is standard, svix, github or stripe")
	}
	return style, nil
}

// wantSecret finds that no secret is given.
func wantSecret(values []string) error {
	if len(commaSeparated(values)) == 0 {
		return usagef("which secret? say so with --secret or RINGBACK_SECRET: it was shown when the callback was created or its secret rotated")
	}
	return nil
}

// signingSecrets reads the values of --secret as a style's. A text that is a key may hold commas, so it is not cut at them. Errors hold no secret.
func signingSecrets(style payloads.HeaderStyle, values []string) (secrets []payloads.Secret, err error) {
	if !style.TakesText() {
		values = commaSeparated(values)
	}
	for _, value := range values {
		secret, err := style.ParseSecret(value)
		if err != nil {
			return nil, usagef("--secret: %v", err)
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// partsOf are the flags that make a request of a style.
func partsOf(style payloads.HeaderStyle) []string {
	if style.TakesText() {
		return []string{"signature", "body"}
	}
	return []string{"id", "timestamp", "signature", "body"}
}

// flagsInWords names flags, the last after "and".
func flagsInWords(flags []string) string {
	last := len(flags) - 1
	return "--" + strings.Join(flags[:last], ", --") + " and --" + flags[last]
}

// headerOf is the header of a request in parts.
func headerOf(c *cli.Context, style payloads.HeaderStyle) http.Header {
	h := http.Header{}
	id, timestamp := payloads.HeaderID, payloads.HeaderTimestamp
	if style == payloads.StyleSvix {
		id, timestamp = style.Headers()[0], style.Headers()[1]
	}
	h.Set(id, c.String("id"))
	h.Set(timestamp, c.String("timestamp"))
	h.Set(style.SignatureHeader(), c.String("signature"))
	return h
}
