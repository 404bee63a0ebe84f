package verdict

import (
	"bytes"
	"encoding/json"
	"maps"
	"testing"
)

// TestResults: an answer speaks of each element, or of none.
func TestResults(t *testing.T) {
	for text, want := range map[string]map[string]bool{
		`{"results":[]}`: {},
		`{"results":[{"id":"a","status":200},{"id":"b","status":422,"why":"x"}],"more":1}`: {"a": true, "b": false},
		`{"results":[{"id":"a","status":204},{"id":"a","status":500}]}`:                    {"a": false},
		`{"results":[{"id":"a","status":500},{"id":"a","status":204}]}`:                    {"a": false},
		` {"results" : [ {"id":"a","status":299}, {"id":"b","status":300} ] } `:            {"a": true, "b": false},
		``:                                    nil,
		`{}`:                                  nil,
		`null`:                                nil,
		`[]`:                                  nil,
		`ok`:                                  nil,
		`{"results":null}`:                    nil,
		`{"results":{}}`:                      nil,
		`{"results":[1]}`:                     nil,
		`{"results":[{"id":"a"}]}`:            nil,
		`{"results":[{"status":200}]}`:        nil,
		`{"results":[{"id":1,"status":200}]}`: nil,
		`{"results":[{"id":"a","status":"200"}]}`:  nil,
		`{"results":[{"id":"a","status":20}]}`:     nil,
		`{"Results":[{"id":"a","status":500}]}`:    nil,
		`{"results":[{"ID":"a","Status":500}]}`:    nil,
		`{"results":[{"id":null,"status":200}]}`:   nil,
		`{"results":[null]}`:                       nil,
		`{"results":[{"id":"a","status":600}]}`:    nil,
		`{"results":[{"id":"a","status":200}]`:     nil,
		`{"results":[{"id":"a","status":200}]} {}`: nil,
	} {
		if got, ok := Results([]byte(text)); !maps.Equal(got, want) || ok != (want != nil) {
			t.Errorf("%s: %v, %t, want %v", text, got, ok, want)
		}
	}
}

// FuzzResults: what is heard of an answer does not depend on how it is written, and nothing is heard of one that is cut off.
func FuzzResults(f *testing.F) {
	f.Add([]byte(`{"results":[{"id":"a","status":200},{"id":"b","status":422}]}`))
	f.Add([]byte(` {"results":[],"x":"}"} `))
	f.Fuzz(func(t *testing.T, text []byte) {
		taken, ok := Results(text)
		if !ok {
			return
		}
		var small bytes.Buffer
		if err := json.Compact(&small, text); err != nil {
			t.Fatalf("it is no JSON: %v", err)
		}
		if again, ok := Results(small.Bytes()); !ok || !maps.Equal(taken, again) {
			t.Errorf("%v, and written small %v", taken, again)
		}
		for n := range small.Len() {
			if _, ok := Results(small.Bytes()[:n]); ok {
				t.Errorf("cut off after %d bytes it is heard", n)
			}
		}
	})
}
