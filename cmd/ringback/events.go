package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "hand over events, and ask what became of them",
		Subcommands: []*cli.Command{
			{
				Name:  "send",
				Usage: "hand over one event",
				Flags: []cli.Flag{
					companyFlag(),
					&cli.StringFlag{Name: "type", Usage: "event `TYPE`, see `ringback events types`", EnvVars: []string{"RINGBACK_TYPE"}},
					&cli.StringFlag{Name: "payload", Usage: "JSON from `FILE` (- is stdin)", EnvVars: []string{"RINGBACK_PAYLOAD"}},
					&cli.StringFlag{Name: "event-id", Usage: "your own `ID`: sent twice, it is delivered once", EnvVars: []string{"RINGBACK_EVENT_ID"}},
				},
				Action: sendEvent,
			},
			{
				Name: "get", Usage: "explain what became of an event, callback by callback", ArgsUsage: "EVENT_ID",
				Flags: append([]cli.Flag{
					companyFlag(),
					&cli.Int64Flag{Name: "callback", Usage: "only as to the callback with this `ID`", EnvVars: []string{"RINGBACK_CALLBACK"}},
				}, pageFlags()...),
				Action: explainEvent,
			},
			{Name: "types", Usage: "list the types of events", Action: listTypes},
		},
	}
}

func sendEvent(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	if c.String("type") == "" || c.String("payload") == "" {
		return usagef("%s needs --type and --payload; `ringback events types` lists the types", c.Command.HelpName)
	}
	api, path, err := forCompany(c)
	if err != nil {
		return err
	}
	payload, err := readJSON(c, c.String("payload"))
	if err != nil {
		return err
	}
	body, err := eventBody(c.String("type"), c.String("event-id"), payload)
	if err != nil {
		return err
	}
	answer, err := api.call(c.Context, http.MethodPost, path+"/events", nil, body)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	return printReceipt(out, answer)
}

// eventBody writes the request by hand where it matters: encoding/json would compact and escape the payload, and it has to go
// out byte for byte.
func eventBody(typ, id string, payload json.RawMessage) ([]byte, error) {
	members := map[string]string{"event_type": typ}
	if id != "" {
		members["event_id"] = id
	}
	head, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	body := append(head[:len(head)-1], `,"payload":`...)
	body = append(body, strings.TrimSpace(string(payload))...)
	return append(body, '}'), nil
}

func printReceipt(out printer, answer json.RawMessage) error {
	var receipt struct {
		EventID    string `json:"event_id"`
		EventType  string `json:"event_type"`
		Duplicate  bool   `json:"duplicate"`
		Deliveries []struct {
			DeliveryID string `json:"delivery_id"`
			CallbackID int64  `json:"callback_id"`
			State      string `json:"state"`
		} `json:"deliveries"`
	}
	if err := decode(answer, &receipt); err != nil {
		return err
	}
	said := fmt.Sprintf("%s (%s) is accepted", receipt.EventID, receipt.EventType)
	if receipt.Duplicate {
		said = fmt.Sprintf("%s (%s) was accepted before; nothing is sent again", receipt.EventID, receipt.EventType)
	}
	if len(receipt.Deliveries) == 0 {
		return out.line("%s; no callback matches it. `ringback events get %s` says why.", printable(said), printable(receipt.EventID))
	}
	if err := out.line("%s", printable(said)); err != nil {
		return err
	}
	var rows [][]string
	for _, d := range receipt.Deliveries {
		rows = append(rows, []string{d.DeliveryID, fmt.Sprint(d.CallbackID), d.State})
	}
	return out.table([]string{"DELIVERY", "CALLBACK", "STATE"}, rows)
}

func explainEvent(c *cli.Context) error {
	args, err := arguments(c, "EVENT_ID")
	if err != nil {
		return err
	}
	api, path, err := forCompany(c)
	if err != nil {
		return err
	}
	query := pageQuery(c)
	if id := c.Int64("callback"); id != 0 {
		query.Set("callback_id", fmt.Sprint(id))
	}
	var explained struct {
		EventID    string    `json:"event_id"`
		EventType  string    `json:"event_type"`
		AcceptedAt time.Time `json:"accepted_at"`
		Callbacks  []struct {
			CallbackID   int64         `json:"callback_id"`
			CallbackType string        `json:"callback_type"`
			Decision     string        `json:"decision"`
			Why          string        `json:"why"`
			Delivery     *deliveryView `json:"delivery"`
		} `json:"callbacks"`
		NextCursor string `json:"next_cursor"`
	}
	answer, err := api.get(c.Context, path+"/events/"+url.PathEscape(args[0]), query, &explained)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	if err := out.line("%s (%s), accepted %s", printable(explained.EventID), printable(explained.EventType), clock(explained.AcceptedAt)); err != nil {
		return err
	}
	if len(explained.Callbacks) == 0 {
		return out.line("the company has no callbacks: `ringback callbacks create` registers one")
	}
	for _, cb := range explained.Callbacks {
		if err := out.line("\ncallback %d (%s): %s: %s", cb.CallbackID, printable(cb.CallbackType), strings.ReplaceAll(cb.Decision, "_", " "), printable(cb.Why)); err != nil {
			return err
		}
		if cb.Delivery != nil {
			if err := cb.Delivery.printBrief(out); err != nil {
				return err
			}
		}
	}
	more(c, explained.NextCursor)
	return nil
}

func listTypes(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, err := newAPIClient(c)
	if err != nil {
		return err
	}
	answer, err := api.call(c.Context, http.MethodGet, "/callback-types", nil, nil)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	var list struct {
		Types []struct {
			Name        string            `json:"name"`
			Description string            `json:"description"`
			Match       map[string]string `json:"match"`
		} `json:"callback_types"`
	}
	if err := decode(answer, &list); err != nil {
		return err
	}
	var rows [][]string
	for _, t := range list.Types {
		rows = append(rows, []string{t.Name, strings.Join(slices.Sorted(maps.Keys(t.Match)), ", "), t.Description})
	}
	return out.table([]string{"TYPE", "MATCHES ON", "WHAT IT SAYS"}, rows)
}
