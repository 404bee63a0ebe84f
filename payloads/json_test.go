package payloads_test

import (
	"encoding/json"
	"testing"

	"github.com/ringback/ringback/payloads"
)

// TestHalvesOfPairs: what encoding/json reads as U+FFFD is told apart from it, and from all that is whole.
func TestHalvesOfPairs(t *testing.T) {
	for text, whole := range map[string]bool{
		`"x"`: true, `"\ud83d\ude00"`: true, `"\uD83D\uDE00\n"`: true, `"\ufffd"`: true, "\"\ufffd\"": true, `"\\ud800"`: true, `"\\\\ud800"`: true, `"\u0041d800"`: true,
		`"\ud800"`: false, `"\udc00"`: false, `"\ude00\ud83d"`: false, `"\ud83d\ud83d\ude00"`: false, `"\ud83d\ude00\ud83d"`: false, `"\\\ud800"`: false, `"\uDBFFx"`: false,
		`"\ud83d\n\ude00"`: false, `"\`: true, `"\u`: true, `"\ud80`: true, `"\ud800\u`: false,
	} {
		if payloads.WholePairs([]byte(text)) != whole {
			t.Errorf("%s: want %t", text, whole)
		}
	}
}

// TestHalvesOfPairsInAttributes are refused: a callback for U+FFFD must not hear of what is another text. Elsewhere they go out as they came.
func TestHalvesOfPairsInAttributes(t *testing.T) {
	typ := custom(t, `{"properties":{"s":{"not":{"const":"\ufffd"}}}}`, map[string]string{"shop": "/shop/name"})
	for _, payload := range []string{`{"shop":{"name":"\ud800"}}`, `{"shop":{"name":"x\udfff"}}`} {
		_, err := typ.Check(json.RawMessage(payload))
		wantField(t, err, "body.payload.shop.name", "half of a surrogate pair")
	}
	for payload, shop := range map[string]string{
		`{"shop":{"name":"\ufffd"},"other":"\ud800"}`: "\ufffd", `{"shop":{"name":"\ud83d\ude00"},"\ud800":1}`: "😀", `{"s":"\ud800"}`: "",
	} {
		attrs, err := typ.Check(json.RawMessage(payload))
		if err != nil || attrs["shop"] != shop {
			t.Errorf("%s: %q, %v", payload, attrs, err)
		}
	}
}
