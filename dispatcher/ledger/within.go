package ledger

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// batched is the name of the batch that a delivery with this record travels in; ok is false if it travels by itself.
func (r Record) batched() (name string, ok bool) {
	name, ok = strings.CutPrefix(r.Token, batchMark)
	return name, ok && r.State == 'A'
}

// within is the record of a delivery in a batch, with what the batch's own says.
func (r Record) within(batch Record, webhookID string) Record {
	before := r.Number
	r.State, r.At, r.Spent, r.Number, r.Batch = batch.State, batch.At, batch.Spent, before+batch.Number, webhookID
	for _, e := range ParseEntries(batch.Attempts) {
		e.Number += before
		r.Attempts += "\n" + e.Line()
	}
	return r
}

// follow completes the records of events of a company, each by callback: deliveries that travel in batches stand as those do. A batch that has ended since
// has left it to them.
func (l *Ledger) follow(ctx context.Context, company string, events ...map[int64]Record) error {
	type place struct {
		records  map[int64]Record
		callback int64
		read     *redis.SliceCmd
	}
	var places []place
	pipe := l.rdb.Pipeline()
	for _, records := range events {
		for cb, rec := range records {
			if name, ok := rec.batched(); ok {
				places = append(places, place{records, cb, pipe.HMGet(ctx, Key(company, "batch:"+name), RecordField(cb), "w")})
			}
		}
	}
	if len(places) == 0 {
		return nil
	}
	if err := execute(ctx, pipe); err != nil {
		return err
	}
	for _, p := range places {
		a := &answer{left: Strings(p.read.Val())}
		record := a.text()
		if record == "" {
			continue
		}
		batch, err := ParseRecord(record)
		if err != nil {
			return err
		}
		if StateOf[batch.State].Final() { // it ended between the two looks
			batch.State = 'A'
		}
		p.records[p.callback] = p.records[p.callback].within(batch, a.text())
	}
	return nil
}
