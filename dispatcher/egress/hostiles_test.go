package egress

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A hostile receiver is one behaviour, and what has to come of it: an answer or a reason, after a time on a fake clock, within 1 MiB.
type hostile struct {
	name string

	// One of these is what it does. The first two are served without and with TLS; closing is theirs, too.
	raw   string              // reads the request, writes this and closes
	serve func(conn net.Conn) // does as it likes
	shake func(conn net.Conn) // with TLS only, from before the handshake
	h2    func(p *h2Peer)     // over HTTP/2, after a request was read

	size    int           // of the request's body; 0: 2 bytes
	timeout time.Duration // asked for; 0: none is
	sends   int           // one after the other; 0: one

	status    int // of the answer; 0: none is wanted
	body      int // how much of it is kept
	begins    string
	truncated bool
	reason    Reason
	phase     string // empty: PhaseWait; "any": whichever
	took      time.Duration
	requests  int // that it sees; 0: as many as were sent
}

// answersOnly reads the request and stays after it has written raw.
func answersOnly(raw string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, _, err := readRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, raw)
			untilClosed(conn)
		}
	}
}

// floods reads the request, writes head, and then more without end.
func floods(head, more string) func(net.Conn) {
	again := []byte(more)
	return func(conn net.Conn) {
		_, _, err := readRequest(bufio.NewReader(conn))
		if err == nil {
			_, err = io.WriteString(conn, head)
		}
		for err == nil {
			_, err = conn.Write(again)
		}
	}
}

// drips reads the request, writes head, and then more, a byte at a time.
func drips(head, more string, pause time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		if _, _, err := readRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, err := io.WriteString(conn, head)
		for i := 0; err == nil; i = (i + 1) % len(more) {
			_, err = io.WriteString(conn, more[i:i+1])
			time.Sleep(pause)
		}
	}
}

// breaks reads the request, writes raw and resets the connection.
func breaks(raw string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, _, err := readRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, raw)
			breakOff(conn)
		}
	}
}

// early reads a little of the request, writes raw and resets the connection.
func early(raw string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 64))
		_, _ = io.WriteString(conn, raw)
		breakOff(conn)
	}
}

// bomb is 200 MiB of zeros, zipped.
var bomb = sync.OnceValue(func() string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, 1<<20))
	_ = z.Close()
	return strings.Repeat(b.String(), 200)
})

func hostiles() []hostile {
	return slices.Concat(
		answers(), noAnswers(), brokenBodies(), tooMuch(), tooSlow(), tooEarly(), badHandshakes(),
		h2Ends(), h2Malformed(), h2Odd(),
	)
}

// kib is text of n KiB.
func kib(n int) string { return strings.Repeat("0123456789abcdef", n<<6) }

