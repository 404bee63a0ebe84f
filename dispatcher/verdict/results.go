package verdict

import "encoding/json"

// Results reads what an answer says of each element of a batch: {"results": [{"id": "…", "status": 200}, …]}, with statuses as those of HTTP. taken says of each id
// whether it was taken: with 2xx, wherever it is named. ok is false if the text is anything else, or not whole: then the answer's own status decides for all.
func Results(text []byte) (taken map[string]bool, ok bool) {
	var said struct {
		Results []struct {
			ID     *string `json:"id"`
			Status *int    `json:"status"`
		} `json:"results"`
	}
	if json.Unmarshal(text, &said) != nil || said.Results == nil {
		return nil, false
	}
	taken = make(map[string]bool, len(said.Results))
	for _, r := range said.Results {
		if r.ID == nil || r.Status == nil || *r.Status < 100 || *r.Status > 599 {
			return nil, false
		}
		before, known := taken[*r.ID]
		taken[*r.ID] = *r.Status/100 == 2 && (before || !known)
	}
	return taken, true
}
