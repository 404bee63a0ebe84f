package bench

import (
	"bytes"
	"strconv"
	"strings"
)

const (
	eventType = "payment_proof"
	// eventBytes is how long the body of an event is: that of a filled-in payment proof.
	eventBytes = 640
	// batchEvents is how many events a batch has.
	batchEvents = 500
	// pacedSenders are more than are ever busy at a pace that the installation keeps.
	pacedSenders = 32
)

// A load is a number of events to be sent.
type load struct {
	letter    byte // that their ids begin with
	events    int
	companies []string // that they go to, in turn
	fan       int      // callbacks of each company
	bytes     int      // of an event's body; 0 is eventBytes
	senders   int
	pace      float64 // events per second; 0 is as fast as they go
	batch     int     // events of a request; 0 is one, without a batch
}

// bodies are the requests of a load, prepared so that sending costs little.
func (l load) bodies() [][]byte {
	size := max(1, l.batch)
	bodies := make([][]byte, 0, (l.events+size-1)/size)
	for first := 0; first < l.events; first += size {
		var b bytes.Buffer
		for i := first; i < min(first+size, l.events); i++ {
			b.Write(l.event(i))
		}
		bodies = append(bodies, b.Bytes())
	}
	return bodies
}

// event is the body of an event, with a line's end if it is one of a batch.
func (l load) event(i int) []byte {
	id := string(l.letter) + strconv.Itoa(i)
	head := `{"event_type":"` + eventType + `","event_id":"` + id + `","payload":{` + requestID + id + `","status":"OK","voucherEffect":"Nómina","issuerName":"`
	size := eventBytes
	if l.bytes > 0 {
		size = l.bytes
	}
	body := head + strings.Repeat("x", max(0, size-len(head)-3)) + `"}}`
	if l.batch > 0 {
		body += "\n"
	}
	return []byte(body)
}
