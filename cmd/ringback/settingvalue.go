package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

const (
	// byDefault takes a setting back: it is what it would be if it had never been given.
	byDefault = "default"
	// noSetting says that a setting has nothing.
	noSetting = "none"
)

// orNull is how a flag takes a setting back: empty, or by that word.
func orNull(s string) any {
	if s == "" || s == byDefault {
		return nil
	}
	return s
}

// settingFlag is a flag that takes a word that says all of a setting, or parts of the setting with commas between. If it is given several times, it is
// as if commas stood between.
func settingFlag(name, usage string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Usage: usage, KeepSpace: true}
}

// settingOf is what such a flag was given: a word, which orNull takes or which is one of words, or else parts. Neither: the flag was not given.
func settingOf(c *cli.Context, flag string, words ...string) (word string, parts []string, err error) {
	parts = c.StringSlice(flag)
	at := slices.IndexFunc(parts, func(part string) bool { return orNull(part) == nil || slices.Contains(words, part) })
	switch {
	case at < 0:
		return "", parts, nil
	case len(parts) > 1:
		return "", nil, usagef("--%s %s says all of it: give --%[1]s once, with that or with something else", flag, cmp.Or(parts[at], "''"))
	}
	return parts[at], nil, nil
}

// membersOf reads pairs of NAME=VALUE, of which read makes what the API takes. If one has no such form, or none of the names, the error is unlike's.
func membersOf(flag string, pairs, names []string, unlike func(pair string) error, read func(name, value string) (any, error)) (map[string]any, error) {
	members := map[string]any{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || !slices.Contains(names, name) {
			return nil, unlike(pair)
		}
		if _, before := members[name]; before {
			return nil, givenTwice(flag, name)
		}
		var err error
		if members[name], err = read(name, value); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// givenTwice refuses a flag that says the same thing twice.
func givenTwice(flag, name string) error {
	return usagef("--%s has %s twice: say which one counts, once", flag, name)
}

// always is the error that membersOf has for any pair. It does not show the pair, which may be a secret.
func always(err error) func(string) error { return func(string) error { return err } }

// atCommas cuts parts at every comma.
func atCommas(parts []string) []string {
	items := strings.Split(strings.Join(parts, ","), ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// atNames cuts parts at the commas that one of the names follows: other commas belong to a value.
func atNames(parts, names []string) (pairs []string) {
	for _, text := range parts {
		for text != "" {
			var pair string
			pair, text = nextPair(text, names)
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

// nextPair cuts text before the next comma that one of the names follows.
func nextPair(text string, names []string) (pair, rest string) {
	for at := range text {
		if text[at] != ',' {
			continue
		}
		for _, name := range names {
			if strings.HasPrefix(text[at+1:], name+"=") {
				return text[:at], text[at+1:]
			}
		}
	}
	return text, ""
}
