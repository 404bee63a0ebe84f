package main

import "strings"

// byDefault takes a setting back: it is what it would be if it had never been given.
const byDefault = "default"

// orNull is how a flag takes a setting back: empty, or by that word.
func orNull(s string) any {
	if s == "" || s == byDefault {
		return nil
	}
	return s
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
