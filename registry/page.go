package registry

import (
	"encoding/base64"
	"errors"
	"strconv"
)

const (
	// DefaultLimit is the size of a page of a list that asks for none.
	DefaultLimit = 50

	// MaxLimit is the size of the largest page that a list may ask for.
	MaxLimit = 500
)

// encodeCursor is the cursor of the page after an id. It is opaque to clients, so
// that it can change.
func encodeCursor(id int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte("after:" + strconv.FormatInt(id, 10)))
}

func decodeCursor(cursor string) (id int64, err error) {
	if cursor == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, err
	}
	if len(text) < len("after:") || string(text[:len("after:")]) != "after:" {
		return 0, errors.New("not a cursor")
	}
	return strconv.ParseInt(string(text[len("after:"):]), 10, 64)
}
