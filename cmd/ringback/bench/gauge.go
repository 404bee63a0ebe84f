package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A reading is what an installation of our own has used so far.
type reading struct {
	at              time.Time
	ringback, redis time.Duration // of the processors
	others          time.Duration // of the processors, by other programs than the installation and this process
	processes       bool          // false: this system does not say, and those three are 0
	usage           usage
	memory          int64 // bytes of all keys in Redis with their values; what its connections have under way comes and goes
}

// usage is what clients have asked of Redis.
//
// INFO commandstats has a line for each command, whoever sent it: for evalsha, and again for each command that its script called. The time of
// evalsha contains theirs. So usage adds up the lines of the commands that run scripts, and of those that only clients send. MONITOR shows
// during the warm-up which these are: it marks a script's commands with "lua". A command that both send is left out, and so is one that
// the warm-up has not seen: both are rare in a delivery, and so nothing is counted twice.
type usage struct {
	calls float64
	took  time.Duration
}

// scripted are the commands that run scripts.
var scripted = map[string]bool{"eval": true, "eval_ro": true, "evalsha": true, "evalsha_ro": true, "fcall": true, "fcall_ro": true}

// ours are commands of this package, and of connections that are opened.
var ours = map[string]bool{"info": true, "memory": true, "scan": true, "monitor": true, "hello": true, "client": true}

// readTimeout is how long Redis may take to say what it has used.
const readTimeout = 20 * time.Second

// readFirst reads the gauges before something is measured. An installation of others has none.
func (s *site) readFirst(ctx context.Context) (r reading, err error) {
	if s.redis == nil {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	memory, err := stored(ctx, s.rdb) // first, since it costs what it must not count
	if err != nil {
		return r, err
	}
	r, err = s.readUsage(ctx)
	r.memory = memory
	return r, err
}

// readLast reads them afterwards, also when the time of what was measured is over.
func (s *site) readLast(ctx context.Context) (r reading, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	if r, err = s.readUsage(ctx); err != nil {
		return r, err
	}
	r.memory, err = stored(ctx, s.rdb)
	return r, err
}

func (s *site) readUsage(ctx context.Context) (r reading, err error) {
	info, err := s.rdb.InfoMap(ctx, "commandstats").Result()
	if err != nil {
		return r, fmt.Errorf("asking Redis what it has used: %w", err)
	}
	r.usage = usageOf(info["Commandstats"], s.fromClients)
	var self time.Duration
	var errs [3]error
	r.at = time.Now()
	r.redis, errs[0] = processorTime(s.redis.pid())
	self, errs[1] = processorTime(os.Getpid())
	r.others, errs[2] = busyTime()
	r.processes = errors.Join(errs[:]...) == nil
	for _, c := range s.serves {
		took, err := processorTime(c.pid())
		r.ringback, r.processes = r.ringback+took, r.processes && err == nil
	}
	r.others -= r.ringback + r.redis + self
	return r, nil
}

// stored is how many bytes all keys take with their values.
func stored(ctx context.Context, rdb *redis.Client) (sum int64, err error) {
	for cursor := uint64(0); ; {
		var keys []string
		if keys, cursor, err = rdb.Scan(ctx, cursor, "", 1000).Result(); err != nil {
			return 0, fmt.Errorf("asking Redis for its keys: %w", err)
		}
		sizes, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				p.MemoryUsage(ctx, key, 0)
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) { // a key may have expired meanwhile
			return 0, fmt.Errorf("asking Redis for the size of its keys: %w", err)
		}
		for _, size := range sizes {
			if size, ok := size.(*redis.IntCmd); ok {
				sum += size.Val()
			}
		}
		if cursor == 0 {
			return sum, nil
		}
	}
}

// since adds what was used since another reading, by so many deliveries.
func (r reading) since(before reading, deliveries int, f Figures) {
	if deliveries == 0 {
		return
	}
	each := 1 / float64(deliveries)
	if r.processes && before.processes {
		f[RingbackCPU] = (r.ringback - before.ringback).Seconds() * 1000 * each
		f[RedisCPU] = (r.redis - before.redis).Seconds() * 1000 * each
		f[OthersCPU] = max(0, (r.others-before.others).Seconds()/r.at.Sub(before.at).Seconds())
	}
	f[RedisTime] = float64((r.usage.took - before.usage.took).Microseconds()) * each
	f[RedisCalls] = (r.usage.calls - before.usage.calls) * each
	f[RedisBytes] = float64(r.memory-before.memory) * each
}

// usageOf adds up INFO's lines cmdstat_NAME:calls=N,usec=N,….
func usageOf(info map[string]string, fromClients map[string]bool) (u usage) {
	for field, line := range info {
		name, ok := strings.CutPrefix(field, "cmdstat_")
		name, _, _ = strings.Cut(name, "|") // client|list
		if !ok || ours[name] || !scripted[name] && !fromClients[name] {
			continue
		}
		for pair := range strings.SplitSeq(line, ",") {
			switch key, value, _ := strings.Cut(pair, "="); key {
			case "calls":
				u.calls += float64(number(value))
			case "usec":
				u.took += time.Duration(number(value)) * time.Microsecond
			}
		}
	}
	return u
}

// number is 0 where there is none: an older Redis says less.
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// monitorRest is how long the lines of MONITOR are read. It takes some milliseconds, and idle workers may never stop asking.
const monitorRest = 200 * time.Millisecond

// watch learns which commands only clients send to the Redis at addr while do runs. Redis keeps for us what we have not read yet.
func watch(ctx context.Context, addr string, do func() error) (fromClients map[string]bool, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(monitorRest)); err != nil {
		return nil, err
	}
	fromClients, fromScripts := map[string]bool{}, map[string]bool{}
	reader := bufio.NewReaderSize(conn, 64<<10)
	for {
		line, err := reader.ReadSlice('\n')
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line looks like no command
			return nil, err
		}
		if name, script := monitored(line); script {
			fromScripts[name] = true
		} else if name != "" {
			fromClients[name] = true
		}
	}
	for name := range fromScripts {
		delete(fromClients, name)
	}
	return fromClients, nil
}

// monitored is the command in a line of MONITOR, such as +1339518083.107412 [0 127.0.0.1:60866] "get" "x"; empty where the line is none.
func monitored(line []byte) (name string, script bool) {
	head, rest, ok := bytes.Cut(line, []byte(`] "`))
	if !ok || !bytes.HasPrefix(line, []byte("+")) {
		return "", false
	}
	command, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return "", false
	}
	return strings.ToLower(string(command)), bytes.HasSuffix(head, []byte(" lua"))
}

// userHZ is the unit of Linux's times in /proc, in a second. It is the same on every architecture that Go runs on.
const userHZ = 100

// processorTime is how long a process has had a processor, to the hundredth of a second. Only Linux says so.
func processorTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // the name before it may hold anything
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return time.Duration(number(fields[11])+number(fields[12])) * time.Second / userHZ, nil
}

// busyTime is how long all processors together were busy since the machine started. It contains what the host took away (steal).
func busyTime() (busy time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(first) // cpu, user, nice, system, idle, iowait, irq, softirq, steal, and two that user contains
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", first)
	}
	for _, field := range []string{fields[1], fields[2], fields[3], fields[6], fields[7], fields[8]} {
		busy += time.Duration(number(field)) * time.Second / userHZ
	}
	return busy, nil
}

// residentMiB is the memory that a process has, in MiB, 0 where the system does not say.
func residentMiB(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return float64(number(strings.TrimSuffix(strings.TrimSpace(value), " kB"))) / 1024
		}
	}
	return 0
}
