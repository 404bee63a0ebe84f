package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// IndexLevel is the [Level] that brought the index of companies with work. Processes below it make work, and do not list the company.
const IndexLevel = 3

// A company is awake while its key {c}:awake is a positive number, and asleep otherwise. Two things always hold:
//
//   - A company with work for the dispatcher's rounds is awake.
//   - A company that is awake stands in the index, [workingKey].
//
// On a cluster it may be owed to the index instead (wake.go). So a round that goes over the index finds all work. Both are kept by the order of steps, of
// which any may be the last before a kill:
//
//	wake   1  the script that would make work finds the company asleep at n, changes nothing, and says so, with the version
//	       2  [Wake] files the company in the index under a new epoch, larger than all before and than n
//	       3  the script is repeated with that epoch. It makes the company awake, and the work, in one step, unless the company was
//	          put to sleep at that epoch or a later one, or has another version: then it answers as in 1
//	sleep  1  the sleeper reads the company's epoch in the index
//	       2  a script finds no work, and puts the company to sleep at that epoch
//	       3  [File] takes the company out of the index, if it still has that epoch there
//
// If a sleeper's 3 takes out what a waker's 2 filed, the sleeper's 2 was at the waker's epoch or a later one. If that came before the waker's 3, this
// one is refused. If it came after, it found the work. The epochs of the index never repeat, so a sleeper that comes late takes out nobody else's.
// An erasure deletes {c}:awake, and raises the version in the same step: a waker of before is refused by that.

// AwakeLua defines asleep(key, version, may). key is the company's [AwakeKey], version its [VersionKey]. may is what [Wake] returned, or
// empty. If the company is awake, or wakes by that, asleep returns nil. Else it returns what the script is to answer, before it has changed anything.
const AwakeLua = `
local function asleep(key, version, may)
	local at = tonumber(redis.call('GET', key) or '0')
	if at > 0 then return nil end
	local now = redis.call('GET', version) or '0'
	local epoch, known = string.match(may, '^(%d+) (%d+)$')
	if epoch and known == now and tonumber(epoch) > math.abs(at) then
		redis.call('SET', key, epoch)
		return nil
	end
	return {'asleep', string.format('%.0f', math.abs(at)), now}
end
`

// AwakeKey is a number: the epoch since when a company is awake or, negative, at which it was put to sleep. Absent: it was never awake.
func AwakeKey(company string) string { return "{" + company + "}:awake" }

// WakeTries is how often a step is repeated that finds its company asleep: each time, somebody must have put it to sleep, or changed it, since.
const WakeTries = 10

// ErrRestless says that a company was put to sleep, or changed, each time it was woken.
var ErrRestless = errors.New("registry: a company falls asleep as often as it is woken")

// A Nap is what a script answers that found its company asleep.
type Nap struct{ epoch, version string }

// ReadNap reads a script's answer. ok is false if it is another one.
func ReadNap(answer []string) (n Nap, ok bool) {
	if len(answer) != 3 || answer[0] != "asleep" {
		return Nap{}, false
	}
	return Nap{answer[1], answer[2]}, true
}

// enlist gives company ARGV[1] a new epoch in the index, above ARGV[2].
var enlist = redis.NewScript(`
local epoch = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0'), tonumber(ARGV[2])) + 1
epoch = string.format('%.0f', epoch)
redis.call('SET', KEYS[2], epoch)
redis.call('ZADD', KEYS[1], epoch, ARGV[1])
return epoch`)

// Enlist puts a company into the index under a new epoch, and returns that. If there is no work, a later round takes it out.
func Enlist(ctx context.Context, rdb redis.UniversalClient, company string) (epoch int64, err error) {
	text, err := listed(ctx, rdb, company, "0")
	if err != nil {
		return 0, err
	}
	return parseVersion(text)
}

func listed(ctx context.Context, rdb redis.UniversalClient, company, above string) (epoch string, err error) {
	epoch, err = enlist.Run(ctx, rdb, []string{workingKey, epochKey}, company, above).Text()
	if err != nil {
		return "", fmt.Errorf("registry: list company %s as one with work: %w", company, err)
	}
	return epoch, nil
}

