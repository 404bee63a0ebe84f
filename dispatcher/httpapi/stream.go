package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

const (
	streamRoute = deliveriesRoute + "/stream"
	mediaSSE    = "text/event-stream"

	// heartbeat is how long a stream says nothing at most: proxies cut what is silent for longer, as a rule for a minute.
	heartbeat = 15 * time.Second
	// holdsEvery is how often a stream asks whether its key or session is still good. With [registry.Caller].Holds it ends within a second.
	holdsEvery = 400 * time.Millisecond
	// streamPatience is how long whoever reads a stream may take to read on. Until then, what does not fit is a gap.
	streamPatience = 15 * time.Second
	// comeBackIn is after how long a browser comes back whose stream ended.
	comeBackIn = 2 * time.Second
)

type (
	streamIn struct {
		Company     string   `path:"company"`
		State       []string `query:"state,explode" nullable:"false" doc:"Only deliveries that came to these states, separated by commas or given repeatedly." example:"dead,held"`
		CallbackID  int64    `query:"callback_id" minimum:"1" doc:"Only deliveries to this callback."`
		EventType   string   `query:"event_type" doc:"Only deliveries of events of this type."`
		LastEventID string   `header:"Last-Event-ID" doc:"Where an earlier stream broke off: the id of the last message that came. Browsers send it by themselves."`
		LastQueryID string   `query:"last_event_id" doc:"The same, for who cannot send headers."`
	}
	streamOut struct{ Body func(huma.Context) }
)

func (s *server) stream() {
	register(s, operation{need: readFates, bounds: ofThose, stream: true, Operation: huma.Operation{
		OperationID: "stream-deliveries", Method: http.MethodGet, Path: streamRoute, Tags: []string{"Deliveries"},
		Summary: "Watch deliveries as they happen",
		Description: "Server-sent events: an `event: delivery` each time an attempt of a delivery ends, or its state changes without one: accepted and held, cancelled, " +
			"given up, replayed. Its data is the delivery as it is shown by itself, in one line. What was missed between two connections comes after the next " +
			"connect, in order, with the header Last-Event-ID (browsers send it by themselves) or `last_event_id`. An `event: gap` says that more was missed than is " +
			"known, by who reads too slowly, was away for longer than a minute, or where much changes at once: the list of deliveries has it. A stream is told some 130 " +
			"changes a second, shared by all that a process serves; what comes faster comes later. Where thousands come within seconds, a stream without filters is told the first of each second, and a gap. What processes of an older version attempt is not told. " +
			"Decisions are none of it. A stream is one company's. A comment comes every 15 s. The stream ends when its key is revoked, and when the process ends: connect again.",
	}}, s.streamDeliveries)
	described(s.api, http.MethodGet, streamRoute).Responses["200"].Content = map[string]*huma.MediaType{
		mediaSSE: {
			Schema:  &huma.Schema{Type: huma.TypeString, Description: "Server-sent events, whose data is JSON as in #/components/schemas/Delivery."},
			Example: examples["stream-deliveries"].answers[http.StatusOK],
		},
	}
}

// isStream reports whether a request is for an answer that has no end.
func isStream(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/deliveries/stream") }

func (s *server) streamDeliveries(ctx context.Context, in *streamIn) (*streamOut, error) {
	states, err := parseStates(in.State)
	if err != nil {
		return nil, err
	}
	c, _ := registry.CallerOf(ctx)
	if in.CallbackID != 0 && !c.Key.Sees(in.CallbackID) {
		return nil, errNoCallback
	}
	leave, err := s.streams.enter(c.Key)
	if err != nil {
		return nil, err
	}
	after := in.LastEventID
	if after == "" {
		after = in.LastQueryID
	}
	watch, err := s.Client.Watch(ctx, dispatcher.WatchQuery{
		Company: in.Company, States: states, CallbackID: in.CallbackID, EventType: in.EventType, Callbacks: c.Key.Callbacks, After: after,
	})
	if err != nil {
		leave()
		return nil, err
	}
	return &streamOut{func(hc huma.Context) {
		defer leave()
		defer watch.Close()
		r, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", mediaSSE)
		w.Header().Set("X-Accel-Buffering", "no") // nginx would keep what comes
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodHead { // whoever asks for the header only has it, and goes on to use the connection
			return
		}
		Streaming(ctx)
		t := &teller{w: w, rc: http.NewResponseController(w)}
		t.run(ctx, watch, c)
	}}, nil
}

// A teller writes a stream.
type teller struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf bytes.Buffer
}

// run tells what a watch hears of, until its reader is gone or may not read any more, or the process ends.
func (t *teller) run(ctx context.Context, watch *dispatcher.Watch, c registry.Caller) {
	fmt.Fprintf(&t.buf, "retry: %d\n", comeBackIn.Milliseconds())
	t.place(watch)
	beat, hold := time.NewTicker(heartbeat), time.NewTicker(holdsEvery)
	defer beat.Stop()
	defer hold.Stop()
	for t.flush() == nil {
		select {
		case <-ctx.Done():
			return
		case <-hold.C:
			if c.Holds != nil && c.Holds(ctx) != nil {
				return
			}
			continue
		case <-beat.C:
			t.buf.WriteString(":\n")
			t.place(watch)
		case <-watch.Changed():
			news, err := watch.Take()
			if err != nil {
				return
			}
			for _, n := range news {
				t.tell(n)
			}
			beat.Reset(heartbeat)
		}
	}
}

// place tells where the stream is, as an id without a message: whoever connects again goes on from there.
func (t *teller) place(watch *dispatcher.Watch) {
	if place := watch.Place(); place != "" {
		t.buf.WriteString("id: " + place + "\n")
	}
	t.buf.WriteByte('\n')
}

// gap is what the data of a gap says.
var gap = []byte(`{"detail":"some changes are not told here: more was missed than is known; the list of deliveries has how they stand"}` + "\n")

func (t *teller) tell(n *dispatcher.News) {
	event, text := "delivery", gap
	if n.Delivery == nil {
		event = "gap"
	} else {
		text = n.Text(encodeDelivery)
	}
	if n.Place != "" {
		t.buf.WriteString("id: " + n.Place + "\n")
	}
	t.buf.WriteString("event: " + event + "\ndata: ")
	t.buf.Write(text)
	t.buf.WriteByte('\n')
}

// encodeDelivery is a delivery as it is shown by itself, with a line's end.
func encodeDelivery(d *dispatcher.Delivery) []byte {
	whole(d)
	text, err := encode(d)
	if err != nil {
		panic(err) // only our own types come here
	}
	return text
}

// flush sends what was written on its way.
func (t *teller) flush() error {
	if t.buf.Len() == 0 {
		return nil
	}
	_ = t.rc.SetWriteDeadline(time.Now().Add(streamPatience)) // not every writer can
	_, err := t.buf.WriteTo(t.w)
	if err == nil {
		err = t.rc.Flush()
	}
	return err
}

// streamingKey is where a connection's context holds the function of [OnStream].
type streamingKey struct{}

// OnStream returns a context for a connection. When the answer to one of its requests is a stream, which has no end, it calls began.
func OnStream(ctx context.Context, began func()) context.Context {
	return context.WithValue(ctx, streamingKey{}, began)
}

// Streaming tells of a request, by its context, that its answer is a stream: see [OnStream].
func Streaming(ctx context.Context) {
	if began, ok := ctx.Value(streamingKey{}).(func()); ok {
		began()
	}
}
