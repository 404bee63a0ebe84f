package ledger

import (
	"encoding/json"
	"iter"
	"strconv"
	"strings"
	"time"
)

// An answer is what a script said, read from left to right. If something cannot be read, err says so.
type answer struct {
	left []string
	err  error
}

func (a *answer) text() string {
	if len(a.left) == 0 {
		a.err = ErrBadRecord
		return ""
	}
	text := a.left[0]
	a.left = a.left[1:]
	return text
}

// number reads a number.
func (a *answer) number() int64 {
	n, err := strconv.ParseInt(a.text(), 10, 64)
	if err != nil {
		a.err = ErrBadRecord
	}
	return n
}

// numberIfAny is number, and 0 for an empty text.
func (a *answer) numberIfAny() int64 {
	if len(a.left) > 0 && a.left[0] == "" {
		a.left = a.left[1:]
		return 0
	}
	return a.number()
}

// wait reads a duration in milliseconds; what is over is none.
func (a *answer) wait() time.Duration { return max(0, time.Duration(a.number())*time.Millisecond) }

// at reads a time in milliseconds; an empty text is none.
func (a *answer) at() time.Time { return FromMS(a.numberIfAny()) }

// yes reads whether a text is not empty.
func (a *answer) yes() bool { return a.text() != "" }

// byCallback reads callbacks with a number each, as callback:number, separated by commas.
func (a *answer) byCallback() iter.Seq2[int64, int64] {
	text := a.text()
	return func(yield func(callback, n int64) bool) {
		for text != "" {
			var word string
			word, text, _ = strings.Cut(text, ",")
			id, number, _ := strings.Cut(word, ":")
			callback, err := strconv.ParseInt(id, 10, 64)
			n, err2 := strconv.ParseInt(number, 10, 64)
			if err != nil || err2 != nil {
				a.err = ErrBadRecord
				return
			}
			if !yield(callback, n) {
				return
			}
		}
	}
}

// ids reads callbacks' ids, separated by commas.
func (a *answer) ids() []int64 {
	ids, err := readIDs(a.text())
	if err != nil {
		a.err = err
	}
	return ids
}

func readIDs(text string) (ids []int64, err error) {
	if text == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		id, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, ErrBadRecord
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// meta reads what an event's hash holds about it.
func (a *answer) meta() (m Meta) {
	if json.Unmarshal([]byte(a.text()), &m) != nil {
		a.err = ErrBadRecord
	}
	return m
}

// record reads a delivery's.
func (a *answer) record() Record {
	r, err := ParseRecord(a.text())
	if err != nil {
		a.err = err
	}
	return r
}

// take cuts off the next so many texts, as an answer of their own.
func (a *answer) take(n int64) *answer {
	if n < 0 || n > int64(len(a.left)) {
		a.err, n = ErrBadRecord, 0
	}
	part := &answer{left: a.left[:n]}
	a.left = a.left[n:]
	return part
}

// more reports whether there is anything left to read.
func (a *answer) more() bool { return a.err == nil && len(a.left) > 0 }