// awakeHere is a script's line for whileAwake.
const awakeHere = `
local nap = asleep(KEYS[#KEYS - 1], KEYS[#KEYS], ARGV[#ARGV])
if nap then return nap end
`

// Working are the companies in the index, with their epochs.
func (r *Registry) Working(ctx context.Context) (map[string]int64, error) {
	return scored(ctx, r.redis, workingKey)
}

// scored are the companies in the index, or of those owed to it, with their epochs.
func scored(ctx context.Context, rdb redis.UniversalClient, key string) (map[string]int64, error) {
	found, err := rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the companies with work in %s: %w", key, err)
	}
	epochs := make(map[string]int64, len(found))
	for _, z := range found {
		name, _ := z.Member.(string)
		epochs[name] = int64(z.Score)
	}
	return epochs, nil
}

// Epochs are the epochs of these companies in the index. A company that is not in it has none.
func (r *Registry) Epochs(ctx context.Context, companies []string) (map[string]int64, error) {
	epochs := make(map[string]int64)
	if len(companies) == 0 {
		return epochs, nil
	}
	scores, err := r.redis.ZMScore(ctx, workingKey, companies...).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: look for companies with work: %w", err)
	}
	for i, company := range companies {
		if scores[i] > 0 {
			epochs[company] = int64(scores[i])
		}
	}
	return epochs, nil
}

// A Tally is what there is of something in a company, by name. Those of companies that are asleep are kept beside the index, with their sums: so
// whoever counts has to look only into those that are awake. What is 0 is left out.
type Tally map[string]int64

// String is the tally as it is stored.
func (t Tally) String() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if t[name] != 0 {
			words = append(words, name+"="+strconv.FormatInt(t[name], 10))
		}
	}
	return strings.Join(words, " ")
}

// A Filing takes a company out of the index, and files its tally instead.
type Filing struct {
	Company string
	Epoch   int64 // at which it was put to sleep; 0: it was not in the index
	Tally   Tally
}

// file takes companies out of the index that have the same epoch there still, or none, and keeps their tallies instead. ARGV: name, epoch,
// tally, ...
var file = redis.NewScript(`
local function add(text, sign)
	for name, n in string.gmatch(text, '(%S+)=(%d+)') do
		if redis.call('HINCRBY', KEYS[3], name, sign * n) == 0 then redis.call('HDEL', KEYS[3], name) end
	end
end
local filed = 0
for i = 1, #ARGV, 3 do
	local company, tally = ARGV[i], ARGV[i + 2]
	if tonumber(redis.call('ZSCORE', KEYS[1], company) or '0') == tonumber(ARGV[i + 1]) then
		local was = redis.call('HGET', KEYS[2], company) or ''
		if was ~= tally then
			add(was, -1)
			add(tally, 1)
			if tally == '' then redis.call('HDEL', KEYS[2], company) else redis.call('HSET', KEYS[2], company, tally) end
		end
		redis.call('ZREM', KEYS[1], company)
		filed = filed + 1
	end
end
return filed`)

// filings is how many companies one run of file takes.
const filings = 200

// File takes companies out of the index, and returns how many it took. One that was woken since, it leaves.
func (r *Registry) File(ctx context.Context, all ...Filing) (filed int, err error) {
	for page := range slices.Chunk(all, filings) {
		args := make([]any, 0, 3*len(page))
		for _, f := range page {
			args = append(args, f.Company, f.Epoch, f.Tally.String())
		}
		n, err := file.Run(ctx, r.redis, []string{workingKey, restingKey, sumsKey}, args...).Int()
		if err != nil {
			return filed, fmt.Errorf("registry: take companies without work from the list: %w", err)
		}
		filed += n
	}
	return filed, nil
}

