package main

import (
	"slices"
	"strings"
)

// byDefault takes a setting back: it is what it would be if it had never been given.
const byDefault = "default"

// orNull is how a flag takes a setting back: empty, or by that word.
func orNull(s string) any {
	if s == "" || s == byDefault {
		return nil
	}
	return s
}

// membersOf reads NAME=VALUE,…, of which read makes what the API takes. If a name is none of those, the error is unlike.
func membersOf(text string, names []string, unlike error, read func(name, value string) (any, error)) (map[string]any, error) {
	members := map[string]any{}
	for text != "" {
		var pair string
		pair, text = nextPair(text, names)
		name, value, ok := strings.Cut(pair, "=")
		if !ok || !slices.Contains(names, name) {
			return nil, unlike
		}
		var err error
		if members[name], err = read(name, value); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// nextPair cuts text before the next comma that one of the names follows: other commas belong to a value.
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
