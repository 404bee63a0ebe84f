package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

const (
	// followAhead is how many changes wait for their requests to be passed on. While somebody stands at a breakpoint, the stream is read all the same.
	followAhead = 4096
	// followPatience is for how long what was sent is asked for while the server is away.
	followPatience = 5 * time.Minute
	// followKnown is how many deliveries are known at least, by which of their attempts were passed on.
	followKnown = 1 << 15
	// followSlack is how long before the watch an attempt may have ended and still be new: the server tells when it began in whole seconds, and the
	// clock of the process that made the attempt is another.
	followSlack = 2 * time.Second
)

const notHandedOn = "NOT passed on: "

// A follower passes on what is sent to callbacks elsewhere, each attempt once.
type follower struct {
	*receiver
	api     *client.Client
	company string
	says    io.Writer // what concerns no request

	began         time.Time      // by the server's clock, if it says; what ended before is no news
	passed, older map[string]int // by delivery, its last attempt that was passed on; and each batch's attempts
}

// followDeliveries passes on what is sent to a company's callbacks, until Ctrl-C or the server refuses.
func followDeliveries(c *cli.Context, r *receiver) error {
	api, company, err := watched(c)
	if err != nil {
		return err
	}
	patient, err := newAPI(c, func(cfg *client.Config) { cfg.MaxElapsed = followPatience })
	if err != nil {
		return err
	}
	if err := mayFollow(c.Context, api); err != nil {
		return err
	}
	what := "shown here"
	if r.forward != nil {
		what = "passed on to " + r.forward.Redacted()
	}
	f := &follower{receiver: r, api: patient, company: company, says: c.App.ErrWriter, began: time.Now(), passed: map[string]int{}}
	q := client.WatchQuery{CallbackID: c.Int64("callback"), EventType: c.String("type")}
	q.Begun = func(at time.Time) { // before the first change, which the queue hands over
		if !at.IsZero() {
			f.began = at
		}
		r.announce(c, "Following the deliveries of %s: what is sent to its callbacks is %s. Ctrl-C ends.\n", printable(company), printable(what))
	}
	return f.run(c.Context, api.Watch(c.Context, company, q))
}

// mayFollow refuses a key that may not see what was sent.
func mayFollow(ctx context.Context, api *client.Client) error {
	doc, err := api.Do(ctx, http.MethodGet, "/caller", nil, nil)
	if e, ok := errors.AsType[*client.APIError](err); ok && e.Status == http.StatusNotFound {
		return nil // a server of the version before: it refuses by itself
	} else if err != nil {
		return err
	}
	var caller struct {
		Role string `json:"role"`
	}
	if err := decode(json.RawMessage(doc), &caller); err != nil {
		return err
	}
	if caller.Role == "viewer" {
		return errors.New("a viewer's key may not see what was sent: follow with a key of the role partner, producer or operator")
	}
	return nil
}

// run takes changes and passes on what was sent.
func (f *follower) run(parent context.Context, changes func(yield func(*client.Change, error) bool)) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	queue := make(chan *client.Change, followAhead)
	var ended error
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(queue)
		for change, err := range changes {
			if ended = err; err != nil {
				return
			}
			select {
			case queue <- change:
			case <-ctx.Done():
				return
			}
		}
	})
	for change := range queue {
		f.take(ctx, change)
	}
	reading.Wait()
	if parent.Err() != nil { // Ctrl-C
		return nil
	}
	return ended
}

// take passes on what is new of a delivery.
func (f *follower) take(ctx context.Context, change *client.Change) {
	if ctx.Err() != nil {
		return
	}
	if change.Gap {
		_, _ = fmt.Fprintln(f.says, "some deliveries are missing here: `ringback deliveries list` shows how all stand")
		return
	}
	id := change.Delivery.DeliveryID
	if len(f.fresh(change.Delivery)) == 0 {
		return
	}
	d, err := f.api.DeliveryWithRequests(ctx, f.company, id)
	if err != nil {
		if ctx.Err() == nil {
			f.note(change.Delivery)
			_, _ = fmt.Fprintf(f.says, "%s is missing here: %s\n", printable(id), oneLine(printable(remedy(err).Error())))
		}
		return
	}
	fresh := f.fresh(d)
	f.note(d)
	for _, a := range fresh {
		if got := f.passOn(ctx, d, a); ctx.Err() == nil {
			f.print(got)
		}
	}
}

