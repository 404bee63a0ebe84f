package payloads

import (
	"encoding/json"
	"fmt"
)

// The content types a callback may ask for.
const (
	ContentTypeJSON = "application/json"
	ContentTypeForm = "application/x-www-form-urlencoded"
)

// Encode turns a payload into the body a callback's content type asks for.
//
// [ContentTypeJSON] gives the payload itself, byte for byte and without a copy:
// the caller must not change the one while it uses the other.
//
// [ContentTypeForm] gives one field for each value that holds no others, in the
// payload's order, named by the way to it:
//
//	payload                              field, before a form's own encoding
//	{"status": "OK"}                     status=OK
//	{"item": {"token": {"id": 7}}}       item[token][id]=7
//	{"items": [{"sku": "a"}, "b"]}       items[0][sku]=a  items[1]=b
//	{"s": "1", "n": 1.0, "b": true}      s=1  n=1.0  b=true
//	{"x": null, "y": ""}                 x=  y=
//	{"list": [], "map": {}}              list=[]  map={}
//	{"a[0]": 1, "100%": 2}               a%5B0%5D=1  100%25=2
//	{"by_year": {"2026": 1}}             by_year[%32026]=1
//	{"": {"": 1}}                        %[%]=1
//
// So the name of a member stands in brackets unless it is an outermost one, the
// number of an item, from 0, always does, and PHP, Rack and qs (Express) read
// names of the usual kind as what they were (but Rack, and qs beyond 20 items,
// read an array as a hash from numbers to items). The last three rows keep all
// other names apart: a [, ] or % in a name is percent-encoded, as is the first digit of
// an inner name that is all digits and would be taken for an item's number, and
// the empty name is a lone %. The form's own encoding comes on top of that, and
// encodes the brackets, too: item%5Btoken%5D%5Bid%5D=7. An empty payload is an
// empty body.
//
// What a form cannot say is the type of a value: strings, numbers and booleans
// are their text, and null, an empty array and an empty object look like the
// strings "", "[]" and "{}". All else comes back with [DecodeForm]. Of a name
// that stands twice in an object the last value counts, in the place of the first.
//
// A payload that is no object, that [Type.Check] would not read as JSON, that holds
// half of a surrogate pair, or whose form would exceed 4 MiB, gives an *InvalidError.
func Encode(contentType string, payload json.RawMessage) ([]byte, error) {
	switch contentType {
	case ContentTypeJSON:
		return payload, nil
	case ContentTypeForm:
		return encodeForm(payload)
	default:
		return nil, fmt.Errorf("cannot encode a payload as %q: use %s or %s", contentType, ContentTypeJSON, ContentTypeForm)
	}
}
