package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

const (
	// triggerMoment is how long trigger waits for first attempts, if it is not told otherwise.
	triggerMoment = 2 * time.Second
	// triggerMost bounds --count: more events than that are a matter for `events send FILE`, or for bench.
	triggerMost = 1000
	// triggerPoll is how often trigger asks what became of an event.
	triggerPoll = 100 * time.Millisecond
)

func triggerCommand() *cli.Command {
	return &cli.Command{
		Name: "trigger", Usage: "send a type's example as an event, and say what became of it", ArgsUsage: "TYPE",
		Description: examples(
			"ringback trigger payment_proof",
			"ringback trigger wallet_item_install --set /wallet_campaign/token=r3zhm8 --wait 30s",
			"ringback trigger order.placed --payload order.json --count 10",
		) + "\n\nThe event is a real one, with an id that is made up: it goes to every callback that matches. What `ringback events get` says of it is\n" +
			"shown after a moment. With --wait the exit code is 1 if a delivery was not delivered by then.",
		Flags: []cli.Flag{
			companyFlag(),
			&cli.StringFlag{Name: "payload", Usage: "JSON from `FILE` (- is stdin) instead of the example"},
			&cli.StringSliceFlag{Name: "set", Usage: "put a value there first: `/POINTER=VALUE`, JSON or else text (repeatable)"},
			&cli.IntFlag{Name: "count", Usage: fmt.Sprintf("send `N` of them, up to %d", triggerMost), Value: 1},
			&cli.DurationFlag{Name: "wait", Usage: "wait so `LONG` at most until all deliveries have ended"},
		},
		Action: trigger,
	}
}

func trigger(c *cli.Context) error {
	args, err := arguments(c, "TYPE")
	if err != nil {
		return err
	}
	if n := c.Int("count"); n < 1 || n > triggerMost {
		return usagef("--count is from 1 to %d, not %d: `ringback events send FILE` sends more", triggerMost, n)
	}
	if c.Duration("wait") < 0 {
		return usagef("--wait is a duration such as 30s, and not negative")
	}
	api, company, err := forCompany(c, patiently)
	if err != nil {
		return err
	}
	payload, err := triggerPayload(c, api, args[0])
	if err != nil {
		return err
	}
	delivered := true
	for range c.Int("count") {
		receipt, err := api.Send(c.Context, company, client.Event{Type: args[0], Payload: payload})
		if err != nil {
			return err
		}
		for _, warning := range receipt.Warnings {
			_, _ = fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", printable(warning))
		}
		explained, err := whatBecame(c, api, company, receipt.EventID)
		if err != nil {
			return err
		}
		delivered = delivered && allIn(explained, client.Delivered)
		if err := printTriggered(newPrinter(c), explained, c.Int("count") > 1); err != nil {
			return err
		}
	}
	if c.IsSet("wait") && !delivered {
		return errSaid
	}
	return nil
}

// triggerPayload is what is sent: the type's example or a file, with what --set puts there.
func triggerPayload(c *cli.Context, api *client.Client, name string) (json.RawMessage, error) {
	t, err := api.Type(c.Context, name)
	if err != nil {
		return nil, err
	}
	switch {
	case t.Operational:
		return nil, usagef("%s is sent by Ringback itself, about its own work, and taken from nobody: `ringback callbacks test CALLBACK_ID --type %s` sends its example to a callback", name, name)
	case t.Synchronous:
		return nil, usagef("%s is asked, not sent: `ringback events ask --type %s` asks the partner, and waits for its answer", name, name)
	}
	payload := t.Example
	if file := c.String("payload"); file != "" {
		if payload, err = readJSON(c, file); err != nil {
			return nil, fmt.Errorf("--payload: %w", err)
		}
	}
	if len(payload) == 0 {
		return nil, usagef("%s has no example: give a payload with --payload, or the type an example with `ringback types put`", name)
	}
	return withValues(payload, c.StringSlice("set"))
}