// fresh are a delivery's attempts that were not passed on, and ended since the watch began.
func (f *follower) fresh(d *client.Delivery) (fresh []*client.Attempt) {
	last := max(f.passed[d.DeliveryID], f.older[d.DeliveryID])
	for i := range d.Attempts {
		a := &d.Attempts[i]
		ended := a.StartedAt.Add(time.Duration(a.DurationMS) * time.Millisecond)
		with := f.passed[together(a)] + f.older[together(a)] // the first of its batch's deliveries passed it on
		if a.Number > last && with == 0 && ended.After(f.began.Add(-followSlack)) {
			fresh = append(fresh, a)
		}
	}
	return fresh
}

// note has all attempts of a delivery be known as passed on.
func (f *follower) note(d *client.Delivery) {
	if len(f.passed) >= followKnown {
		f.older, f.passed = f.passed, map[string]int{}
	}
	for i := range d.Attempts {
		a := &d.Attempts[i]
		f.passed[d.DeliveryID] = max(f.passed[d.DeliveryID], a.Number)
		if a.BatchID != "" {
			f.passed[together(a)] = a.Number
		}
	}
}

// together names the request of a batch, by which all of its deliveries went out; empty: it was of one delivery.
func together(a *client.Attempt) string {
	if a.BatchID == "" {
		return ""
	}
	return a.BatchID + " " + a.StartedAt.UTC().Format(time.RFC3339Nano)
}

// passOn passes an attempt's request on as it went out, and says what came of it. If there is nowhere to pass it on to, it says what the callback's
// endpoint answered.
func (f *follower) passOn(ctx context.Context, d *client.Delivery, a *client.Attempt) received {
	got := received{
		Time: a.StartedAt.Local(), CallbackID: d.CallbackID, EventType: d.EventType, EventID: d.EventID,
		Attempt: strconv.Itoa(a.Number), DeliveryID: d.DeliveryID,
	}
	if a.BatchID != "" { // it is of several events
		got.EventType, got.EventID, got.DeliveryID = "", "", a.BatchID
	}
	request, body, missing := whatWasSent(a)
	switch {
	case missing != "" && f.forward == nil:
		got.Missing = "nothing to show: " + missing
		return got
	case missing != "":
		got.Missing = notHandedOn + missing
		return got
	}
	header := make(http.Header, len(request.Headers))
	for name, value := range request.Headers {
		header[name] = []string{value}
	}
	got.Time, got.Method, got.Path = request.SentAt.Local(), request.Method, request.URL
	got.Replay = header.Get("Ringback-Replay") != ""
	got.Attempt = cmp.Or(header.Get("Ringback-Attempt"), got.Attempt) // a delivery may have had some before those of its batch
	got.Bytes, got.body, got.Form = len(body), body, readForm(header, body)
	got.Signature, got.Problem = f.verify(header, body, time.Now())
	if got.Status, got.TookMS = a.StatusCode, float64(a.DurationMS); a.Timing != nil {
		got.TookMS = a.Timing.Total // more precisely
	}
	if f.forward == nil {
		return got
	}
	start := time.Now()
	said, err := f.pass(ctx, request.Method, header, body)
	got.Status, got.TookMS = said.status, float64(time.Since(start).Microseconds())/1000
	if err != nil {
		got.Missing = notHandedOn + unanswered
	}
	return got
}

// whatWasSent is an attempt's request with its body, or why there is none.
func whatWasSent(a *client.Attempt) (r *client.Request, body []byte, missing string) {
	if a.Request == nil {
		return nil, nil, cmp.Or(a.RequestMissing, "the server does not say what it sent")
	}
	body, err := a.Request.BodyBytes()
	switch {
	case err != nil:
		return nil, nil, "its body cannot be read: " + err.Error()
	case a.Request.Body == nil:
		return nil, nil, "its body is not known here: " + cmp.Or(a.Request.BodyMissing, "the server does not show it")
	}
	return a.Request, body, ""
}
