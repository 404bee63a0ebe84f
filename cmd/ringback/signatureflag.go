package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// signatureNames are what --signature takes, in the order in which they are shown.
var signatureNames = []string{"hmac", "ed25519", "rfc9421"}

func signatureFlag() cli.Flag {
	return settingFlag("signature", "what requests are signed by: `NAMES` of hmac, ed25519 and rfc9421, with commas between; default: hmac")
}

// signatureOf reads --signature. It says all of it: what it does not name is off.
func signatureOf(c *cli.Context) (value any, given bool, err error) {
	_, parts, err := settingOf(c, "signature")
	if err != nil || parts == nil {
		return nil, c.IsSet("signature"), err
	}
	members := map[string]any{}
	for _, name := range signatureNames {
		members[name] = false
	}
	for _, name := range atCommas(parts) {
		switch on, known := members[name]; {
		case !known:
			return nil, false, usagef("--signature takes one or more of hmac, ed25519 and rfc9421, with commas between, such as hmac,ed25519")
		case on == true:
			return nil, false, givenTwice("signature", name)
		}
		members[name] = true
	}
	return members, true, nil
}

// keyPairs show what a callback's requests are signed by, and its keys.
func keyPairs(cb *client.Callback) [][2]string {
	s := cb.Signature
	if s == nil {
		return nil
	}
	var by []string
	for i, on := range []bool{s.HMAC, s.Ed25519, s.RFC9421} {
		if on {
			by = append(by, signatureNames[i])
		}
	}
	if !s.HMAC && !slices.ContainsFunc(s.Keys, func(k client.SigningKey) bool { return k.Stage == "signing" }) {
		by = append(by, "and by the secret until a key signs")
	}
	pairs := [][2]string{{"signed by", strings.Join(by, ", ")}}
	for _, k := range s.Keys {
		said := fmt.Sprintf("%s, %s", k.PublicKey, k.Stage)
		switch k.Stage {
		case "announced":
			said += ", signs from " + clock(k.SignsFrom)
		case "signing":
			if !k.SignsUntil.IsZero() {
				said += " until " + clock(k.SignsUntil)
			}
		case "retired":
			said += ", published until " + clock(k.PublishedUntil)
		}
		pairs = append(pairs, [2]string{"key " + k.KID, said})
	}
	return pairs
}
