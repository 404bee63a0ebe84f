package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

// DefaultMaxBody is the limit on request bodies: 1 MiB, far above any payload a webhook should have.
const DefaultMaxBody = 1 << 20

// DefaultMaxInflight is how many bytes all requests together may hold for their bodies: 64 MiB.
const DefaultMaxInflight = 64 << 20

// batchBodies is how many single bodies long a batch may be: 16 MiB by default.
const batchBodies = 16

// Config is what the API needs. The API owns none of it: the caller closes what it made, after the HTTP server has shut down.
type Config struct {
	Client   *dispatcher.Client // required
	Registry *registry.Registry // required; it knows the callback types, too
	Keys     *registry.Keys     // required

	// Redis is the connection asynq's UI reads through. Required.
	Redis redis.UniversalClient

	// PublicURL is the address that people reach the pages at, as [PublicURL] returns it: links that are handed out begin with it. It is never taken from a
	// request, whose Host its sender chooses. Empty: no such links are made, and whoever asks for one is told why.
	PublicURL string

	// Guesses hold back addresses from which many unknown keys come. Default: its own. Pages that take secrets share it.
	Guesses *Guesses

	// Examine says how Redis does, for GET /overview. Nil: it is not said.
	Examine func(context.Context) dispatcher.Posture

	// Metrics answers GET /metrics. Nil: there is no such path.
	Metrics http.Handler

	// MeterProvider gets the measurements of requests. Default: OpenTelemetry's global one.
	MeterProvider metric.MeterProvider

	// Logger hears of answers of 500 and more, each with its request's name. Default: slog.Default().
	Logger *slog.Logger

	// Version is the program's, as the API's description and /healthz tell it. Default: "dev".
	Version string

	// MaxBody is how long a request's body may be, in bytes. Longer ones are answered 413. A batch may be 16 times as long, but none of its
	// lines may be longer than this. Default: [DefaultMaxBody].
	MaxBody int64

	// MaxInflight is how many bytes the bodies of all requests together may take. The bodies of one key's requests may take half as many.
	// If there is no room for a request, it is answered 503, or 429 if its key has used up its half. A body counts twice, for it is
	// copied, but its first 8 KiB do not count. Less than [LeastInflight] is an error. Default: [DefaultMaxInflight], or [LeastInflight] if
	// that is more.
	MaxInflight int64
}

// complete fills in the defaults, and returns an error if a part is missing or makes no sense.
func (cfg *Config) complete() error {
	switch {
	case cfg.Client == nil:
		return errors.New("Config.Client is missing")
	case cfg.Registry == nil:
		return errors.New("Config.Registry is missing")
	case cfg.Keys == nil:
		return errors.New("Config.Keys is missing")
	case cfg.Redis == nil:
		return errors.New("Config.Redis is missing")
	case cfg.MaxBody < 0:
		return errors.New("Config.MaxBody must not be negative")
	}
	if cfg.PublicURL != "" {
		var err error
		if cfg.PublicURL, err = PublicURL(cfg.PublicURL); err != nil {
			return fmt.Errorf("Config.PublicURL %w", err)
		}
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Logger = slog.New(NameRequests(cfg.Logger.Handler()))
	if cfg.Guesses == nil {
		cfg.Guesses = &Guesses{}
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.MaxInflight == 0 {
		cfg.MaxInflight = max(DefaultMaxInflight, LeastInflight(cfg.MaxBody))
	}
	if least := LeastInflight(cfg.MaxBody); cfg.MaxInflight < least {
		return fmt.Errorf("Config.MaxInflight must be at least %d, or no batch of the greatest length could ever arrive", least)
	}
	return nil
}

// LeastInflight is the least that [Config].MaxInflight may be for a MaxBody. The half of it that one key may have holds a batch of the
// greatest length.
func LeastInflight(maxBody int64) int64 { return 2 * copies * batchBodies * maxBody }
