package dispatcher

import (
	"encoding/json"
	"html"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/registry"
)

// A blotter blots secrets out of what a partner says. Some endpoints echo what they were sent, and each writes it in its own way: a secret is
// found as it is, and as JSON, HTML and URLs write it.
type blotter []string

// How many bytes make a secret. Shorter ones are none, and would blot out words; or values, in what a program reads.
const (
	leastSecret   = 4
	leastInValues = 8
)

// blotSteps bounds the looking for secrets, for each KiB of text. 64 secrets that are not there take as many. Only secrets and an answer that were
// made for each other take more.
const blotSteps = 64 << 10

// Replace returns text with *** for each secret.
func (b blotter) Replace(text string) string { return b.blot(text, false) }

// ReplaceOf is Replace for a text from an answer's body. If that was cut off, maybe in a secret, its beginning at the end is blotted out, too.
func (b blotter) ReplaceOf(r *egress.Response, text string) string { return b.blot(text, r.Truncated) }

func (b blotter) blot(text string, cut bool) string {
	var out strings.Builder
	kept := 0 // text up to here is in out
	steps := (len(text)>>10 + 1) * blotSteps
	for i := 0; i < len(text); {
		longest := 0
		for _, secret := range b {
			longest = max(longest, written(text[i:], secret, secret, cut, &steps))
		}
		if steps < 0 {
			return out.String() + text[kept:i] + registry.Masked // nobody knows what stands behind
		}
		if longest == 0 {
			i++
			continue
		}
		out.WriteString(text[kept:i])
		out.WriteString(registry.Masked)
		i += longest
		kept = i
	}
	return out.String() + text[kept:]
}

// ReplaceJSON is Replace for what a program reads: valid JSON, of which only strings change, and not for short secrets.
func (b blotter) ReplaceJSON(text json.RawMessage) json.RawMessage {
	var long blotter
	for _, secret := range b {
		if len(secret) >= leastInValues {
			long = append(long, secret)
		}
	}
	var out []byte
	for rest := text; len(rest) > 0; {
		n := 1
		if rest[0] != '"' {
			out = append(out, rest[0])
		} else {
			for ; rest[n] != '"'; n++ {
				if rest[n] == '\\' {
					n++
				}
			}
			n++
			out = append(out, long.replaceLiteral(rest[:n])...)
		}
		rest = rest[n:]
	}
	return out
}

// replaceLiteral is ReplaceJSON for one string, whose bytes stay if there is nothing to blot out.
func (b blotter) replaceLiteral(literal json.RawMessage) json.RawMessage {
	var said string
	if json.Unmarshal(literal, &said) != nil {
		return literal
	}
	blotted := b.Replace(said)
	if blotted == said {
		return literal
	}
	quoted, _ := json.Marshal(blotted) // a string always can be
	return quoted
}

// written is how many bytes at the beginning of text write rest, which is the end of secret; 0: they write something else. If text is cut
// off, the beginning of a secret is enough. It takes as many of steps as it needs, and ends when there are none left.
func written(text, rest, secret string, cut bool, steps *int) int {
	done := 0
	for rest != "" {
		if *steps--; *steps < 0 {
			return 0
		}
		if cut && len(secret)-len(rest) >= leastSecret && (text == "" || cutOff(text)) {
			return done + len(text)
		}
		if text == "" {
			return 0
		}
		if said, n := unescape(text); n > 0 && strings.HasPrefix(rest, said) {
			if more := written(text[n:], rest[len(said):], secret, cut, steps); more > 0 || rest == said {
				return done + n + more
			}
		}
		if text[0] != rest[0] {
			return 0
		}
		text, rest, done = text[1:], rest[1:], done+1
	}
	return done
}

// cutOff reports whether a text is the beginning of an escape.
func cutOff(text string) bool {
	return len(text) < len(`\u0000`) && strings.IndexByte(`\%&`, text[0]) >= 0 && !strings.ContainsAny(text, ";")
}

// unescape reads one character that is written otherwise at the beginning of text, and how many bytes it takes; 0: it is not.
func unescape(text string) (said string, n int) {
	switch text[0] {
	case '+':
		return " ", 1
	case '%':
		if len(text) >= 3 {
			if said, err := url.PathUnescape(text[:3]); err == nil {
				return said, 3
			}
		}
	case '&':
		if end := strings.IndexByte(text[:min(len(text), 10)], ';'); end > 0 {
			if said := html.UnescapeString(text[:end+1]); said != text[:end+1] {
				return said, end + 1
			}
		}
	case '\\':
		for n < min(len(text), 15) && text[n] == '\\' { // JSON within JSON has several
			n++
		}
		if n == len(text) {
			return `\`, n
		}
		if said, size := unescapeUnicode(text[n:]); size > 0 {
			return said, n + size
		}
		if strings.IndexByte(`"'/`, text[n]) >= 0 {
			return text[n : n+1], n + 1
		}
		return `\`, n
	}
	return "", 0
}

// unescapeUnicode reads what stands behind a backslash: u and four hexadecimal digits, or two such that are one character.
func unescapeUnicode(text string) (said string, n int) {
	unit := func(text string) (rune, bool) {
		if len(text) < 5 || text[0] != 'u' {
			return 0, false
		}
		code, err := strconv.ParseUint(text[1:5], 16, 16)
		return rune(code), err == nil
	}
	r, ok := unit(text)
	if !ok {
		return "", 0
	}
	if utf16.IsSurrogate(r) {
		if low, ok := unit(strings.TrimPrefix(text[5:], `\`)); ok && len(text) > 5 && text[5] == '\\' {
			return string(utf16.DecodeRune(r, low)), 11
		}
	}
	return string(r), 5
}
