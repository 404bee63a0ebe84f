package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ringback/ringback/registry"
)

// pass is a wallet event of so many bytes at least, as no two are alike: names, amounts, times and ids are different in each.
func pass(r *rand.Rand, size int) []byte {
	hex := func(n int) string { return fmt.Sprintf("%0*x", n, r.Uint64())[:n] }
	some := func(words ...string) string { return words[r.IntN(len(words))] }
	at := func() string {
		return time.Unix(1.5e9+r.Int64N(2e8), r.Int64N(1e9)).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	name := func() string {
		return some("Lando", "Leia", "Mónica", "José", "Ngozi", "Grace", "Ada", "Søren", "Zoë", "Bob") + " " + some("Calrissian", "Organa", "García", "Müller", "Okafor", "Hopper", "O'Neil")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"event_date": %q, "wallet_instance": {"registered_at": %q, "unregistered_at": null, "provider": %q}, `, at(), at(), some("google", "apple"))
	fmt.Fprintf(&b, `"wallet_campaign": {"token": %q, "name": %q}, `, hex(6), some("Summer", "Gold", "Loyal")+" "+strconv.Itoa(r.IntN(100)))
	fmt.Fprintf(&b, `"wallet_item": {"uuid": "%s-%s-%s", "tokens": {"first_name": %q, "member": "%d", "balance": "%d.%02d", "email": "%s@example.com"}, "visits": [`,
		hex(8), hex(4), hex(12), name(), r.IntN(1e9), r.IntN(5000), r.IntN(100), hex(9))
	for first := true; b.Len() < size-3; first = false {
		if !first {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `{"at": %q, "store": "%d", "till": %d, "total": "%d.%02d", "clerk": %q, "receipt": %q}`,
			at(), r.IntN(900), r.IntN(20), r.IntN(300), r.IntN(100), name(), hex(12))
	}
	b.WriteString("]}}")
	return b.Bytes()
}

func dice() *rand.Rand { return rand.New(rand.NewPCG(7, 9)) }

// noise cannot be compressed.
func noise(n int) []byte {
	b := make([]byte, n)
	r := dice()
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestWhatIsPacked: a payload from a kilobyte on, if that makes it a tenth smaller. Whatever is, comes out as it went in.
func TestWhatIsPacked(t *testing.T) {
	t.Parallel()
	r := dice()
	for name, tt := range map[string]struct {
		payload []byte
		packed  bool
	}{
		"short":             {pass(r, 640), false},
		"a byte too few":    {bytes.Repeat([]byte("x"), packFrom-1), false},
		"a kilobyte":        {bytes.Repeat([]byte("x"), packFrom), true},
		"an event":          {pass(r, 2<<10), true},
		"a long one":        {pass(r, 200<<10), true},
		"a very long one":   {pass(r, 3<<20), true},
		"as long as may be": {bytes.Repeat([]byte("0123456789abcdef"), packMost/16), true},
		"longer":            {bytes.Repeat([]byte("0123456789abcdef"), packMost/16+1), false},
		"noise":             {noise(4 << 10), false},
		"nearly noise":      {append(noise(4<<10), bytes.Repeat([]byte("x"), 380)...), false},
		"mostly noise":      {append(noise(4<<10), bytes.Repeat([]byte("x"), 2000)...), true},
		"empty":             {nil, false},
	} {
		stored, length := pack(tt.payload)
		if packed := length > 0; packed != tt.packed || packed && length != len(tt.payload) || !packed && !bytes.Equal(stored, tt.payload) {
			t.Errorf("%s: %d bytes are stored as %d, and their length as %d", name, len(tt.payload), len(stored), length)
		}
		if tt.packed && len(stored) > len(tt.payload)*9/10 {
			t.Errorf("%s: %d bytes are stored as %d", name, len(tt.payload), len(stored))
		}
		z := ""
		if length > 0 {
			z = strconv.Itoa(length)
		}
		if back, err := unpack(stored, z); err != nil || !bytes.Equal(back, tt.payload) {
			t.Errorf("%s: it comes back as %d bytes: %v", name, len(back), err)
		}
	}
}

// TestDamagedFrames are told of, whichever byte is wrong, and take no more memory than the event has.
func TestDamagedFrames(t *testing.T) {
	t.Parallel()
	payload := pass(dice(), 2<<10)
	frame, length := pack(payload)
	z := strconv.Itoa(length)
	wantDamaged := func(name string, frame []byte, z string) {
		t.Helper()
		if back, err := unpack(frame, z); !errors.Is(err, ErrBadRecord) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %d bytes, and %v", name, len(back), err)
		}
	}
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] ^= 0x20
		if back, err := unpack(bad, z); err == nil && !bytes.Equal(back, payload) || err != nil && !errors.Is(err, ErrBadRecord) {
			t.Errorf("byte %d is wrong: %d bytes come back: %v", i, len(back), err)
		}
		wantDamaged("cut off after "+strconv.Itoa(i), frame[:i], z)
	}
	wantDamaged("none", nil, z)
	wantDamaged("no frame", payload, z)
	wantDamaged("two of them", append(bytes.Clone(frame), frame...), z)
	for _, z := range []string{"0", "-1", "x", "1e9", strconv.Itoa(length - 1), strconv.Itoa(length + 1), strconv.Itoa(packMost + 1), "99999999999999999999"} {
		wantDamaged("its length is "+z, frame, z)
	}

	zeros := make([]byte, 64<<20)
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := encoder.EncodeAll(zeros, nil)
	var stream bytes.Buffer // its head does not say how long it is
	encoder.Reset(&stream)
	if _, err := encoder.Write(zeros); err != nil || encoder.Close() != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	wantDamaged("a short one that is noted as a long one", frame, strconv.Itoa(packMost))
	wantDamaged("a bomb", bomb, z)
	wantDamaged("a bomb that is noted", bomb, strconv.Itoa(len(zeros)))
	wantDamaged("a bomb without a length", stream.Bytes(), z)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
		t.Errorf("damaged frames took %d MiB", took>>20)
	}
}

// FuzzUnpack: whatever stands in Redis, it is a payload of the length that was noted, or an error.
func FuzzUnpack(f *testing.F) {
	frame, length := pack(pass(dice(), 2<<10))
	f.Add(frame, strconv.Itoa(length))
	f.Add([]byte("{}"), "")
	f.Add(frame[:20], "1024")
	f.Fuzz(func(t *testing.T, stored []byte, length string) {
		payload, err := unpack(stored, length)
		if n, _ := strconv.Atoi(length); err == nil && length != "" && len(payload) != n {
			t.Errorf("%d bytes come back, where %q were noted", len(payload), length)
		}
	})
}

// stored are an event's body and length as its hash has them.
func (d *desk) stored(event string) (body, length string) {
	d.t.Helper()
	found, err := d.rdb.HMGet(d.t.Context(), EventKey(d.company, event), "b", "z").Result()
	d.must(err)
	texts := Strings(found)
	return texts[0], texts[1]
}

// TestBodiesAreStoredCompressed once every process can read that, and not before. Whoever owns an attempt gets the payload, however it stands: with the
// grant of a task, with that of the delivery before it, or by itself.
func TestBodiesAreStoredCompressed(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	d.must(Enter(t.Context(), d.rdb))
	cb := d.callback("")
	long, short := string(pass(dice(), 2<<10)), `{"a": 1}`
	end := d.beside(registry.ModelLevel - 1)
	d.offer(long, "", []string{"before"}, cb)
	if body, length := d.stored("before"); body != long || length != "" {
		t.Errorf("beside an older process %d bytes are stored as %d, with length %q", len(long), len(body), length)
	}
	d.wantNumber("beside an older process", 1)
	end()
	d.ledger.raising.next.Store(0)
	d.offer(long, "", []string{"long"}, cb)
	d.offer(short, "", []string{"short"}, cb)
	if body, length := d.stored("long"); len(body) > len(long)*9/10 || length != strconv.Itoa(len(long)) {
		t.Errorf("%d bytes are stored as %d, with length %q", len(long), len(body), length)
	}
	if body, length := d.stored("short"); body != short || length != "" {
		t.Errorf("a short payload is stored as %q, with length %q", body, length)
	}
	d.wantNumber("then", Model)
	for event, want := range map[string]string{"before": long, "long": long, "short": short} {
		o, why := d.begin(d.claim(Ticket{Ref: d.ref(event, cb), Generation: 1}))
		if o == nil {
			t.Fatalf("%s does not begin: %+v", event, why)
		}
		if string(o.grant.Payload) != want {
			t.Errorf("%s: the grant has %d bytes, want %d", event, len(o.grant.Payload), len(want))
		}
		if alone, err := d.ledger.Payload(t.Context(), d.company, event); err != nil || string(alone) != want {
			t.Errorf("%s: read by itself it has %d bytes, want %d: %v", event, len(alone), len(want), err)
		}
	}
}

// TestACompressedBodyOfTheNext: the grant that comes with a finished attempt has the payload, too.
func TestACompressedBodyOfTheNext(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	long := string(pass(dice(), 4<<10))
	d.accept([]string{"first"}, cb)
	o := d.beginLane()[0]
	d.pause(cb)
	d.offer(long, "", []string{"next"}, cb)
	d.resume(cb)
	f := finishOf(o, well)
	f.NextToken, f.NextLease = "owner-next", lease
	done, err := d.ledger.Finish(t.Context(), f)
	d.must(err)
	if done.Next == nil || string(done.Next.Payload) != long {
		t.Errorf("the next grant is %+v", done.Next)
	}
}

// TestADamagedBody is no attempt's: the delivery stays pending, and its owner is told why.
func TestADamagedBody(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	d.offer(string(pass(dice(), 4<<10)), "", []string{"p"}, cb)
	body, _ := d.stored("p")
	d.must(d.rdb.HSet(t.Context(), EventKey(d.company, "p"), "b", body[:len(body)-9]).Err())
	_, err := d.ledger.Begin(t.Context(), d.claim(Ticket{Ref: d.ref("p", cb), Generation: 1}))
	if !errors.Is(err, ErrBadRecord) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("it begins: %v", err)
	}
	if _, err := d.ledger.Payload(t.Context(), d.company, "p"); !errors.Is(err, ErrBadRecord) {
		t.Errorf("it is read: %v", err)
	}
	if r := d.record("p", cb); StateOf[r.State] != Pending || r.Number != 0 {
		t.Errorf("it is %+v", r)
	}
}

// TestAHalfWrittenEvent leaves nothing of a compressed body to one that is not: an earlier run failed, and its caller repeats it under another roof.
func TestAHalfWrittenEvent(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	d.must(d.rdb.HSet(t.Context(), EventKey(d.company, "p"), "b", "a frame", "z", 5000, "a", "1-1").Err())
	d.accept([]string{"p"}, cb)
	if body, length := d.stored("p"); body != "{}" || length != "" {
		t.Errorf("it is stored as %q, with length %q", body, length)
	}
}

func BenchmarkBody(b *testing.B) {
	for _, size := range []int{1 << 10, 2 << 10, 16 << 10, 256 << 10} {
		r := dice()
		payloads, frames := make([][]byte, 64), make([][]byte, 64)
		stored, whole := 0, 0
		for i := range payloads {
			payloads[i] = pass(r, size)
			frames[i], _ = pack(payloads[i])
			stored, whole = stored+len(frames[i]), whole+len(payloads[i])
		}
		b.Run(fmt.Sprintf("pack/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				pack(payloads[i%len(payloads)])
			}
			b.ReportMetric(float64(stored)/float64(whole)*100, "percent")
		})
		b.Run(fmt.Sprintf("unpack/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				k := i % len(frames)
				if _, err := unpack(frames[k], strconv.Itoa(len(payloads[k]))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
