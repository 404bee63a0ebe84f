package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/cmd/ringback/bench"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "measure how fast a Ringback is and what it costs, on this machine or at a server",
		Description: "Starts a Redis, `ringback serve`, a receiver and senders on loopback, sends events, counts what arrives, and ends it all again. Needs redis-server in PATH.\n" +
			"Several --binary are measured by turns and compared with the first one. Exit code 1: a delivery is missing, or its signature does not verify.\n" +
			"With --server it measures that installation, in companies of its own called bench-…, which it erases at the end. Then the key must be an\n" +
			"operator's. Never do that to one that others rely on.\n\n" +
			examples(
				"ringback bench --scenario saturate --scenario idle",
				"ringback bench --binary ./ringback-old --binary ./bin/ringback -o json",
				"ringback bench --server https://a.example --receiver-listen :9000 --receiver-url http://me.lan",
			),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "binary", Usage: "measure the program at `PATH` (repeatable)", DefaultText: "this one"},
			&cli.StringSliceFlag{Name: "scenario", Usage: "measure `NAME` only (repeatable): " + strings.Join(bench.Names(), ", ")},
			&cli.IntFlag{Name: "runs", Usage: "measure everything `N` times, and show medians", Value: bench.DefaultRuns},
			&cli.IntFlag{Name: "n", Usage: "send `N` events in each scenario", DefaultText: "each has its own number"},
			&cli.BoolFlag{Name: "short", Usage: "send a fifth of each scenario's own number of events"},
			&cli.IntFlag{Name: "callbacks", Usage: "have `N` callbacks in each company of saturate", Value: 1},
			&cli.IntFlag{Name: "companies", Usage: "have `N` companies in saturate, which get the events in turn", Value: 1},
			&cli.StringFlag{Name: "receiver-listen", Usage: "receive deliveries on `ADDR`", DefaultText: "any port of 127.0.0.1"},
			&cli.StringFlag{Name: "receiver-url", Usage: "`URL` at which --server reaches that", DefaultText: "http:// and the address"},
			&cli.BoolFlag{Name: "apart", Usage: "run the API and the workers in a process each"},
			&cli.DurationFlag{Name: "deadline", Usage: "give up a scenario after `DURATION`, and say what is missing", Value: bench.DefaultDeadline},
		},
		Action: measure,
	}
}

func measure(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	cfg, err := benchConfig(c)
	if err != nil {
		return err
	}
	report, err := bench.Run(c.Context, cfg)
	if err != nil {
		return err
	}
	if err := printReport(newPrinter(c), report); err != nil {
		return err
	}
	if missing, signatures, ids := report.Faults(); missing+signatures+ids > 0 {
		return fmt.Errorf("of all runs together, %d deliveries are missing, %d signatures do not verify, and %d deliveries came under another id: see the server's log", missing, signatures, ids)
	}
	return nil
}

func benchConfig(c *cli.Context) (bench.Config, error) {
	cfg := bench.Config{
		Binaries: c.StringSlice("binary"), Scenarios: commaSeparated(c.StringSlice("scenario")), Runs: c.Int("runs"), N: c.Int("n"), Short: c.Bool("short"),
		Callbacks: c.Int("callbacks"), Companies: c.Int("companies"), ReceiverListen: c.String("receiver-listen"), ReceiverURL: c.String("receiver-url"),
		Deadline: c.Duration("deadline"), Apart: c.Bool("apart"),
		Say: func(format string, a ...any) {
			_, _ = fmt.Fprintln(c.App.ErrWriter, printable(fmt.Sprintf(format, a...)))
		},
	}
	if c.IsSet("n") && cfg.N < 1 {
		return cfg, usagef("--n must be at least 1")
	}
	switch at, err := url.Parse(cfg.ReceiverURL); {
	case cfg.ReceiverURL == "":
	case cfg.ReceiverListen == "":
		return cfg, usagef("--receiver-url goes with --receiver-listen, which says where to receive")
	case err != nil || at.Host == "" || at.Scheme != "http":
		return cfg, usagef("--receiver-url is a URL such as http://desk.internal:9000")
	}
	var err error
	if c.IsSet("server") && c.String("server") != "" { // by the environment, too
		err = atServer(c, &cfg)
	} else {
		err = onThisMachine(&cfg)
	}
	if err != nil {
		return cfg, err
	}
	if err := cfg.Check(); err != nil {
		return cfg, usagef("%v; see `%s --help`", err, c.Command.HelpName)
	}
	return cfg, nil
}

// atServer points the config at an installation of others. The flags have to say where it delivers to, so that an exported RINGBACK_SERVER alone
// puts no load on anybody.
func atServer(c *cli.Context, cfg *bench.Config) (err error) {
	switch {
	case cfg.Apart:
		return usagef("--apart is for what ringback bench starts itself, not for --server (or RINGBACK_SERVER)")
	case len(cfg.Binaries) > 0:
		return usagef("--binary and --server (or RINGBACK_SERVER) exclude each other: say which is to be measured")
	case cfg.ReceiverListen == "":
		return usagef("--server (or RINGBACK_SERVER) is measured with --receiver-listen, the address that its deliveries come to; without a server, ringback bench starts its own")
	}
	if _, err := newAPI(c); err != nil { // it knows what is wrong with the flags
		return err
	}
	cfg.Server, cfg.Key = c.String("server"), c.String("key")
	cfg.TLS, err = clientTLS(c.String("server-ca"), c.String("client-cert"), c.String("client-key"))
	return err
}

