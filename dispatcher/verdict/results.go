package verdict

import "encoding/json"

// Results reads what an answer says of each element of a batch: {"results": [{"id": "…", "status": 200}, …]}, with statuses as those of HTTP. taken says of each id
// whether it was taken: with 2xx, wherever it is named. ok is false if the text is anything else, or not whole: then the answer's own status decides for all.
// Names count as they are written: a struct would take those of another case for its own.
func Results(text []byte) (taken map[string]bool, ok bool) {
	var said map[string]json.RawMessage
	var results []map[string]json.RawMessage
	if json.Unmarshal(text, &said) != nil || json.Unmarshal(said["results"], &results) != nil || results == nil {
		return nil, false
	}
	taken = make(map[string]bool, len(results))
	for _, r := range results {
		var id *string
		var status *int
		if json.Unmarshal(r["id"], &id) != nil || json.Unmarshal(r["status"], &status) != nil || id == nil || status == nil || *status < 100 || *status > 599 {
			return nil, false
		}
		before, known := taken[*id]
		taken[*id] = *status/100 == 2 && (before || !known)
	}
	return taken, true
}
