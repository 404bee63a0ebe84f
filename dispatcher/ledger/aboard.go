package ledger

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// SumLength is how many bytes an element of a batch is known by.
const SumLength = crc32.Size

// castagnoli is what processors compute by themselves: all elements of a batch are summed up before it goes out.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is what an element of a batch is known by. It tells apart what a template or an envelope makes of a payload from what it made before. It is no proof
// against who wants another text to have the same sum.
func Sum(element []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.Checksum(element, castagnoli))
}

// Events are those of the batch's members, as its list has them.
func (b *Batch) Events() string {
	events := make([]string, len(b.Members))
	for i, m := range b.Members {
		events[i] = m.Event
	}
	return strings.Join(events, " ")
}

// Aboard reads how the elements of a batch are written, and of which events the attempt's were that had that webhook-id and sent s. There are none if that is no
// longer known: the attempt was recorded late, and somebody had left the batch.
func (l *Ledger) Aboard(ctx context.Context, company string, callback int64, webhookID string, s *Sent) (b Batch, err error) {
	name := batchOf(webhookID)
	if name == "" || len(s.Sums) == 0 {
		return b, nil
	}
	values, err := l.rdb.HMGet(ctx, Key(company, "batch:"+name), "k", "e").Result()
	if err != nil {
		return b, err
	}
	texts := Strings(values)
	events := strings.Fields(cmp.Or(s.Events, texts[1]))
	if b.Element = texts[0]; len(events)*SumLength != len(s.Sums) { // a batch only loses members: as long as it has as many, they are the same
		return b, nil
	}
	for _, event := range events {
		b.Members = append(b.Members, BatchMember{Ref: Ref{company, event, callback}})
	}
	return b, nil
}

// membersAtOnce is of how many members something is read in one flight: those of others do not wait long for it.
const membersAtOnce = 100

// Complete reads what is kept of a batch's members that were sent at a time. Accepted stays zero if an event is gone; one that has its id since then is another.
// Payload stays empty if it has left, or was not asked for.
func (l *Ledger) Complete(ctx context.Context, b *Batch, sent time.Time, payloads bool) error {
	for page := range slices.Chunk(b.Members, membersAtOnce) {
		if err := l.complete(ctx, page, sent, payloads); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) complete(ctx context.Context, page []BatchMember, sent time.Time, payloads bool) error {
	heads, err := l.ofMembers(ctx, page, "m", "z", "a") // first, to learn whose bodies are those of then
	if err != nil {
		return err
	}
	var there []int
	for i, texts := range heads {
		m := &page[i]
		if accepted := LogTime(texts[2]); texts[2] != "" && !accepted.After(sent) && json.Unmarshal([]byte(texts[0]), &m.Meta) == nil {
			m.Accepted = accepted
			there = append(there, i)
		}
	}
	if !payloads || len(there) == 0 {
		return nil
	}
	// Those were in one batch: so all their bodies are not too long together.
	kept := make([]BatchMember, len(there))
	for i, at := range there {
		kept[i] = page[at]
	}
	bodies, err := l.ofMembers(ctx, kept, "b", "a")
	if err != nil {
		return err
	}
	for i, at := range there {
		m := &page[at]
		if bodies[i][1] != heads[at][2] { // it was erased between
			m.Accepted = time.Time{}
		} else if m.Payload, err = unpack([]byte(bodies[i][0]), heads[at][1]); err != nil {
			m.Payload = nil // it left between, or is damaged
		}
	}
	return nil
}

// ofMembers reads some fields of the members' events.
func (l *Ledger) ofMembers(ctx context.Context, page []BatchMember, names ...string) ([][]string, error) {
	asked := make([]*redis.SliceCmd, len(page))
	if _, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, m := range page {
			asked[i] = p.HMGet(ctx, EventKey(m.Company, m.Event), names...)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	texts := make([][]string, len(page))
	for i, cmd := range asked {
		texts[i] = Strings(cmd.Val())
	}
	return texts, nil
}
