package dispatcher

import (
	"context"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// beatsKey is a hash of the workers that go rounds, by their names: how many each began. Whether a worker lives is judged by whether its number changes,
// and by the clock of whoever looks: Redis's time may jump, and a key's time to live with it.
const beatsKey = "ringback:rounds"

const (
	// goneAfter is how many rounds' time a worker is counted on whose number stands still. It is well below the patience with deliveries, so a killed
	// worker's companies have another by the time that they need one.
	goneAfter = 5
	// forgottenAfter is after how many rounds' time such a number goes.
	forgottenAfter = 60
)

// peers are the workers that share out the companies: each is served by the worker whose name and the company's make the highest hash. So a worker that comes
// or goes moves its own share only. Two that serve one company for a moment do no harm: a round's steps are scripts that find done what is done.
//
// A worker that has not been seen to go on is not counted yet. So the one that starts after a crash serves everybody at once.
//
// It belongs to one goroutine.
type peers struct {
	rdb   redis.UniversalClient
	self  string
	every time.Duration // between rounds

	began  int64     // rounds, as this worker counted last
	last   time.Time // when that was
	others map[string]*beat
	alive  []string // of them
}

func newPeers(rdb redis.UniversalClient, self string, every time.Duration) *peers {
	return &peers{rdb: rdb, self: self, every: every, others: make(map[string]*beat)}
}

// A beat is what is known of another worker.
type beat struct {
	number  string
	changed time.Time
	goes    bool // it was seen to
}

// beat tells the others that a round begins here, and looks who else goes rounds. astray says that Redis does not know how many rounds this worker has begun:
// what it held is lost, or older than it was.
func (p *peers) beat(ctx context.Context) (astray bool, err error) {
	n, err := p.rdb.HIncrBy(ctx, beatsKey, p.self, 1).Result()
	if err != nil {
		return false, err
	}
	astray = n != p.began+1
	p.began, p.last = n, time.Now()
	beats, err := p.rdb.HGetAll(ctx, beatsKey).Result()
	if err != nil {
		return astray, err
	}
	return astray, p.look(ctx, beats)
}

// goesOn tells the others within a round that takes long that this worker is at work.
func (p *peers) goesOn(ctx context.Context) {
	if time.Since(p.last) < p.every {
		return
	}
	p.last = time.Now()
	if n, err := p.rdb.HIncrBy(ctx, beatsKey, p.self, 1).Result(); err == nil && n == p.began+1 { // else the next round says so
		p.began = n
	}
}

// look judges the others by their numbers.
func (p *peers) look(ctx context.Context, beats map[string]string) error {
	for name := range p.others {
		if _, there := beats[name]; !there {
			delete(p.others, name)
		}
	}
	p.alive = nil
	for name, number := range beats {
		known := p.others[name]
		switch {
		case name == p.self:
			continue
		case known == nil:
			p.others[name] = &beat{number: number, changed: time.Now()}
			continue
		case known.number != number:
			known.number, known.changed, known.goes = number, time.Now(), true
		}
		still := time.Since(known.changed)
		if known.goes && still < goneAfter*p.every {
			p.alive = append(p.alive, name)
		}
		if still >= forgottenAfter*p.every {
			if err := forgetBeat.Run(ctx, p.rdb, []string{beatsKey}, name, number).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetBeat takes a worker out that has not gone on since it was looked at.
var forgetBeat = redis.NewScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0`)

// leave tells the others that this worker goes no more rounds.
func (p *peers) leave(ctx context.Context) error { return p.rdb.HDel(ctx, beatsKey, p.self).Err() }

// mine reports whether this worker serves a company.
func (p *peers) mine(company string) bool {
	own := stake(p.self, company)
	for _, name := range p.alive {
		if other := stake(name, company); other > own || other == own && name > p.self {
			return false
		}
	}
	return true
}

// stake is a worker's in a company: the highest wins. FNV leaves neighbours alike, so its sum is stirred.
func stake(worker, company string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(strconv.Itoa(len(worker)) + worker + company))
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
