package main

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// memberFlags are the flags of those fields of the API that are called otherwise. All others have the field's name, with hyphens.
var memberFlags = map[string]string{
	"destination.url": "url", "destination.method": "method", "destination.content_type": "content-type", "destination.pull": "pull",
	"callback_type": "type", "event_type": "type", "callback_id": "callback", "states": "state", "headers": "header",
	"rate_limit.per_second": "rate-limit", "rate_limit.burst": "rate-burst",
}

// blaming makes an action name the flags at fault, where the server names fields of what the flags were made into.
func blaming(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error { return blameFlags(c, action(c)) }
}

// blameFlags is err in the words of the command line. A field that no flag set keeps its name, as those of a --file do.
func blameFlags(c *cli.Context, err error) error {
	refused, ok := errors.AsType[*client.APIError](err)
	if !ok || error(refused) != err { //nolint:errorlint // one that is wrapped says more
		return err
	}
	said := *refused
	said.Errors = slices.Clone(refused.Errors)
	slices.SortFunc(said.Errors, func(a, b client.FieldErr) int { return cmp.Compare(len(b.Location), len(a.Location)) }) // a.b before a
	for i, field := range said.Errors {
		flag := flagOf(c, field.Location)
		if flag == "" {
			continue
		}
		said.Detail = strings.ReplaceAll(said.Detail, field.Location+" ", flag+" ")
		said.Errors[i].Location = flag
	}
	return &said
}

// flagOf is the flag that a field's value came from, with what the field is within the flag's value; empty: none is known.
func flagOf(c *cli.Context, location string) string {
	root, field, _ := strings.Cut(location, ".")
	if root == "header" && strings.EqualFold(field, idempotencyKey) && c.IsSet(idempotencyKey) {
		return "--" + idempotencyKey
	}
	if root != "body" && root != "query" || field == "" || root == "body" && c.String("file") != "" {
		return ""
	}
	for member, flag := range memberFlags {
		if rest, ok := strings.CutPrefix(field, member); ok && c.IsSet(flag) && isWhole(rest) {
			return within(flag, rest)
		}
	}
	end := strings.IndexAny(field, ".[")
	if end < 0 {
		end = len(field)
	}
	name, rest := strings.ReplaceAll(field[:end], "_", "-"), field[end:]
	switch {
	case c.IsSet(name):
		return within(name, rest)
	case rest == ".campaign_token" && c.IsSet("campaign-token"):
		return "--campaign-token"
	case c.IsSet("match") && rest != "":
		return within("match", rest)
	}
	return ""
}

// isWhole reports whether rest begins behind a whole name.
func isWhole(rest string) bool { return rest == "" || rest[0] == '.' || rest[0] == '[' }

// within names a flag and a part of its value.
func within(flag, rest string) string {
	return strings.TrimSpace("--" + flag + " " + strings.Trim(rest, ".[]"))
}
