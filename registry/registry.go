package registry

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry/steady"
)

// Config is what a Registry needs.
type Config struct {
	// Redis holds everything. Required.
	Redis redis.UniversalClient

	// Catalogue holds the callback types that Ringback comes with. Required.
	Catalogue *payloads.Catalogue

	// Keyset seals what is stored. Required, and the same in all processes.
	Keyset *Keyset

	// CheckURL says whether requests may go to a URL. If not, its error says what to
	// do instead, and does not repeat the URL. Nil: any absolute http or https URL.
	CheckURL func(string) error

	// VerifyDestinations makes each new callback [Unverified], and each whose url
	// or token_url changes. Its deliveries are held until its endpoint has answered
	// a challenge, which [Registry.Verified] is told.
	VerifyDestinations bool

	// PublicURL is the address that partners reach this installation at, such as https://ringback.example.com, without a slash at its end. Empty: there is
	// none, and no callback gets a thin body.
	PublicURL string

	// Logger gets one line per change. Nil: nothing is logged.
	Logger *slog.Logger

	// Clock is the installation's time as the process knows it. Nil: it is what is
	// written down.
	Clock *steady.Clock
}

// Registry keeps the callbacks of all companies. It is safe for concurrent use and
// needs no closing: goroutines of its own end within a second.
//
// Its methods return an *payloads.InvalidError for a company that cannot be one. Known,
// IDs, CountStatuses and TrimAudit do not look at the name, and find nothing under such
// a one. They are for names out of Redis, where no other is written, and for an erasure,
// whose caller has looked.
//
// If Redis could not be asked or did not answer, the methods return a wrapped error of
// Redis.
type Registry struct {
	redis     redis.UniversalClient
	types     *Types
	keyset    *Keyset
	checkURL  func(string) error
	verify    bool
	publicURL string
	log       *slog.Logger
	clock     *steady.Clock // may be nil

	companies sync.Map // company's name -> *company
	presence  presence
	naming    renewal // of companies' names
	urls      sealedURLs
}

// New returns a registry on the given Redis. It does not talk to it yet: call
// [Registry.CheckKeyset] once before use.
func New(cfg Config) (*Registry, error) {
	switch {
	case cfg.Redis == nil:
		return nil, errors.New("registry: Config.Redis is missing")
	case cfg.Catalogue == nil:
		return nil, errors.New("registry: Config.Catalogue is missing")
	case cfg.Keyset == nil:
		return nil, errors.New("registry: Config.Keyset is missing")
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	types := newTypes(cfg.Redis, cfg.Clock, cfg.Catalogue, log)
	return &Registry{redis: cfg.Redis, types: types, keyset: cfg.Keyset, checkURL: cfg.CheckURL, verify: cfg.VerifyDestinations, publicURL: cfg.PublicURL, log: log, clock: cfg.Clock}, nil
}

// Types are the callback types there are.
func (r *Registry) Types() *Types { return r.types }

// KnownEverywhere returns an *OldProcessError while a process of the installation is alive whose level is below needs, the level that
// brought what is asked for. Other errors are Redis's. It asks Redis at most once a second. Call it before anything new is written.
func (r *Registry) KnownEverywhere(ctx context.Context, what string, needs int) error {
	seen, err := r.presence.look(ctx, r.redis, r.clock)
	if err != nil {
		return err
	}
	return seen.know(what, needs)
}
