package once

import (
	"errors"
	"strconv"
	"strings"
)

var errReply = errors.New("once: what a script answered is not readable")

// readReply reads a script's answer as it is written into a claim: n is nothing, i7; a number, s3:abc a text of so many bytes, and a2: a list of so many answers.
func readReply(text string) (any, error) {
	v, rest, err := readPart(text)
	if err == nil && rest != "" {
		err = errReply
	}
	return v, err
}

func readPart(text string) (v any, rest string, err error) {
	if text == "" {
		return nil, "", errReply
	}
	kind, rest := text[0], text[1:]
	switch kind {
	case 'n':
		return nil, rest, nil
	case 'i':
		digits, rest, _ := strings.Cut(rest, ";")
		n, err := strconv.ParseInt(digits, 10, 64)
		return n, rest, err
	}
	digits, rest, _ := strings.Cut(rest, ":")
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil || n < 0 || n > len(rest):
		return nil, "", errReply
	case kind == 's':
		return rest[:n], rest[n:], nil
	case kind != 'a':
		return nil, "", errReply
	}
	list := make([]any, n)
	for i := range list {
		if list[i], rest, err = readPart(rest); err != nil {
			return nil, "", err
		}
	}
	return list, rest, nil
}