// withValues is a payload with a value put in each place that --set names. Without any, no byte changes.
func withValues(payload json.RawMessage, sets []string) (json.RawMessage, error) {
	if len(sets) == 0 {
		return payload, nil
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	for _, set := range sets {
		pointer, text, ok := strings.Cut(set, "=")
		if !ok || !strings.HasPrefix(pointer, "/") {
			return nil, usagef("--set takes /POINTER=VALUE, such as /wallet_campaign/token=r3zhm8, not %q", set)
		}
		var value any = text
		if json.Valid([]byte(text)) {
			value = json.RawMessage(text)
		}
		changed, err := setAt(doc, strings.Split(pointer[1:], "/"), value)
		if err != nil {
			return nil, usagef("--set %s: %v", pointer, err)
		}
		doc = changed
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(doc)
	return bytes.TrimSpace(b.Bytes()), err
}

// setAt returns doc with a value where a JSON Pointer's tokens lead (RFC 6901). Members that are missing on the way are made; of an array, - is the
// place behind its end.
func setAt(doc any, tokens []string, value any) (any, error) {
	if len(tokens) == 0 {
		return value, nil
	}
	token := strings.NewReplacer("~1", "/", "~0", "~").Replace(tokens[0])
	if raw, ok := doc.(json.RawMessage); ok { // of an earlier --set
		doc = nil
		if err := json.Unmarshal(raw, &doc); err != nil {
			return nil, err
		}
	}
	switch at := doc.(type) {
	case nil:
		inner, err := setAt(nil, tokens[1:], value)
		return map[string]any{token: inner}, err
	case map[string]any:
		inner, err := setAt(at[token], tokens[1:], value)
		at[token] = inner
		return at, err
	case []any:
		if token == "-" {
			inner, err := setAt(nil, tokens[1:], value)
			return append(at, inner), err
		}
		i, err := strconv.Atoi(token)
		if err != nil || i < 0 || i >= len(at) {
			return nil, fmt.Errorf("there is no item %q: the array has %d, and - adds one", token, len(at))
		}
		at[i], err = setAt(at[i], tokens[1:], value)
		return at, err
	}
	return nil, fmt.Errorf("%q leads nowhere: what stands before it is no object and no array", token)
}

// whatBecame explains an event: once each of its deliveries was attempted, or has ended if --wait is given; or when the time is up.
func whatBecame(c *cli.Context, api *client.Client, company, event string) (*client.Explanation, error) {
	patience, ended := triggerMoment, []string{client.Retrying, client.Held, client.Delivered, client.Dead, client.Cancelled}
	if c.IsSet("wait") {
		patience, ended = c.Duration("wait"), []string{client.Delivered, client.Dead, client.Cancelled}
	}
	late := time.After(patience)
	for {
		explained, err := api.Event(c.Context, company, event, client.ExplainQuery{})
		if err != nil || allIn(explained, ended...) {
			return explained, err
		}
		select {
		case <-time.After(triggerPoll):
		case <-late:
			return explained, nil
		case <-c.Done():
			return nil, c.Err()
		}
	}
}

// allIn reports whether every delivery of the event is in one of these states.
func allIn(explained *client.Explanation, states ...string) bool {
	return !explained.Expanding && !slices.ContainsFunc(explained.Callbacks, func(d client.Decision) bool {
		return d.Decision == "matched" && (d.Delivery == nil || !slices.Contains(states, d.Delivery.State))
	})
}

// printTriggered prints the explanation; of several events, no more than what became of each in short.
func printTriggered(out printer, explained *client.Explanation, several bool) error {
	if out.json {
		return out.raw(explained.Raw)
	}
	if several {
		return out.line("%s", printable(explained.Summary))
	}
	if err := printExplanation(out, explained, true); err != nil || explained.NextCursor == "" {
		return err
	}
	return out.line("\nThe company has more callbacks: `ringback events get %s` shows all.", printable(explained.EventID))
}