// answers are all that counts as one.
func answers() []hostile {
	const ok, sec = "HTTP/1.1 200 OK\r\n", time.Second
	return []hostile{
		{name: "204", raw: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{name: "204 with a body", raw: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", status: 204},
		{name: "HTTP/1.0", raw: "HTTP/1.0 200 OK\r\n\r\nhi", status: 200, body: 2},
		{name: "HTTP/1.0, no reason", raw: "HTTP/1.0 200\r\n\r\n", status: 200},
		{name: "wrong content type", raw: ok + "Content-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>", status: 200, body: 3},
		{name: "chunked", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n", status: 200, body: 2},
		{name: "bare line feeds", raw: "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", status: 200, body: 2},
		{name: "HTTP/9.9", raw: "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200},
		{name: "space before the colon", raw: ok + "Content-Length : 0\r\n\r\n", status: 200},
		{name: "folded header", raw: ok + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n", status: 200},
		{name: "connection: close", raw: ok + "Connection: close\r\n\r\nhi", status: 200, body: 2},
		{name: "more than a KiB", raw: "HTTP/1.1 500 No\r\nContent-Length: 1025\r\n\r\n" + kib(1) + "x", status: 500, body: 1024, truncated: true},
		{name: "exactly a KiB", raw: "HTTP/1.1 500 No\r\nContent-Length: 1024\r\n\r\n" + kib(1), status: 500, body: 1024},
		{name: "exactly 64 KiB", raw: "HTTP/1.1 500 No\r\n\r\n" + kib(64), status: 500, body: 1024, truncated: true},
		{name: "early hints", raw: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{name: "302 inside", raw: "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", status: 302},
		{name: "307 to itself", raw: "HTTP/1.1 307 No\r\nLocation: /hook\r\nContent-Length: 0\r\n\r\n", status: 307},
		{name: "308 to a file", raw: "HTTP/1.1 308 No\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", status: 308},
		{name: "429", raw: "HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", status: 429},
		{name: "599", raw: "HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", status: 599},
		{name: "999", raw: "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", status: 999},
		{name: "two answers", raw: "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", status: 204},
		{name: "101, held", serve: answersOnly("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nsomething"), status: 101, timeout: 30 * sec},
	}
}

// noAnswers end before a status and headers that are whole.
func noAnswers() []hostile {
	const ok = "HTTP/1.1 200 OK\r\n"
	return []hostile{
		{name: "status 99", raw: "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", reason: BadResponse},
		{name: "four digits", raw: "HTTP/1.1 2000 Odd\r\n\r\n", reason: BadResponse},
		{name: "a word for a status", raw: "HTTP/1.1 OK\r\n\r\n", reason: BadResponse},
		{name: "ICY", raw: "ICY 200 OK\r\n\r\n", reason: BadResponse},
		{name: "a request", raw: "POST /hook HTTP/1.1\r\nHost: x\r\n\r\n", reason: BadResponse},
		{name: "SSH", raw: "SSH-2.0-OpenSSH_9.2\r\n", reason: BadResponse},
		{name: "not even text", raw: "\x00\x01\x02\x03\r\n\r\n", reason: BadResponse},
		{name: "TLS alert", raw: "\x15\x03\x01\x00\x02\x02\x46\r\n", reason: BadResponse},
		{name: "HTTP/2 unasked", raw: "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\r\n", reason: BadResponse},
		{name: "no colon", raw: ok + "no colon\r\n\r\n", reason: BadResponse},
		{name: "NUL in a header", raw: ok + "X: \x00\r\nContent-Length: 0\r\n\r\n", reason: BadResponse},
		{name: "bad length", raw: ok + "Content-Length: x\r\n\r\n", reason: BadResponse},
		{name: "negative length", raw: ok + "Content-Length: -1\r\n\r\n", reason: BadResponse},
		{name: "two lengths", raw: ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", reason: BadResponse},
		{name: "unknown encoding", raw: ok + "Transfer-Encoding: rot13\r\n\r\nhi", reason: BadResponse},
		{name: "nothing", raw: "", reason: ConnectionClosed},
		{name: "end in the status", raw: "HTTP/1.1 2", reason: BadResponse},
		{name: "end in the headers", raw: ok + "X: y\r\n", reason: ConnectionClosed},
		{name: "reset before the status", serve: breaks(""), reason: Reset},
		{name: "reset in the headers", serve: breaks(ok + "X: y\r\n"), reason: Reset},
		{name: "hung up on at once", serve: func(conn net.Conn) { _ = conn.Close() }, reason: ConnectionClosed, phase: "any"},
	}
}

// brokenBodies break off after the headers: the answer stands.
func brokenBodies() []hostile {
	const ok = "HTTP/1.1 200 OK\r\n"
	return []hostile{
		{name: "bad chunks", raw: ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhi", status: 200, truncated: true},
		{name: "short body", raw: ok + "Content-Length: 9\r\n\r\nhi", status: 200, body: 2, truncated: true},
		{name: "length and chunks", raw: ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", status: 200, body: 2},
		{name: "reset in the body", serve: breaks(ok + "Content-Length: 100\r\n\r\n{"), status: 200, body: 1, truncated: true},
	}
}

// tooMuch is more than any limit allows.
func tooMuch() []hostile {
	const ok = "HTTP/1.1 200 OK\r\n"
	return []hostile{
		{name: "20 KiB of headers", raw: ok + strings.Repeat("X: "+kib(1)[:43]+"\r\n", 500) + "\r\n", reason: BadResponse},
		{name: "one long header", raw: ok + "X: " + kib(1024), reason: BadResponse},
		{name: "endless headers", serve: floods(ok, strings.Repeat("X: y\r\n", 1000)), reason: BadResponse},
		{name: "an endless header", serve: floods(ok+"X: ", kib(64)), reason: BadResponse},
		{name: "an endless status", serve: floods("HTTP/1.1 200 ", kib(64)), reason: BadResponse},
		{name: "flood of informational answers", serve: floods("", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 100)), reason: BadResponse},
		{name: "a GiB announced", serve: floods(ok+"Content-Length: 1073741824\r\n\r\n", kib(64)), status: 200, body: 1024, truncated: true},
		{name: "an endless body", serve: floods(ok+"\r\n", kib(64)), status: 200, body: 1024, truncated: true},
		{name: "zip bomb", raw: ok + fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(bomb()), bomb()), begins: "\x1f\x8b", status: 200, body: 1024, truncated: true},
		{name: "tiny chunks", serve: floods(ok+"Transfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\nx\r\n", 1000)), status: 200, body: 1024, truncated: true},
		{name: "chunk extensions", serve: floods(ok+"Transfer-Encoding: chunked\r\n\r\n", "1;"+kib(3)+"\r\nx\r\n"), status: 200, body: 5, truncated: true},
		{name: "an endless chunk extension", serve: floods(ok+"Transfer-Encoding: chunked\r\n\r\n1;", kib(64)), status: 200, truncated: true},
		{name: "endless trailers", serve: floods(ok+"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", strings.Repeat("X: y\r\n", 1000)), status: 200, body: 2, truncated: true},
	}
}

// tooSlow is later than the timeout allows.
func tooSlow() []hostile {
	const ok, sec = "HTTP/1.1 200 OK\r\n", time.Second
	return []hostile{
		{name: "never answers", serve: answersOnly(""), reason: Timeout, timeout: 20 * sec, took: 20 * sec},
		{name: "never answers, default", serve: answersOnly(""), reason: Timeout, took: DefaultTimeout},
		{name: "never answers, cut to the longest", serve: answersOnly(""), reason: Timeout, timeout: time.Hour, took: DefaultMaxTimeout},
		{name: "100, then silence", serve: answersOnly("HTTP/1.1 100 Continue\r\n\r\n"), reason: Timeout, timeout: 5 * sec, took: 5 * sec},
		{name: "half a status, then silence", serve: answersOnly("HTTP/1.1 2"), reason: Timeout, timeout: 5 * sec, took: 5 * sec},
		{name: "never reads", serve: func(net.Conn) { time.Sleep(30 * sec) }, size: 1 << 20, reason: Timeout, phase: "any", timeout: 5 * sec, took: 5 * sec},
		{name: "reads a byte a second", serve: func(conn net.Conn) {
			for range 30 {
				_, _ = conn.Read(make([]byte, 1))
				time.Sleep(sec)
			}
		}, size: 1 << 20, reason: Timeout, phase: "any", timeout: 5 * sec, took: 5 * sec},
		{name: "headers drip", serve: drips(ok, "X: y\r\n", sec/10), reason: Timeout, timeout: 10 * sec, took: 10 * sec},
		{name: "informational answers drip", serve: drips("", "HTTP/1.1 103 Early Hints\r\n\r\n", sec/100), reason: Timeout, timeout: 3 * sec, took: 3 * sec},
		{name: "body drips", serve: drips(ok+"\r\n", "x", sec/10), timeout: 9950 * sec / 1000, took: 9950 * sec / 1000, status: 200, body: 100, truncated: true},
		{name: "chunks drip", serve: drips(ok+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", sec/10), timeout: 5950 * sec / 1000, took: 5950 * sec / 1000, status: 200, body: 10, truncated: true},
		{name: "answer, then silence", serve: answersOnly(ok + "Content-Length: 5\r\n\r\n"), timeout: 10 * sec, took: 10 * sec, status: 200, truncated: true},
		{name: "long body that stops after what is kept", serve: answersOnly(ok + "Content-Length: 100000\r\n\r\n" + kib(1)), timeout: 10 * sec, status: 200, body: 1024, truncated: true},
	}
}

// tooEarly are answers before the request was read.
func tooEarly() []hostile {
	const sec = time.Second
	return []hostile{
		{name: "early 413", serve: early("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"), size: 900 << 10, status: 413},
		{name: "early 429", serve: early("HTTP/1.1 429 No\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\nno"), size: 900 << 10, status: 429, body: 2},
		{name: "early 401, and it stays", serve: func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 64))
			go untilClosed(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
			time.Sleep(30 * sec)
		}, size: 900 << 10, status: 401},
	}
}

// badHandshakes go wrong before a request could be sent.
func badHandshakes() []hostile {
	const sec = time.Second
	return []hostile{
		{name: "never shakes hands", shake: untilClosed, reason: Timeout, phase: PhaseTLS, timeout: 5 * sec, took: 5 * sec},
		{name: "the handshake is bounded by itself", shake: untilClosed, reason: Timeout, phase: PhaseTLS, timeout: time.Minute, took: connectTimeout},
		{name: "plain HTTP", shake: func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}, reason: TLS, phase: PhaseTLS},
		{name: "a handshake record that never ends", shake: func(conn net.Conn) {
			go untilClosed(conn)
			_, _ = io.WriteString(conn, "\x16\x03\x03\x40\x00\x02\x00\xff\xff"+kib(15)) // ServerHello, of 64 KiB
			time.Sleep(30 * sec)
		}, reason: Timeout, phase: PhaseTLS, timeout: 5 * sec, took: 5 * sec},
		{name: "warnings without end", shake: func(conn net.Conn) {
			go untilClosed(conn)
			for err := error(nil); err == nil; {
				_, err = io.WriteString(conn, "\x15\x03\x03\x00\x02\x01\x5a") // user_canceled
			}
		}, reason: TLS, phase: PhaseTLS},
		{name: "hung up on in the handshake", shake: func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
		}, reason: ConnectionClosed, phase: PhaseTLS},
		{name: "reset in the handshake", shake: func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			breakOff(conn)
		}, reason: Reset, phase: PhaseTLS},
	}
}

// h2Ends are how streams and connections of HTTP/2 end.
func h2Ends() []hostile {
	return []hostile{
		{name: "h2 204", h2: func(p *h2Peer) { p.status("204") }, sends: 3, status: 204},
		{name: "h2 GOAWAY after each", h2: func(p *h2Peer) {
			p.status("204")
			p.away(p.stream)
		}, sends: 3, status: 204},
		{name: "h2 GOAWAY that took nothing", h2: func(p *h2Peer) { // provably not processed: sent again
			if p.n == 1 {
				p.away(0)
				return
			}
			p.status("204")
		}, status: 204, requests: 2},
		{name: "h2 GOAWAY that took it, no answer", h2: func(p *h2Peer) {
			p.away(p.stream)
			_ = p.conn.Close()
		}, reason: ConnectionClosed},
		{name: "h2 refuses every stream", h2: func(p *h2Peer) { p.reset(http2.ErrCodeRefusedStream) }, reason: ConnectionClosed, requests: 1 + maxResends, took: 1},
		{name: "h2 RST internal", h2: func(p *h2Peer) { p.reset(http2.ErrCodeInternal) }, reason: Reset},
		{name: "h2 RST cancel", h2: func(p *h2Peer) { p.reset(http2.ErrCodeCancel) }, reason: Reset},
		{name: "h2 RST calm", h2: func(p *h2Peer) { p.reset(http2.ErrCodeEnhanceYourCalm) }, reason: Reset},
		{name: "h2 closes the connection", h2: func(p *h2Peer) { _ = p.conn.Close() }, reason: ConnectionClosed},
		{name: "h2 resets the connection", h2: func(p *h2Peer) { breakOff(p.conn) }, reason: Reset},
	}
}

// h2Malformed breaks the protocol of HTTP/2, or its limits.
func h2Malformed() []hostile {
	zeros := make([]byte, 20<<10)
	return []hostile{
		{name: "h2 malformed header", h2: func(p *h2Peer) { p.status("204", hpack.HeaderField{Name: "x", Value: "\x00"}) }, reason: BadResponse},
		{name: "h2 upper-case header", h2: func(p *h2Peer) { p.status("204", hpack.HeaderField{Name: "X", Value: "y"}) }, reason: BadResponse},
		{name: "h2 no status", h2: func(p *h2Peer) { p.headers(true, hpack.HeaderField{Name: "x", Value: "y"}) }, reason: BadResponse},
		{name: "h2 status of letters", h2: func(p *h2Peer) { p.status("OK") }, reason: BadResponse},
		{name: "h2 28 KiB of headers", h2: func(p *h2Peer) {
			p.status("204", slices.Repeat([]hpack.HeaderField{{Name: "x", Value: kib(1)}}, 28)...)
		}, reason: BadResponse},
		{name: "h2 header bomb", h2: func(p *h2Peer) { // one entry of the table, named 16,000 times
			p.raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream,
				append([]byte{0x88, 0x40, 1, 'x', 0x7f, 0x81, 0x1e}, kib(4)[:4000]+strings.Repeat("\xbe", 12_000)...))
		}, reason: BadResponse},
		{name: "h2 continuations without end", h2: func(p *h2Peer) {
			p.raw(http2.FrameHeaders, 0, []byte{0x89})
			for more := []byte("\x00\x01x\x01y"); p.raw(http2.FrameContinuation, 0, more); {
			}
		}, reason: BadResponse},
		{name: "h2 informational answers by the thousand", h2: func(p *h2Peer) {
			hint := []byte("\x08\x03103\x00\x04link\x01x")
			for range 2000 {
				p.raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, hint)
			}
		}, reason: BadResponse},
		{name: "h2 data before headers", h2: func(p *h2Peer) { p.data("hi", true) }, reason: BadResponse},
		{name: "h2 a frame that is too large", h2: func(p *h2Peer) { p.raw(http2.FrameData, 0, zeros) }, reason: ConnectionClosed},
		{name: "h2 push", h2: func(p *h2Peer) {
			p.raw(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, []byte{0, 0, 0, 2, 0x88})
		}, reason: BadResponse},
		{name: "h2 HTTP/1 instead", h2: func(p *h2Peer) {
			_, _ = io.WriteString(p.conn, "HTTP/1.1 204 No Content\r\n\r\n")
			_ = p.conn.Close()
		}, reason: ConnectionClosed},
	}
}

// h2Odd is HTTP/2 that is slow, long, early or full of other frames.
func h2Odd() []hostile {
	const sec = time.Second
	zeros := make([]byte, 20<<10)
	return []hostile{
		{name: "h2 headers, then silence", h2: func(p *h2Peer) { p.headers(false, hpack.HeaderField{Name: ":status", Value: "200"}) }, status: 200, truncated: true, timeout: 5 * sec, took: 5 * sec},
		{name: "h2 an endless body", h2: func(p *h2Peer) {
			if p.window > 256<<10 {
				p.status("500") // it may have to keep so much
				return
			}
			p.headers(false, hpack.HeaderField{Name: ":status", Value: "200"})
			for piece, n := []byte(kib(16)), p.window; n > 0; n -= len(piece) { // as much as it may at once
				p.raw(http2.FrameData, 0, piece[:min(n, len(piece))])
			}
		}, status: 200, body: 1024, truncated: true},
		{name: "h2 body drips", h2: func(p *h2Peer) {
			p.headers(false, hpack.HeaderField{Name: ":status", Value: "200"})
			for range 10 {
				p.data("x", false)
				time.Sleep(sec)
			}
		}, status: 200, body: 5, truncated: true, timeout: 4500 * sec / 1000, took: 4500 * sec / 1000},
		{name: "h2 reset in the body", h2: func(p *h2Peer) {
			p.headers(false, hpack.HeaderField{Name: ":status", Value: "200"})
			p.data("hi", false)
			p.reset(http2.ErrCodeInternal)
		}, status: 200, body: 2, truncated: true},
		{name: "h2 never answers, but pings", h2: func(*h2Peer) {}, reason: Timeout, timeout: 20 * sec, took: 20 * sec},
		{name: "h2 falls silent", h2: func(p *h2Peer) { p.mute.Store(true) }, reason: Timeout, timeout: 20 * sec, took: pingAfter + pingTimeout},
		{name: "h2 ping flood", h2: func(p *h2Peer) {
			for range 2000 {
				p.raw(http2.FramePing, 0, zeros[:8])
			}
			p.status("204")
		}, status: 204},
		{name: "h2 settings flood", h2: func(p *h2Peer) {
			for range 2000 {
				p.raw(http2.FrameSettings, 0, nil)
			}
			p.status("204")
		}, status: 204},
		{name: "h2 unknown frames", h2: func(p *h2Peer) {
			for range 200 {
				p.raw(0xf0, 0, zeros[:8000])
			}
			p.status("204")
		}, status: 204},
		{name: "h2 early answer", h2: func(p *h2Peer) {
			p.status("413")
			p.reset(http2.ErrCodeNo)
		}, size: 900 << 10, status: 413},
		{name: "h2 early answer, then the end", h2: func(p *h2Peer) {
			p.status("410")
			breakOff(p.conn)
		}, size: 900 << 10, status: 410},
		{name: "h2 takes nothing more", h2: func(*h2Peer) {}, size: 900 << 10, reason: Timeout, phase: PhaseWrite, timeout: 5 * sec, took: 5 * sec},
	}
}
