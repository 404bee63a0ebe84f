package registry

import (
	"encoding/json"

	"github.com/ringback/ringback/payloads"
)

// MarshalJSON writes of a destination that is fetched from only that.
func (d Destination) MarshalJSON() ([]byte, error) {
	if d.Pull {
		return []byte(`{"pull":true}`), nil
	}
	type sent Destination
	return json.Marshal(sent(d))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Destination) UnmarshalJSON(text []byte) error {
	type sent Destination
	if err := json.Unmarshal(text, (*sent)(d)); err != nil {
		return err
	}
	if d.Pull {
		d.ContentType = payloads.ContentTypeJSON
	}
	return nil
}

// pulls reads whether the partner fetches, and if so, what else stands in the destination.
func (d *decoder) pulls(dest object, cb *Callback) bool {
	const location = "body.destination.pull"
	raw, given := dest.take("pull")
	if given && json.Unmarshal(raw, &cb.Destination.Pull) != nil {
		d.fail(location, "must be true or false, but is "+kind(raw), nil)
		return true
	}
	if d.prev != nil && d.prev.Destination.Pull != cb.Destination.Pull {
		d.fail(location, "cannot be changed: what waits is in another order. Register another callback, and delete this one once it is empty", nil)
		return true
	}
	if !cb.Destination.Pull {
		return false
	}
	for _, name := range []string{"url", "method", "content_type"} {
		if _, also := dest.take(name); also {
			d.fail("body.destination."+name, "does not go with destination.pull: "+unsent, nil)
		}
	}
	cb.Destination.ContentType = payloads.ContentTypeJSON
	d.unknown(dest, "body.destination", "pull")
	return true
}
