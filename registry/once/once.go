// Package once has a request that is repeated act once.
//
// A request with an Idempotency-Key has a [Claim] in its context: a hash in Redis, and a token that stands in it for as long as the request is the one that may
// act. The scripts that act are each a [Script]. Under a claim it runs in a variant that looks at the token first, and writes what it answered into the claim in
// the same run. So there is neither the act without its note, nor the note without the act, whenever a process is killed. A repeat that takes the claim over is
// told by the script what it answered then, and nothing happens twice. Without a claim the script is the plain one.
//
// What a process makes up before it acts, such as a secret or an id, it notes ([Note]). The notes are sealed, and are written with the script's answer. Who
// repeats the request finds them ([Noted]), and so gives the same answer.
package once

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"
)

// ErrTaken says that a repeat of the request took its claim over, which took too long, or that the claim is gone. Nothing was done.
var ErrTaken = errors.New("another request with the same Idempotency-Key goes on with this one: repeat it in a moment for its answer")

// A Claim is a request's right to act. It is for one goroutine.
type Claim struct {
	Key   string                             // of the hash, in the slot of what the scripts write
	Token string                             // which must still stand in it
	Seal  func(plain []byte) ([]byte, error) // for the notes
	Notes map[string]json.RawMessage         // of the run that acted, where a repeat takes over; else nil
}

type claimKey struct{}

// With is a context whose scripts act under a claim.
func With(ctx context.Context, c *Claim) context.Context {
	return context.WithValue(ctx, claimKey{}, c)
}

func claimOf(ctx context.Context) *Claim {
	c, _ := ctx.Value(claimKey{}).(*Claim)
	return c
}

// Note has the next step that acts write down v under a name. Without a claim it does nothing.
func Note(ctx context.Context, name string, v any) error {
	c := claimOf(ctx)
	if c == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("once: note %s: %w", name, err)
	}
	if c.Notes == nil {
		c.Notes = map[string]json.RawMessage{}
	}
	c.Notes[name] = text
	return nil
}

// Noted reads what was noted under a name by the run that acted before. found is false where nobody did.
func Noted(ctx context.Context, name string, into any) (found bool, err error) {
	c := claimOf(ctx)
	if c == nil {
		return false, nil
	}
	text, found := c.Notes[name]
	if !found {
		return false, nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return false, fmt.Errorf("once: the note %s is not readable", name) // not wrapped: it may quote
	}
	return true, nil
}

// Unique is a text that only repeats of the same request have, for what a script writes down of it before the note of its claim.
func Unique(ctx context.Context) string {
	c := claimOf(ctx)
	if c == nil {
		return rand.Text()
	}
	sum := sha256.Sum256([]byte(c.Key))
	return hex.EncodeToString(sum[:16])
}

// A Runner is a script.
type Runner interface {
	Run(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) *redis.Cmd
}

// A Script is one that acts.
type Script struct {
	plain, kept *redis.Script
}

// New makes a Script of a text. step names it among those of a request. acted is a Lua expression about reply: whether that is the answer of a run that acted.
func New(step, text, acted string) *Script {
	return &Script{plain: redis.NewScript(text), kept: redis.NewScript(fmt.Sprintf(around, step, text, acted))}
}

// HashUnderClaim is what Redis calls the script as it runs under a claim.
func (s *Script) HashUnderClaim() string { return s.kept.Hash() }

// around is a script under a claim. The claim's key stands behind the script's own, and behind its arguments the token and the notes.
const around = `
local claim, notes, token = table.remove(KEYS), table.remove(ARGV), table.remove(ARGV)
local step = 'r:%s'
local known = redis.call('HMGET', claim, 't', step)
if known[1] ~= token then return {'once', 'taken'} end
if known[2] then return {'once', 'done', known[2]} end
local function act()
%s
end
local function written(v)
  if type(v) == 'number' then return 'i' .. string.format('%%.0f', v) .. ';' end
  if type(v) == 'string' then return 's' .. #v .. ':' .. v end
  if type(v) ~= 'table' then return 'n' end
  if v.ok then return written(v.ok) end
  local parts = {}
  for i, part in ipairs(v) do parts[i] = written(part) end
  return 'a' .. #parts .. ':' .. table.concat(parts)
end
local reply = act()
if %s then redis.call('HSET', claim, step, written(reply), 'n', notes) end
return reply`

// Run runs the script, or under a claim says what it answered before.
func (s *Script) Run(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) *redis.Cmd {
	c := claimOf(ctx)
	if c == nil {
		return s.plain.Run(ctx, rdb, keys, args...)
	}
	notes, err := c.sealed()
	if err != nil {
		return redis.NewCmdResult(nil, err)
	}
	cmd := s.kept.Run(ctx, rdb, append(slices.Clone(keys), c.Key), append(slices.Clone(args), c.Token, notes)...)
	reply, isList := cmd.Val().([]any)
	switch {
	case cmd.Err() != nil, !isList, len(reply) < 2, reply[0] != "once":
		return cmd
	case reply[1] == "taken":
		return redis.NewCmdResult(nil, ErrTaken)
	}
	text, _ := reply[2].(string)
	v, err := readReply(text)
	if v == nil && err == nil {
		err = redis.Nil
	}
	return redis.NewCmdResult(v, err)
}

// sealed are the notes as they are written.
func (c *Claim) sealed() ([]byte, error) {
	plain, err := json.Marshal(c.Notes)
	if err != nil {
		return nil, fmt.Errorf("once: write the notes: %w", err)
	}
	return c.Seal(plain)
}

// Read reads the notes of a claim that is taken over.
func (c *Claim) Read(plain []byte) error {
	var notes map[string]json.RawMessage
	if err := json.Unmarshal(plain, &notes); err != nil {
		return errors.New("once: the notes are not readable") // not wrapped: it may quote
	}
	c.Notes = maps.Clone(notes)
	return nil
}
