package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
)

const (
	defaultReceiver = "127.0.0.1:9000"
	envListen       = "RINGBACK_RECEIVER_LISTEN"
)

func listenCommand() *cli.Command {
	return &cli.Command{
		Name:  "listen",
		Usage: "receive deliveries at your desk: verify the signature, print, answer",
		Description: "Register its URL as a callback's destination, then watch what arrives. Any path is taken, and challenges are answered.\n" +
			"`ringback dev` delivers to loopback; other servers only where --egress-allow says so.\n\n" +
			"With --follow it takes no requests. It asks the server instead for what is sent to callbacks wherever they are, and passes each attempt on\n" +
			"as it went out, with *** for secrets. Whoever is there has answered already, and decides alone what becomes of a delivery.\n\n" +
			examples(
				"ringback listen --secret whsec_… --respond 503,503,204",
				"ringback listen --listen 127.0.0.1:9000 --forward-to http://127.0.0.1:3000/hook",
				"ringback listen --follow --callback 12 --forward-to http://127.0.0.1:3000/hook",
			),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "receive on `ADDR`", Value: defaultReceiver, EnvVars: []string{envListen}},
			&cli.StringSliceFlag{Name: "secret", Usage: "signing `SECRET` of a callback, whsec_… (repeatable); what does not verify is answered 401, unless --respond or --forward-to is given", EnvVars: []string{"RINGBACK_SECRET"}},
			styleFlag("header `STYLE` of the callbacks: standard, svix, github or stripe; with the last two any text is a --secret; default: what each request's headers say"),
			&cli.StringSliceFlag{
				Name: "respond", Usage: "answer with `STATUS`, verified or not, or with several in turn, the last one for good: 503,503,204", Value: cli.NewStringSlice("204"),
			},
			&cli.StringFlag{Name: "forward-to", Usage: "hand each request on to `URL` and answer what it answers"},
			&cli.BoolFlag{Name: "follow", Usage: "instead of receiving, get from the server what it sends to callbacks, as it happens"},
			companyFlag(),
			&cli.Int64Flag{Name: "callback", Usage: "with --follow, only what is sent to the callback with this `ID`"},
			&cli.StringFlag{Name: "type", Usage: "with --follow, only events of this `TYPE`"},
			&cli.BoolFlag{Name: "quiet", Usage: "one line for each request, without its body"},
		},
		Action: listen,
	}
}

func listen(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	if err := checkFollow(c); err != nil {
		return err
	}
	receiver, err := newReceiver(c)
	if err != nil {
		return err
	}
	if c.Bool("follow") {
		return followDeliveries(c, receiver)
	}
	ln, err := bind(c.Context, c.String("listen"))
	if err != nil {
		return err
	}
	receiver.announce(c, "Listening on http://%s: register a URL there as a callback's destination. Ctrl-C ends.\n", ln.Addr())
	return serveUntil(c.Context, ln, receiver)
}

// checkFollow finds flags that go with --follow alone, or not with it.
func checkFollow(c *cli.Context) error {
	follows := c.Bool("follow")
	for _, name := range []string{"callback", "type"} {
		if c.IsSet(name) && !follows {
			return usagef("--%s goes with --follow: without it, everything is taken that arrives", name)
		}
	}
	switch {
	case !follows:
		return nil
	case c.IsSet("respond"):
		return usagef("--respond and --follow exclude each other: the callback's endpoint answers, and this only sees what it was sent")
	case c.String("listen") != defaultReceiver && c.String("listen") != os.Getenv(envListen):
		return usagef("--listen and --follow exclude each other: with --follow, deliveries come from the server, and nothing listens here")
	}
	return nil
}

// serveUntil serves h on ln until ctx ends, then lets requests under way finish for a moment.
func serveUntil(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(last)
	})
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		wg.Wait()
		return nil
	}
	return fmt.Errorf("stopped receiving: %w", err)
}
