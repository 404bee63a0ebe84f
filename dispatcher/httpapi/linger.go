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
	// restBytes and restTime bound what is read of a body before its refusal is sent. A body that is as good as there costs the caller
	// no connection then. 256 KiB is what net/http reads, too. A body in chunks costs one: net/http cannot read on after a deadline in it.
	restBytes = 256 << 10
	restTime  = 250 * time.Millisecond

	// lingerBytes and lingerTime bound what is read of a body after its refusal was sent: two batches of the greatest length, at
	// 35 Mbit/s. Meanwhile the caller sends lingerPiece in lingerStall, or is given up: who trickles is not waited for.
	lingerBytes = 64 << 20
	lingerTime  = 15 * time.Second
	lingerPiece = 4 << 10
	lingerStall = 2 * time.Second

	// heldAnswer bounds how much of a refusal is kept back for its Content-Length, in bytes.
	heldAnswer = 256 << 10

	// answerTimeout is how long a caller whose body was not read may take to read why.
	answerTimeout = time.Minute
)

// Linger makes an answer reach its caller when the request's body was not read to its end. Many clients write all of a body before they
// read, and lose the answer when the connection is closed meanwhile (RFC 9112, section 9.6). So the answer is sent with Connection: close,
// and the rest of the body is read and thrown away: up to 64 MiB and 15 s, as long as 4 KiB come every 2 s. A caller who waits
// for 100 Continue and is refused instead sends no body, and none is waited for (RFC 9110, section 10.1.1).
//
// Answered, if it is not nil, hears of each request whose connection is open from here on for nothing but that: to close it costs the caller
// at most an answer that it was slow to read.
//
// It goes around everything that answers HTTP/1; HTTP/2 has its own way to say that no more of a body is wanted.
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

// watchedBody knows how far a body was read. To close it does nothing: net/http closes the body it made.
type watchedBody struct {
	from  io.Reader
	begun bool  // whoever waits for 100 Continue was told
	err   error // the last: io.EOF at the body's end
}

func (b *watchedBody) Read(p []byte) (n int, err error) {
	b.begun = true
	n, b.err = b.from.Read(p)
	return n, b.err
}

func (b *watchedBody) Close() error { return nil }

func (b *watchedBody) read() bool { return b.err == io.EOF } //nolint:errorlint // readers return it as it is

// lingering writes an answer. If the body was not read it keeps the answer, to send it whole and before it reads on.
type lingering struct {
	http.ResponseWriter
	rc      *http.ResponseController
	body    *watchedBody
	method  string
	chunked bool // the body's end is not known before it is there
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

// readRest reads what is left of the body, if that is little and comes at once, and reports whether the body is read then.
func (l *lingering) readRest() bool {
	if l.body.read() || l.body.err != nil || l.expects || l.chunked {
		return l.body.read()
	}
	l.waitUntil(time.Now().Add(restTime))
	_, _ = io.CopyN(io.Discard, l.body, restBytes+1)
	l.waitUntil(time.Time{}) // a deadline that outlived the reading would look to net/http as if the caller had hung up
	return l.body.read()
}

// release sends what was kept.
func (l *lingering) release() {
	l.Header().Set("Connection", "close")
	_ = l.rc.EnableFullDuplex()                              // or net/http would read the body before it sends the header
	_ = l.rc.SetWriteDeadline(time.Now().Add(answerTimeout)) // the server's own may have been over before so long a body
	l.ResponseWriter.WriteHeader(l.status)
	l.status = 0
	_, _ = l.ResponseWriter.Write(l.held.Bytes())
}

// finish sends an answer that was kept.
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

// drain reads on until the body is at its end, too little comes any more, or it has been enough.
func (l *lingering) drain() {
	defer l.waitUntil(time.Unix(1, 0)) // whatever is left, net/http need not wait for it
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

// drains are what bodies are read into that nobody wants.
var drains = sync.Pool{New: func() any { return new(make([]byte, lingerPiece)) }}

// waitUntil is how long reading the body may wait. Not every writer can say so, and then the server's own timeout holds.
func (l *lingering) waitUntil(t time.Time) { _ = l.rc.SetReadDeadline(t) }

func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}