// Nameless are companies whose tallies are kept, and that have no name any more: a process of an older level erased them.
func (r *Registry) Nameless(ctx context.Context) (names []string, err error) {
	for from, more := uint64(0), true; more; more = from != 0 {
		var pairs []string
		if pairs, from, err = r.redis.HScan(ctx, restingKey, from, "", someCompanies).Result(); err != nil {
			return nil, fmt.Errorf("registry: list companies without work: %w", err)
		}
		page := make([]any, 0, len(pairs)/2)
		for pair := range slices.Chunk(pairs, 2) {
			page = append(page, pair[0])
		}
		if len(page) == 0 {
			continue
		}
		known, err := r.redis.SMIsMember(ctx, companiesKey, page...).Result()
		if err != nil {
			return nil, fmt.Errorf("registry: look for the companies: %w", err)
		}
		for i, name := range page {
			if !known[i] {
				names = append(names, name.(string))
			}
		}
	}
	return names, nil
}

// wholeField of the sums says that every company that is asleep has its tally in them.
const wholeField = ":whole"

// AllFiled notes that every company that is not in the index was filed.
func (r *Registry) AllFiled(ctx context.Context) error {
	if err := r.redis.HSet(ctx, sumsKey, wholeField, 1).Err(); err != nil {
		return fmt.Errorf("registry: note that all companies were gone over: %w", err)
	}
	return nil
}

// A Census is where to look for what there is.
type Census struct {
	Companies []string // into these
	Asleep    Tally    // what all others have together
}

// census returns the index, and the sums without what was filed of those that are in it.
var census = redis.NewScript(`
local names, sums = redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('HGETALL', KEYS[3])
local left = {}
for i = 1, #sums, 2 do left[sums[i]] = tonumber(sums[i + 1]) end
for first = 1, #names, 1000 do
	for _, tally in ipairs(redis.call('HMGET', KEYS[2], unpack(names, first, math.min(#names, first + 999)))) do
		for name, n in string.gmatch(tally or '', '(%S+)=(%d+)') do left[name] = (left[name] or 0) - n end
	end
end
local out = {}
for name, n in pairs(left) do
	out[#out + 1] = name
	out[#out + 1] = string.format('%.0f', n)
end
return {names, out}`)

// Lookout names the companies that have all there is of work. If no process has gone over all companies yet, it names all of them. It runs no script.
func Lookout(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
	switch whole, err := rdb.HExists(ctx, sumsKey, wholeField).Result(); {
	case err != nil:
		return nil, fmt.Errorf("registry: look for companies with work: %w", err)
	case !whole:
		return Companies(ctx, rdb)
	}
	names, err := rdb.ZRange(ctx, workingKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the companies with work: %w", err)
	}
	return names, nil
}

// TakeCensus reads where to look. If no process has gone over all companies yet, it names all of them.
func TakeCensus(ctx context.Context, rdb redis.UniversalClient) (Census, error) {
	lists, err := census.Run(ctx, rdb, []string{workingKey, restingKey, sumsKey}).Slice()
	if err != nil || len(lists) != 2 {
		return Census{}, fmt.Errorf("registry: read what there is of all companies: %w", err)
	}
	c := Census{Companies: texts(lists[0]), Asleep: Tally{}}
	for pair := range slices.Chunk(texts(lists[1]), 2) {
		if len(pair) == 2 {
			c.Asleep[pair[0]], _ = strconv.ParseInt(pair[1], 10, 64)
		}
	}
	if c.Asleep[wholeField] == 1 {
		delete(c.Asleep, wholeField)
		return c, nil
	}
	c.Asleep = nil
	c.Companies, err = Companies(ctx, rdb)
	return c, err
}

// texts reads a list of texts in a script's answer.
func texts(v any) []string {
	items, _ := v.([]any)
	all := make([]string, 0, len(items))
	for _, item := range items {
		text, _ := item.(string)
		all = append(all, text)
	}
	return all
}

// Resting are the tallies of companies that are asleep, by name. Until every company was gone over once, some have none.
func Resting(ctx context.Context, rdb redis.UniversalClient) (map[string]Tally, error) {
	stored, err := rdb.HGetAll(ctx, restingKey).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: read what there is of companies without work: %w", err)
	}
	all := make(map[string]Tally, len(stored))
	for name, text := range stored {
		tally := Tally{}
		for word := range strings.FieldsSeq(text) {
			of, n, _ := strings.Cut(word, "=")
			tally[of], _ = strconv.ParseInt(n, 10, 64)
		}
		all[name] = tally
	}
	return all, nil
}
