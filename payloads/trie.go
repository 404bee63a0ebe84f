package payloads

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// A trie holds pointers, so that a payload is gone through once for all of them.
type trie struct {
	ends []int // the pointers that end here
	next map[string]*trie
}

func (t *trie) add(tokens []string, pointer int) {
	for _, token := range tokens {
		if t.next == nil {
			t.next = map[string]*trie{}
		}
		if t.next[token] == nil {
			t.next[token] = &trie{}
		}
		t = t.next[token]
	}
	t.ends = append(t.ends, pointer)
}

var errNoJSON = errors.New("the payload is no JSON")

// find notes the text that each pointer leads to in a JSON text. What it reads is the same text with marks; see marked.
func (t *trie) find(text, marks []byte, found [][]byte) error {
	for _, pointer := range t.ends {
		found[pointer] = bytes.Trim(text, " \t\r\n")
	}
	if len(t.next) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(marks))
	first, err := dec.Token()
	if err != nil {
		return errNoJSON
	}
	open, nests := first.(json.Delim)
	if !nests {
		return nil
	}
	var value json.RawMessage
	for i := 0; dec.More(); i++ {
		token := ""
		if open == '{' {
			name, err := dec.Token()
			if err != nil {
				return errNoJSON
			}
			token, _ = name.(string)
		} else {
			token = strconv.Itoa(i)
		}
		if dec.Decode(&value) != nil {
			return errNoJSON
		}
		next := t.next[token]
		if next == nil {
			continue
		}
		end := int(dec.InputOffset())
		begin := end - len(value)
		next.forget(found) // of an earlier member of that name
		if err := next.find(text[begin:end], marks[begin:end], found); err != nil {
			return err
		}
	}
	return nil
}

// forget takes back what was found.
func (t *trie) forget(found [][]byte) {
	for _, pointer := range t.ends {
		found[pointer] = nil
	}
	for _, next := range t.next {
		next.forget(found)
	}
}
