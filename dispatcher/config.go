package dispatcher

import (
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

// Config is what a [Client] needs.
type Config struct {
	Redis    redis.UniversalClient // required; the caller closes it, after Client and Worker
	Registry *registry.Registry    // required; it knows the callback types, too
	Egress   *egress.Client        // required; the caller closes it
	Logger   *slog.Logger          // default: slog.Default()
	Clock    *steady.Clock         // the installation's time as the process knows it; the caller closes it, after Client; default: one of the Client's own

	// UserAgent is sent with every request. Default "Ringback".
	UserAgent string
	// Origin is who asks in the handshake of CloudEvents (see [Client.Verify]): a DNS name that partners know this sender by. Default
	// [DefaultOrigin].
	Origin string

	TracerProvider trace.TracerProvider // default: otel's global one
	MeterProvider  metric.MeterProvider // default: otel's global one

	// Retention is how long an event is kept once none of its deliveries is unfinished or dead, and with it its event id and its
	// explanation. Whole seconds, at least a second; default 72 h.
	Retention time.Duration
	// BodyRetention is how long the body of such an event is kept. What became of the event is shown until Retention is over, but it cannot be replayed any
	// more. What has a delivery in the dead-letter book keeps its body. Whole seconds, at least a second, and at most Retention; 0 is as long as the event.
	BodyRetention time.Duration
	// DeadRetention is how long a dead delivery is kept in the dead-letter book, counted from its death; then it goes with its event, after
	// Retention. Deliveries that will go within the next tenth of it are announced, in the log and as a metric. None goes that was not announced
	// for so long. At least a second; default 720 h.
	DeadRetention time.Duration
	// Window is how many deliveries of one callback may be in the lanes at once; the others wait in its room. An event with many callbacks finds
	// its share of each one's. Default 1,000.
	// Tests make it small.
	Window int
	// HoldMaxAge is how long a delivery may be held in its callback's room, and HoldMaxCount how many of a callback's may be there: past
	// them the oldest go to the dead-letter book as hold_expired and hold_full. Whole seconds, at least one; defaults 72 h and 100,000.
	HoldMaxAge   time.Duration
	HoldMaxCount int
	// DisableAfter is how long a callback may do nothing but fail, in 20 attempts at least, before it is disabled. Whole seconds, at least
	// one; default 120 h. Negative: for ever.
	DisableAfter time.Duration
	// Patience is how long a pending delivery may wait for its attempt, and a retry beyond its time, before the reconciler asks asynq for its
	// task. At least a millisecond; default [DefaultPatience]. Tests make it short.
	Patience time.Duration
	// OwnerGrace is how long beyond its timeout an attempt's owner has for everything else, until the attempt counts as lost and is made
	// again. Two thirds of it are for recording the outcome while Redis fails. At least a millisecond; default [DefaultOwnerGrace]. Tests make
	// it short.
	OwnerGrace time.Duration
	// WaitReplicas is how many replicas must hold an event before it counts as accepted (Redis WAIT, 1 s at most). Default 0.
	WaitReplicas int
	// KeepRequests says of which attempts the request is kept as it went out, and the timing: of the last three of a delivery. [KeepAll] is the default;
	// [KeepFailed], [KeepNone].
	KeepRequests Keep
	// KeepAnswers says of which attempts the partner's answer is kept: of the last three of a delivery that did not deliver ([KeepFailed], the default), or of the
	// last three ([KeepAll]).
	KeepAnswers Keep
	// KeepAnswerBytes is how much of an answer is kept, headers and body together. At most [MaxKeepAnswerBytes]; default [DefaultKeepAnswerBytes]. Negative:
	// nothing.
	KeepAnswerBytes int
	// ShedAt is the percentage of Redis's maxmemory from which on events are refused with [ErrOverloaded]. Default [DefaultShedAt].
	ShedAt int
}

// DefaultRetention is how long finished events are kept.
const DefaultRetention = 72 * time.Hour

// DefaultDeadRetention is how long the dead are kept: time for a partner to hear of it, to mend the endpoint and to ask for a replay.
const DefaultDeadRetention = 720 * time.Hour

// DefaultWindow is how many of a callback's deliveries may be in the lanes: enough to keep any one receiver busy, little enough that
// a blocked callback's tasks never stand in the way of others for long.
const DefaultWindow = 1000

// Defaults of what may be held.
const (
	DefaultHoldMaxAge   = 72 * time.Hour
	DefaultHoldMaxCount = 100_000
)

// DefaultDisableAfter is how long callbacks may do nothing but fail: five days.
const DefaultDisableAfter = 120 * time.Hour

// DefaultPatience is how long the reconciler leaves a delivery to asynq: longer than a busy lane or asynq's repair of a lost worker takes
// as a rule, since each look costs Redis a few commands.
const DefaultPatience = 25 * time.Second

// DefaultOwnerGrace is how long an attempt may take beyond its timeout: Redis may stall or be replaced meanwhile, and the machine be busy.
const DefaultOwnerGrace = 15 * time.Second

// rules are what of the configuration the ledger keeps to.
func (cfg *Config) rules() ledger.Rules {
	return ledger.Rules{
		Window: defaulted(cfg.Window, DefaultWindow), Retention: defaulted(cfg.Retention, DefaultRetention),
		HoldMaxCount: defaulted(cfg.HoldMaxCount, DefaultHoldMaxCount), HoldMaxAge: defaulted(cfg.HoldMaxAge, DefaultHoldMaxAge),
		DisableAfter: max(0, defaulted(cfg.DisableAfter, DefaultDisableAfter)), Patience: defaulted(cfg.Patience, DefaultPatience),
		BodyRetention: cfg.BodyRetention,
	}
}

// keeping is what of the exchanges with partners is kept.
func (cfg *Config) keeping() keeping {
	return keeping{
		requests: defaulted(cfg.KeepRequests, KeepAll), answers: defaulted(cfg.KeepAnswers, KeepFailed),
		answerBytes: max(0, defaulted(cfg.KeepAnswerBytes, DefaultKeepAnswerBytes)),
	}
}

func defaulted[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// DefaultOrigin is who asks in the handshake of CloudEvents.
const DefaultOrigin = "ringback"

// DefaultShedAt is how full of its maxmemory Redis may be, in percent, while events are still accepted. A full Redis stops asynq's workers
// too, and then nothing makes room any more: so it must never get there.
const DefaultShedAt = 70

// check says what is wrong with a configuration.
func (cfg *Config) check() error {
	switch {
	case cfg.Redis == nil:
		return errors.New("dispatcher: Config.Redis is missing")
	case cfg.Registry == nil:
		return errors.New("dispatcher: Config.Registry is missing")
	case cfg.Egress == nil:
		return errors.New("dispatcher: Config.Egress is missing")
	case cfg.Retention != 0 && cfg.Retention < time.Second:
		return errors.New("dispatcher: Config.Retention must be at least one second")
	case cfg.BodyRetention != 0 && cfg.BodyRetention < time.Second, cfg.BodyRetention > defaulted(cfg.Retention, DefaultRetention):
		return errors.New("dispatcher: Config.BodyRetention must be at least one second, and not longer than Config.Retention")
	case cfg.DeadRetention != 0 && cfg.DeadRetention < time.Second:
		return errors.New("dispatcher: Config.DeadRetention must be at least one second")
	case cfg.HoldMaxAge != 0 && cfg.HoldMaxAge < time.Second, cfg.HoldMaxCount < 0:
		return errors.New("dispatcher: Config.HoldMaxAge must be at least one second, and Config.HoldMaxCount not negative")
	case cfg.DisableAfter > 0 && cfg.DisableAfter < time.Second:
		return errors.New("dispatcher: Config.DisableAfter must be at least one second, or negative for never")
	case cfg.Patience != 0 && cfg.Patience < time.Millisecond, cfg.OwnerGrace != 0 && cfg.OwnerGrace < time.Millisecond:
		return errors.New("dispatcher: Config.Patience and Config.OwnerGrace must be at least one millisecond")
	case cfg.Window < 0, cfg.WaitReplicas < 0, cfg.ShedAt < 0:
		return errors.New("dispatcher: Config.Window, Config.WaitReplicas and Config.ShedAt must not be negative")
	}
	return cfg.keeping().check()
}