// onThisMachine has the config start everything itself, and only there.
func onThisMachine(cfg *bench.Config) error {
	if cfg.ReceiverListen != "" {
		return usagef("--receiver-listen goes with --server: what ringback bench starts itself delivers to loopback")
	}
	cfg.ReceiverListen = "127.0.0.1:0"
	if len(cfg.Binaries) > 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return errors.New("this program cannot find itself: say with --binary where it is")
	}
	cfg.Binaries = []string{self}
	return nil
}

// A column is one figure in a table, and how it is written.
type column struct{ title, figure, format string }

var (
	speedColumns = []column{
		{"EVENTS/s", bench.AcceptedRate, "%.0f"},
		{"DELIVERIES/s", bench.DeliveryRate, "%.0f"},
		{"LOWEST", bench.LowestRate, "%.0f"},
		{"HIGHEST", bench.HighestRate, "%.0f"},
		{"OF FLOOR", bench.OfFloor, "%.2f"},
		{"P50 ms", bench.P50, "%.2f"},
		{"P95 ms", bench.P95, "%.2f"},
		{"P99 ms", bench.P99, "%.2f"},
		{"RATE/CALM", bench.RateOfCalm, "%.2f"},
		{"P99/CALM", bench.P99OfCalm, "%.2f"},
		{"TOLD", bench.Told, "%.0f"},
		{"MISSING", bench.Missing, "%.0f"},
		{"DUPLICATES", bench.Duplicates, "%.0f"},
		{"UNVERIFIED", bench.BadSignatures, "%.0f"},
	}
	costColumns = []column{
		{"RINGBACK CPU s/1000", bench.RingbackCPU, "%.3f"},
		{"REDIS CPU s/1000", bench.RedisCPU, "%.3f"},
		{"OTHERS CPU", bench.OthersCPU, "%.2f"},
		{"REDIS µs", bench.RedisTime, "%.0f"},
		{"REDIS CALLS", bench.RedisCalls, "%.1f"},
		{"REDIS BYTES", bench.RedisBytes, "%.0f"},
		{"RINGBACK MiB", bench.RingbackRSS, "%.0f"},
	}
	ratioColumns = []column{
		{"EVENTS/s", bench.AcceptedRate, "%.2f"},
		{"DELIVERIES/s", bench.DeliveryRate, "%.2f"},
		{"P50", bench.P50, "%.2f"},
		{"P95", bench.P95, "%.2f"},
		{"P99", bench.P99, "%.2f"},
		{"RINGBACK CPU", bench.RingbackCPU, "%.2f"},
		{"REDIS CPU", bench.RedisCPU, "%.2f"},
		{"REDIS µs", bench.RedisTime, "%.2f"},
		{"CALLS", bench.RedisCalls, "%.2f"},
		{"BYTES", bench.RedisBytes, "%.2f"},
		{"MiB", bench.RingbackRSS, "%.2f"},
	}
)

func printReport(out printer, r *bench.Report) error {
	if out.json {
		return out.value(r)
	}
	for _, b := range r.Binaries {
		_ = out.line("binary %d: %s, %s", b.Number, printable(b.Path), printable(b.Version))
	}
	if r.Server != "" {
		_ = out.line("server: %s", printable(r.Server))
	}
	_ = out.line("\nFigures are medians (runs: %d). Latencies are from an event's acceptance to its arrival; of sync, they are what Ringback adds.", r.Runs)
	if err := printFigures(out, r, speedColumns, func(result *bench.Result) bench.Figures { return result.Median }); err != nil {
		return err
	}
	if len(r.Floors) > 0 {
		_ = out.line("\nFloors: %.0f/s accepted by a handler that only reads, %.0f/s tasks through asynq, %.0f/s signed posts to the receiver.",
			r.Floors[bench.FloorAccept], r.Floors[bench.FloorAsynq], r.Floors[bench.FloorPost])
		_ = out.line("\nWhat a delivery costs, its event's acceptance included:")
		if err := printFigures(out, r, costColumns, func(result *bench.Result) bench.Figures { return result.Median }); err != nil {
			return err
		}
	}
	if len(r.Binaries) > 1 {
		_ = out.line("\nAs a multiple of binary 1:")
		if err := printFigures(out, r, ratioColumns, func(result *bench.Result) bench.Figures { return result.Ratios }); err != nil {
			return err
		}
	}
	for _, note := range r.Notes {
		_ = out.line("\n%s.", note)
	}
	return nil
}

// printFigures prints a table of the figures that of gives for each result, without rows and columns that have none.
func printFigures(out printer, r *bench.Report, columns []column, of func(*bench.Result) bench.Figures) error {
	shown := slices.DeleteFunc(slices.Clone(r.Results), func(result *bench.Result) bool { return len(of(result)) == 0 })
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !slices.ContainsFunc(shown, func(result *bench.Result) bool { _, ok := of(result)[c.figure]; return ok })
	})
	header := []string{"SCENARIO", "BINARY"}
	for _, c := range columns {
		header = append(header, c.title)
	}
	var rows [][]string
	for _, result := range shown {
		row := []string{result.Name(), strconv.Itoa(result.Binary)}
		for _, c := range columns {
			cell := ""
			if value, ok := of(result)[c.figure]; ok {
				cell = fmt.Sprintf(c.format, value)
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return out.table(header, rows)
}
