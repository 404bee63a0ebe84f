package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func overviewCommand() *cli.Command {
	return &cli.Command{
		Name:  "overview",
		Usage: "say how the whole installation does: us or them, what is worst, what waits, what is dead",
		Description: "For who is on call: whether it is us or them, which callbacks are worst and why, how old the oldest\n" +
			"delivery is and whose, why deliveries are dead, and when the next retries come.\n" +
			"It takes an operator's or viewer's key of all companies.\n\n" +
			examples("ringback overview", "ringback overview -o json"),
		Action: overview,
	}
}

// worstLines is how many callbacks are shown: all of it fits one screen.
const worstLines = 5

func overview(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	o, err := api.Overview(c.Context)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(o.Raw)
	}
	return printOverview(out, o)
}

func printOverview(out printer, o *client.Overview) error {
	pairs := [][2]string{
		{"us or them?", o.Verdict.Sentence},
		{"worst", o.Worst.Sentence},
		{"waiting", o.Waiting.Sentence},
		{"dead", o.Dead.Sentence},
		{"retries", o.Wave.Sentence},
		{"", ""},
		{"rates", o.Rates.Sentence},
		{"callbacks", o.Callbacks.Sentence},
		{"egress", o.Egress.Sentence},
		{"workers", o.Workers.Sentence},
		{"redis", o.Redis.Sentence},
	}
	if o.Certificates.Sentence != "" { // an older server says nothing of them
		pairs = append(pairs, [2]string{"tls", o.Certificates.Sentence})
	}
	for _, missing := range o.Unread {
		pairs = append(pairs, [2]string{"missing", missing})
	}
	if bars := histogram(o.Wave.Minutes); bars != "" {
		pairs[5] = [2]string{"next hour", bars}
	}
	pairs = append(pairs, [2]string{"as of", clock(o.AsOf)})
	if err := out.pairs(pairs...); err != nil || len(o.Worst.Callbacks) == 0 {
		return err
	}
	var rows [][]string
	for _, w := range o.Worst.Callbacks[:min(worstLines, len(o.Worst.Callbacks))] {
		stands := w.Words
		if w.LastFailure != nil {
			stands += "; last failure " + w.LastFailure.Reason
		}
		rows = append(rows, []string{w.Company, fmt.Sprint(w.CallbackID), w.Host, fmt.Sprint(w.Waiting), fmt.Sprint(w.Dead), w.Side, stands})
	}
	_ = out.line("")
	return out.grid([]tableColumn{
		words("COMPANY"), words("CALLBACK"), words("HOST").dropped(1), words("WAITING"), words("DEAD"), words("WHOSE").dropped(2), sentences("HOW IT STANDS"),
	}, rows)
}

// histogram draws numbers as bars, a character each; nothing if all are 0.
func histogram(numbers []int64) string {
	const bars = "▁▂▃▄▅▆▇█"
	steps := []rune(bars)
	var most int64
	for _, n := range numbers {
		most = max(most, n)
	}
	if most == 0 {
		return ""
	}
	var b strings.Builder
	for _, n := range numbers {
		if n == 0 {
			b.WriteByte('.')
			continue
		}
		b.WriteRune(steps[(n*int64(len(steps))-1)/most])
	}
	return b.String()
}
