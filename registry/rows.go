package registry

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// rowChunk is how many rows are read, and sealed anew, at a time.
const rowChunk = 100

// A row is a callback as it stands in Redis.
type row struct {
	id     int64
	sealed []byte
	anchor string // of its seal; empty: it has none
}

// rows gives a company's callbacks to visit, some at a time.
func (r *Registry) rows(ctx context.Context, company string, visit func([]row) error) error {
	ids, err := r.IDs(ctx, company, false)
	if err != nil {
		return err
	}
	slices.Sort(ids)
	for chunk := range slices.Chunk(ids, rowChunk) {
		fields := make([]string, len(chunk))
		for i, id := range chunk {
			fields[i] = strconv.FormatInt(id, 10)
		}
		var values, anchors *redis.SliceCmd
		if _, err := r.redis.TxPipelined(ctx, func(p redis.Pipeliner) error { // at one moment
			values, anchors = p.HMGet(ctx, callbacksKey(company), fields...), p.HMGet(ctx, anchorsKey(company), fields...)
			return nil
		}); err != nil {
			return fmt.Errorf("registry: read the callbacks of company %s: %w", company, err)
		}
		var there []row
		for i, value := range values.Val() {
			if text, ok := value.(string); ok { // else it was deleted meanwhile
				anchor, _ := anchors.Val()[i].(string)
				there = append(there, row{chunk[i], []byte(text), anchor})
			}
		}
		if err := visit(there); err != nil {
			return err
		}
	}
	return nil
}
