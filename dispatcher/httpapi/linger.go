package httpapi

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// restBytes and restTime bound how much of a body is read before its refusal is sent. If a body is as good as there, its refusal costs the
	// caller no connection. 256 KiB is as much as net/http reads, too. A body in chunks costs the connection: net/http cannot read on in it
	// after a deadline.
	restBytes = 256 << 10
	restTime  = 250 * time.Millisecond

	// lingerBytes and lingerTime bound how much of a body is read after its refusal was sent: two batches of the greatest length, at
	// 35 Mbit/s. If the caller does not send lingerPiece in each lingerStall meanwhile, it is given up: nobody waits for a trickle.
	lingerBytes = 64 << 20
	lingerTime  = 15 * time.Second
	lingerPiece = 4 << 10
	lingerStall = 2 * time.Second

	// heldAnswer bounds how much of a refusal is kept back for its Content-Length, in bytes.
	heldAnswer = 256 << 10

	// answerTimeout is how long the caller may take to read the answer, if its body was not read.
	answerTimeout = time.Minute
)

// Linger makes an answer reach its caller when the request's body was not read to its end. Many clients write all of a body before they
// read, and lose the answer when the connection is closed meanwhile (RFC 9112, section 9.6). So the answer is sent with Connection: close,
// and the rest of the body is read and thrown away: up to 64 MiB and 15 s, as long as 4 KiB come every 2 s. If a caller waits
// for 100 Continue and is refused instead, it sends no body, and none is waited for (RFC 9110, section 10.1.1).
//
// If answered is not nil, it hears of each request whose connection is open from then on for nothing but that. If that connection is closed,
// the caller loses at most an answer that it was slow to read.
//
// Linger goes around everything that answers HTTP/1. HTTP/2 has its own way to say that no more of a body is wanted.
func Linger(next http.Handler, answered func(*http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		l := &lingering{ResponseWriter: w, rc: http.NewResponseController(w), body: &watchedBody{from: r.Body}, method: r.Method, chunked: r.ContentLength < 0}
		l.expects = strings.EqualFold(r.Header.Get("Expect"), "100-continue")
		watched := r.WithContext(r.Context())
		watched.Body = l.body
		next.ServeHTTP(l, watched)
		if l.finish(); l.early {
			if answered != nil {
				answered(r)
			}
			l.drain()
		}
	})
}

// watchedBody knows how far a body was read. Its Close does nothing: net/http closes the body that it made.
type watchedBody struct {
	from  io.Reader
	begun bool  // a caller that waits for 100 Continue was told
	err   error // the last: io.EOF at the body's end
}

func (b *watchedBody) Read(p []byte) (n int, err error) {
	b.begun = true
	n, b.err = b.from.Read(p)
	return n, b.err
}

func (b *watchedBody) Close() error { return nil }

func (b *watchedBody) read() bool { return b.err == io.EOF } //nolint:errorlint // readers return it as it is

// lingering writes an answer. If the body was not read, it keeps the answer, sends it whole, and only then reads on.
type lingering struct {
	http.ResponseWriter
	rc      *http.ResponseController
	body    *watchedBody
	method  string
	chunked bool // nobody knows the body's length before its end
	expects bool // the caller waits for 100 Continue before it sends the body

	begun  bool
	early  bool // the body was not read, and the connection will be closed
	status int  // of an answer that is kept
	held   bytes.Buffer
}

func (l *lingering) Unwrap() http.ResponseWriter { return l.ResponseWriter }

func (l *lingering) WriteHeader(status int) {
	if status < http.StatusOK || l.begun {
		l.ResponseWriter.WriteHeader(status)
		return
	}
	l.begun = true
	if l.early = !l.readRest(); l.early {
		l.status = status
		return
	}
	l.ResponseWriter.WriteHeader(status)
}

func (l *lingering) Write(b []byte) (int, error) {
	if !l.begun {
		l.WriteHeader(http.StatusOK)
	}
	if l.status == 0 {
		return l.ResponseWriter.Write(b)
	}
	if l.held.Len()+len(b) > heldAnswer {
		l.release()
		return l.ResponseWriter.Write(b)
	}
	return l.held.Write(b)
}

// FlushError is what [http.ResponseController] calls.
func (l *lingering) FlushError() error {
	if l.status != 0 {
		l.release()
	}
	return l.rc.Flush()
}

// readRest reads the rest of the body, if it is short and comes at once. It reports whether the body is read then.
func (l *lingering) readRest() bool {
	if l.body.read() || l.body.err != nil || l.expects || l.chunked {
		return l.body.read()
	}
	l.waitUntil(time.Now().Add(restTime))
	_, _ = io.CopyN(io.Discard, l.body, restBytes+1)
	l.waitUntil(time.Time{}) // a deadline that outlived the reading would look to net/http as if the caller had hung up
	return l.body.read()
}

// release sends the answer that was kept.
func (l *lingering) release() {
	l.Header().Set("Connection", "close")
	_ = l.rc.EnableFullDuplex()                              // or net/http would read the body before it sends the header
	_ = l.rc.SetWriteDeadline(time.Now().Add(answerTimeout)) // the server's own may have passed while so long a body came
	l.ResponseWriter.WriteHeader(l.status)
	l.status = 0
	_, _ = l.ResponseWriter.Write(l.held.Bytes())
}

// finish ends an answer. If it was kept, finish sends it.
func (l *lingering) finish() {
	if !l.begun {
		l.WriteHeader(http.StatusOK)
	}
	if !l.early {
		return
	}
	if l.status != 0 {
		if bodyAllowed(l.status) && l.method != http.MethodHead && l.Header().Get("Content-Length") == "" {
			l.Header().Set("Content-Length", strconv.Itoa(l.held.Len()))
		}
		l.release()
	}
	_ = l.rc.Flush()
}

// drain reads on until the body is at its end, too little of it comes, or the bounds are reached.
func (l *lingering) drain() {
	defer l.waitUntil(time.Unix(1, 0)) // net/http need not wait for the rest
	if l.expects && !l.body.begun {
		return // nothing comes
	}
	thrown := drains.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	defer drains.Put(thrown)
	over := time.Now().Add(lingerTime)
	for left := lingerBytes; left > 0 && time.Now().Before(over); left -= lingerPiece {
		l.waitUntil(time.Now().Add(lingerStall))
		if _, err := io.ReadFull(l.body.from, *thrown); err != nil {
			return
		}
	}
}

// drains are the buffers for bodies that nobody wants.
var drains = sync.Pool{New: func() any { return new(make([]byte, lingerPiece)) }}

// waitUntil sets how long reading the body may wait. If the writer cannot, the server's own timeout holds.
func (l *lingering) waitUntil(t time.Time) { _ = l.rc.SetReadDeadline(t) }

func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}
