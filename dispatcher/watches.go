package dispatcher

import (
	"errors"
	"slices"
	"sync"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// liveQueue is how much waits for a watcher who does not take it.
const liveQueue = 512

// ErrEnding says that this process is about to end: watch elsewhere.
var ErrEnding = errors.New("this process is shutting down")

// watching are those who watch.
type watching struct {
	mu      sync.Mutex
	watches map[*Watch]bool
	ended   bool // nobody may any more
}

func newWatching() *watching { return &watching{watches: make(map[*Watch]bool)} }

// count is how many watch.
func (l *watching) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.watches)
}

// A WatchQuery selects what a [Watch] hears of. The zero value of each field but Company is all.
type WatchQuery struct {
	Company    string
	States     []State
	CallbackID int64
	EventType  string
	// Callbacks are those that the watcher may see; nil: all.
	Callbacks []int64
	// After is where another watch left off: the Place of the last [News] it took. Empty: from now on.
	After string
}

// admits reports whether a change may be one to hear of, as far as is known before the delivery is read. What waits for a deleted callback shows as cancelled.
func (q *WatchQuery) admits(c ledger.Change) bool {
	return (q.CallbackID == 0 || q.CallbackID == c.Callback) && (q.Callbacks == nil || slices.Contains(q.Callbacks, c.Callback)) &&
		(len(q.States) == 0 || slices.Contains(q.States, c.State) || !c.State.Final() && slices.Contains(q.States, Cancelled))
}

// narrow reports whether there are changes that it does not want to hear of.
func (q *WatchQuery) narrow() bool {
	return q.CallbackID != 0 || q.Callbacks != nil || q.EventType != "" || len(q.States) > 0
}

// wants reports whether a delivery is one to hear of, of a change that may be.
func (q *WatchQuery) wants(d *Delivery) bool {
	return (q.EventType == "" || q.EventType == d.EventType) && (len(q.States) == 0 || slices.Contains(q.States, d.State))
}

// News is that a delivery changed, as it stands now. Or it is a gap: what happened before this place is not all known.
type News struct {
	Place    string    // for WatchQuery.After, to go on behind this
	Delivery *Delivery // nil: a gap

	once sync.Once
	text []byte
}

// Text is the delivery as encode writes it. It is written once for all watchers.
func (n *News) Text(encode func(*Delivery) []byte) []byte {
	n.once.Do(func() { n.text = encode(n.Delivery) })
	return n.text
}

// A Watch hears of the changes of a company's deliveries. It is one goroutine's, which has to call Close.
type Watch struct {
	all     *watching
	query   WatchQuery
	inside  bool // the watcher may know which names lead inside
	changed chan struct{}
	begun   chan struct{} // closed once changes are told

	// all.mu guards the rest.
	at     ledger.Place // zero: not known yet
	absent bool         // there was nothing of the company
	err    error
	queue  []*News
	lost   bool // the queue was full: what came since was dropped
}

// begin lets the watcher know that changes are told. The caller holds the lock.
func (w *Watch) begin() {
	select {
	case <-w.begun:
	default:
		close(w.begun)
	}
}

// fail ends the watch if it has not begun. One that has goes on with the next look.
func (w *Watch) fail(err error) {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	select {
	case <-w.begun:
	default:
		w.err = err
		close(w.begun)
	}
}

// tell has the watcher look. The caller holds the lock.
func (w *Watch) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Changed has a value when there is something to take.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Take returns what is new, oldest first; nothing, if nothing is. Once the process is about to end, or the watch is closed, it returns [ErrEnding].
func (w *Watch) Take() ([]*News, error) {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if w.all.ended || !w.all.watches[w] {
		return nil, ErrEnding
	}
	news := w.queue
	if w.queue = nil; w.lost {
		w.lost = false
		news = append(news, &News{Place: w.at.String()})
	}
	return news, nil
}

// Place is where the watch stands: behind all that Take returned, if that took all there was. Empty: there is nothing of the company yet.
func (w *Watch) Place() string {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if len(w.queue) > 0 || w.lost {
		return ""
	}
	return w.at.String()
}

// Close ends the watch.
func (w *Watch) Close() {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	delete(w.all.watches, w)
}
