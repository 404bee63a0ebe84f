package payloads

import (
	"cmp"
	"slices"
	"strings"

	"github.com/xrash/smetrics"
)

// mostNear is how many names [Near] returns at most. More would be a list to read, and not an answer.
const mostNear = 3

// Near returns those among names that somebody may have meant who wrote name, the
// nearest first, three at most. Letter case does not matter. A name is near if few
// letters were mistaken (a third of those written, or two), or if it holds all words
// that were written.
func Near(name string, among []string) []string {
	if name == "" || len(name) > 2*maxNameLen {
		return nil
	}
	written := strings.ToLower(name)
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	for _, known := range among {
		lower := strings.ToLower(known)
		distance := smetrics.WagnerFischer(written, lower, 1, 1, 1)
		if holdsWords(lower, written) || distance <= max(2, len(written)/3) && distance < len(written) {
			found = append(found, candidate{known, distance})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var near []string
	for _, c := range found[:min(len(found), mostNear)] {
		near = append(near, c.name)
	}
	return near
}

// holdsWords reports whether name holds each word of written, which has three letters at least.
func holdsWords(name, written string) bool {
	words := strings.FieldsFunc(written, func(r rune) bool { return strings.ContainsRune("_.-", r) })
	missing := func(word string) bool { return !strings.Contains(name, word) }
	return len(written) > 2 && len(words) > 0 && !slices.ContainsFunc(words, missing)
}

// Near returns the names of those types that somebody may have meant who wrote name; see [Near].
func (c *Catalogue) Near(name string) []string {
	names := make([]string, len(c.types))
	for i, t := range c.types {
		names[i] = t.Name
	}
	return Near(name, names)
}

// NoSuchType says of a name that no type has it, and what to do. Read after a location it is a sentence.
func (c *Catalogue) NoSuchType(name string) string {
	near := "none is near, and GET /callback-types lists all"
	if names := c.Near(name); len(names) > 0 {
		near = "near: " + strings.Join(names, ", ")
	}
	return "names no such type; " + near + "; an operator adds one with `ringback types put`"
}
