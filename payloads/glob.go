package payloads

import "strings"

// IsGlob reports whether s stands for many callback types: whether it holds a '*'.
func IsGlob(s string) bool { return strings.Contains(s, "*") }

// MatchGlob reports whether name fits glob. A '*' stands for any run of
// characters, dots included and the empty run too; all else stands for itself,
// letter case included. A glob without '*' fits only its own name.
//
// It takes at most len(glob)×len(name) steps, whatever a stranger registered.
func MatchGlob(glob, name string) bool {
	prefix, rest, isGlob := strings.Cut(glob, "*")
	if !isGlob {
		return glob == name
	}
	name, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	for {
		part, more, another := strings.Cut(rest, "*")
		if !another {
			return strings.HasSuffix(name, part)
		}
		_, name, ok = strings.Cut(name, part) // the earliest place leaves most to what follows
		if !ok {
			return false
		}
		rest = more
	}
}
