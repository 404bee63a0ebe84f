package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func deliveriesCommand() *cli.Command {
	return &cli.Command{
		Name:  "deliveries",
		Usage: "see each event's way to each callback, and send it again",
		Subcommands: []*cli.Command{
			{
				Name:  "list",
				Usage: "list a company's deliveries, newest first",
				Flags: append([]cli.Flag{
					companyFlag(),
					&cli.StringSliceFlag{
						Name: "state", Usage: "only those in this `STATE` (repeatable): pending, active, retrying, held, delivered, dead, cancelled",
						EnvVars: []string{"RINGBACK_STATE"},
					},
					&cli.Int64Flag{Name: "callback", Usage: "only those to the callback with this `ID`", EnvVars: []string{"RINGBACK_CALLBACK"}},
					&cli.StringFlag{Name: "type", Usage: "only those of this event `TYPE`", EnvVars: []string{"RINGBACK_TYPE"}},
					timeFlag("since", "only those accepted since this RFC 3339 `TIME`", "RINGBACK_SINCE"),
					timeFlag("until", "only those accepted before this RFC 3339 `TIME`", "RINGBACK_UNTIL"),
				}, pageFlags()...),
				Action: listDeliveries,
			},
			{Name: "get", Usage: "show one delivery and its attempts", ArgsUsage: "DELIVERY_ID", Flags: []cli.Flag{companyFlag()}, Action: callDelivery(http.MethodGet, "")},
			{Name: "replay", Usage: "deliver it again, under the same webhook-id", ArgsUsage: "DELIVERY_ID", Flags: []cli.Flag{companyFlag()}, Action: callDelivery(http.MethodPost, "/replay")},
			{Name: "cancel", Usage: "give up an unfinished one", ArgsUsage: "DELIVERY_ID", Flags: []cli.Flag{companyFlag()}, Action: callDelivery(http.MethodPost, "/cancel")},
		},
	}
}

// deliveryView is what the command line reads of a delivery.
type deliveryView struct {
	DeliveryID string    `json:"delivery_id"`
	EventID    string    `json:"event_id"`
	EventType  string    `json:"event_type"`
	CallbackID int64     `json:"callback_id"`
	State      string    `json:"state"`
	HeldReason string    `json:"held_reason"`
	Summary    string    `json:"summary"`
	AcceptedAt time.Time `json:"accepted_at"`
	Attempts   []struct {
		Number     int       `json:"number"`
		StartedAt  time.Time `json:"started_at"`
		DurationMS int64     `json:"duration_ms"`
		StatusCode int       `json:"status_code"`
		Verdict    string    `json:"verdict"`
		Reason     string    `json:"reason"`
		Detail     string    `json:"detail"`
	} `json:"attempts"`
	NextAttemptAt time.Time `json:"next_attempt_at"`
}

// state is the state and, of a held delivery, why.
func (v *deliveryView) state() string {
	if v.HeldReason != "" {
		return v.State + " (" + v.HeldReason + ")"
	}
	return v.State
}

func (v *deliveryView) print(out printer) error {
	if err := out.pairs(
		[2]string{"delivery", v.DeliveryID},
		[2]string{"event", v.EventID + " (" + v.EventType + ")"},
		[2]string{"callback", fmt.Sprint(v.CallbackID)},
		[2]string{"state", v.state()},
		[2]string{"in short", v.Summary},
		[2]string{"accepted", clock(v.AcceptedAt)},
		[2]string{"next attempt", clock(v.NextAttemptAt)},
	); err != nil {
		return err
	}
	return v.printAttempts(out)
}

// printBrief leaves out what an explanation says already.
func (v *deliveryView) printBrief(out printer) error {
	if err := out.pairs(
		[2]string{"delivery", v.DeliveryID},
		[2]string{"state", v.state()},
		[2]string{"next attempt", clock(v.NextAttemptAt)},
	); err != nil {
		return err
	}
	return v.printAttempts(out)
}

func (v *deliveryView) printAttempts(out printer) error {
	if len(v.Attempts) == 0 {
		return nil
	}
	var rows [][]string
	for _, a := range v.Attempts {
		status := ""
		if a.StatusCode != 0 {
			status = fmt.Sprint(a.StatusCode)
		}
		rows = append(rows, []string{
			fmt.Sprint(a.Number), clock(a.StartedAt), took(a.DurationMS),
			status, strings.TrimSuffix(a.Verdict+" ("+a.Reason+")", " ()"), a.Detail,
		})
	}
	return out.table([]string{"ATTEMPT", "STARTED", "TOOK", "STATUS", "VERDICT", "DETAIL"}, rows)
}

// took shows whole milliseconds to people.
func took(ms int64) string {
	if ms == 0 {
		return "<1ms"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

func listDeliveries(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, path, err := forCompany(c)
	if err != nil {
		return err
	}
	query := pageQuery(c)
	for _, state := range commaSeparated(c.StringSlice("state")) {
		query.Add("state", state)
	}
	if id := c.Int64("callback"); id != 0 {
		query.Set("callback_id", fmt.Sprint(id))
	}
	setQuery(query, "event_type", c.String("type"))
	setQuery(query, "since", c.String("since"))
	setQuery(query, "until", c.String("until"))
	var page struct {
		Deliveries []deliveryView `json:"deliveries"`
		NextCursor string         `json:"next_cursor"`
	}
	answer, err := api.get(c.Context, path+"/deliveries", query, &page)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	var rows [][]string
	for _, v := range page.Deliveries {
		rows = append(rows, []string{clock(v.AcceptedAt), v.EventType, fmt.Sprint(v.CallbackID), v.state(), fmt.Sprint(len(v.Attempts)), v.DeliveryID, v.Summary})
	}
	more(c, page.NextCursor)
	return out.table([]string{"ACCEPTED", "TYPE", "CALLBACK", "STATE", "ATTEMPTS", "DELIVERY", "IN SHORT"}, rows)
}

// callDelivery calls the delivery that the command's argument names and prints what comes back.
func callDelivery(method, verb string) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c, "DELIVERY_ID")
		if err != nil {
			return err
		}
		api, path, err := forCompany(c)
		if err != nil {
			return err
		}
		answer, err := api.call(c.Context, method, path+"/deliveries/"+url.PathEscape(args[0])+verb, nil, nil)
		if err != nil {
			return err
		}
		out := newPrinter(c)
		if out.json {
			return out.raw(answer)
		}
		var view deliveryView
		if err := decode(answer, &view); err != nil {
			return err
		}
		return view.print(out)
	}
}
