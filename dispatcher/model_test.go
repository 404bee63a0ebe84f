package dispatcher

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// models are the SHA-256 of the data models' files, by number, and of the files of what was added to them. A program of one model runs beside those
// of the same one, so what is written here stays: a key of another type or a record of another format is a new model, with a file, a line here, a
// higher ledger.Model and a migration, or a [ledger.Ledger.Raised] before it is written. A key or a field that programs of before leave alone is an addition.
var models = map[string]string{
	"1":           "b2e3df5c6408df964a175996105cc6ebe99ab6cc7b01fe1a10052c33fb0428b8",
	"1-additions": "81091d5709f765446f83bfe66ead4a150f4d6c42a1d9f478831f0b7e121dcd2d",
	"2":           "998e327435dfe91035f97517f9b0ab46b2cc357b03a43a61898ef67d937c8428",
	"2-additions": "48c0484017e4a40091a6c3efdc755e64276d4a45158cf963f7b5ca4a0a2a8461",
}

// TestTheModelIsPinned: nobody changes what a number stands for.
func TestTheModelIsPinned(t *testing.T) {
	for name, want := range models {
		text, err := os.ReadFile(modelFile(name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s is another than it was, %s: write a new model instead", modelFile(name), got)
		}
	}
	if _, ok := models[strconv.Itoa(ledger.Model)]; !ok {
		t.Errorf("data model %d has no file", ledger.Model)
	}
}

func modelFile(name string) string { return "testdata/model" + name + ".txt" }

// A shape is a line of a model's file.
type shape struct {
	kind              string
	key, field, value *regexp.Regexp
}

var shapes = sync.OnceValues(func() (all []shape, err error) {
	number := strconv.Itoa(ledger.Model)
	text, err := os.ReadFile(modelFile(number))
	if err != nil {
		return nil, err
	}
	if _, ok := models[number+"-additions"]; ok {
		more, err := os.ReadFile(modelFile(number + "-additions"))
		if err != nil {
			return nil, err
		}
		text = append(text, more...)
	}
	words := strings.NewReplacer(
		"{c}", `\{[^{}]+\}`, "EVENT", `[A-Za-z0-9_.:-]{1,160}`, "CB", `[1-9]\d*`, "MS", `\d{1,16}`, "REAL", `\d+(\.\d+)?`, "JSON", `[\[{](?s:.*)[\]}]`,
		"SEALED", `(?s:.+)`, "HEAD", `[PARHDXC] \d+ \d+ \d+ \d+ \S+`, "N", `\d+`)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		columns := regexp.MustCompile(` +`).Split(line, 4)
		if len(columns) != 4 {
			return nil, fmt.Errorf("%q has %d columns", line, len(columns))
		}
		whole := func(text string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + words.Replace(text) + `)$`) }
		all = append(all, shape{columns[0], whole(columns[1]), whole(columns[2]), whole(columns[3])})
	}
	return all, nil
})

// someKeys is how many keys are looked at while a test goes on.
const someKeys = 30

// checkModel verifies that what is in Redis now, so many keys of it at most, is written as the data model has it. Redis may be away: then the
// test has other things to look at.
func (h *house) checkModel(most int) {
	h.t.Helper()
	known, err := shapes()
	h.must(err)
	keys, err := h.rdb.Keys(h.t.Context(), "*").Result()
	if err != nil {
		return
	}
	if len(keys) > most {
		rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		keys = keys[:most]
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "ringback:") && !strings.HasPrefix(key, "{") {
			continue // asynq's, or the test's own
		}
		for _, stray := range h.strays(known, key) {
			h.t.Error(stray)
		}
	}
}

// strays says what stands in a key that the data model does not have.
func (h *house) strays(known []shape, key string) (all []string) {
	h.t.Helper()
	kind, fields := h.content(key)
	mine := slices.DeleteFunc(slices.Clone(known), func(s shape) bool { return s.kind != kind || !s.key.MatchString(key) })
	for _, f := range fields {
		if !fits(mine, f[0], ends(f[0], f[1])) {
			all = append(all, fmt.Sprintf("data model %d has no %s %s with %q: %.100q", ledger.Model, kind, key, f[0], f[1]))
		}
	}
	return all
}

// TestTheModelKnowsALongBody by its ends: one that is written in another way is told, however long it is.
func TestTheModelKnowsALongBody(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	known, err := shapes()
	h.must(err)
	const key = "{acme}:ev:long"
	defer func() { h.must(h.rdb.Del(context.Background(), key).Err()) }() // before the house looks at all keys
	long := strings.Repeat(`"a": 1, `, 500)
	for body, want := range map[string]int{
		"{" + long + "}": 0, "[" + long + "]": 0, "(" + long: 0,
		long: 1, "{" + long: 1, long + "}": 1, "x{" + long + "}": 1, "{" + long + "}x": 1, " {" + long + "}": 1, "{" + long + "}\n": 1,
	} {
		h.must(h.rdb.HSet(t.Context(), key, "b", body).Err())
		if got := h.strays(known, key); len(got) != want {
			t.Errorf("%.3q…%q: %q", body, body[len(body)-3:], got)
		}
	}
}

// ends are a long body's first and last bytes, which are all that the model says of it; of everything else, the value.
func ends(field, value string) string {
	const enough = 500
	if field != "b" || len(value) <= 2*enough {
		return value
	}
	return value[:enough] + value[len(value)-enough:]
}

// fits says whether one of a key's shapes is this.
func fits(mine []shape, field, value string) bool {
	return slices.ContainsFunc(mine, func(s shape) bool { return s.field.MatchString(field) && s.value.MatchString(value) })
}

// content is a key's type, and what stands in it: fields and values, and of what is no hash a dash and each value. It is empty if the key is gone
// since it was named.
func (h *house) content(key string) (kind string, fields [][2]string) {
	h.t.Helper()
	ctx := h.t.Context()
	kind, err := h.rdb.Type(ctx, key).Result()
	h.must(err)
	var values []string
	switch kind {
	case "string":
		var text string
		if text, err = h.rdb.Get(ctx, key).Result(); errors.Is(err, redis.Nil) {
			return kind, nil
		}
		values = []string{text}
	case "hash":
		var all map[string]string
		all, err = h.rdb.HGetAll(ctx, key).Result()
		for field, value := range all {
			fields = append(fields, [2]string{field, value})
		}
	case "set":
		values, err = h.rdb.SRandMemberN(ctx, key, 3).Result()
	case "zset":
		values, err = h.rdb.ZRange(ctx, key, 0, 2).Result()
	case "stream":
		var entries []redis.XMessage
		entries, err = h.rdb.XRangeN(ctx, key, "-", "+", 3).Result()
		for _, e := range entries {
			values = append(values, strings.Join(slices.Sorted(maps.Keys(e.Values)), " "))
		}
	}
	h.must(err)
	for _, value := range values {
		fields = append(fields, [2]string{"-", value})
	}
	return kind, fields
}
