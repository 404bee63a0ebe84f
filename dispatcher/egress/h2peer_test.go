package egress

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An h2Peer is a server's end of an HTTP/2 connection, frame by frame, and the request at hand.
type h2Peer struct {
	conn   net.Conn
	stream uint32
	n      int64 // counts the requests over all connections
	mute   *atomic.Bool
	window int // how much of an answer's body the client takes before it reads any

	mu   *sync.Mutex
	fr   *http2.Framer
	gone *atomic.Bool // it said GOAWAY: no more requests are taken
}

// h2Serve reads requests and lets row answer each. It calls itself ready for the body only as far as row.size lets it be read before the answer.
func h2Serve(conn net.Conn, row *hostile, seen *atomic.Int64) {
	r := bufio.NewReader(conn)
	if _, err := io.ReadFull(r, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	p := h2Peer{conn: conn, mute: new(atomic.Bool), mu: new(sync.Mutex), fr: http2.NewFramer(conn, r), gone: new(atomic.Bool)}
	if err := p.fr.WriteSettings(); err != nil {
		return
	}
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				window, _ := f.Value(http2.SettingInitialWindowSize)
				p.window = int(window)
				go func() { _ = p.write(p.fr.WriteSettingsAck) }()
			}
		case *http2.PingFrame:
			if data := f.Data; !f.IsAck() {
				go func() { _ = p.write(func() error { return p.fr.WritePing(true, data) }) }()
			}
		case *http2.HeadersFrame:
			if row.size > 0 { // before the body
				p.request(row, f.StreamID, seen)
			}
		case *http2.DataFrame:
			if f.StreamEnded() && row.size == 0 {
				p.request(row, f.StreamID, seen)
			}
		}
	}
}

func (p h2Peer) request(row *hostile, stream uint32, seen *atomic.Int64) {
	if p.gone.Load() {
		return
	}
	p.stream, p.n = stream, seen.Add(1)
	go row.h2(&p)
}

func (p *h2Peer) write(f func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mute.Load() {
		return nil
	}
	return f()
}

func (p *h2Peer) headers(end bool, fields ...hpack.HeaderField) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range fields {
		_ = enc.WriteField(f)
	}
	_ = p.write(func() error {
		for first := true; first || block.Len() > 0; first = false {
			part, flags := block.Next(16<<10), http2.Flags(0)
			if block.Len() == 0 {
				flags = http2.FlagHeadersEndHeaders
			}
			kind := http2.FrameContinuation
			if first {
				kind = http2.FrameHeaders
				if end {
					flags |= http2.FlagHeadersEndStream
				}
			}
			if err := p.fr.WriteRawFrame(kind, flags, p.stream, part); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *h2Peer) status(status string, more ...hpack.HeaderField) {
	p.headers(true, append([]hpack.HeaderField{{Name: ":status", Value: status}}, more...)...)
}

func (p *h2Peer) data(s string, end bool) {
	_ = p.write(func() error { return p.fr.WriteData(p.stream, end, []byte(s)) })
}

func (p *h2Peer) raw(kind http2.FrameType, flags http2.Flags, payload []byte) bool {
	stream := p.stream
	if kind == http2.FramePing || kind == http2.FrameSettings {
		stream = 0
	}
	return p.write(func() error { return p.fr.WriteRawFrame(kind, flags, stream, payload) }) == nil
}

func (p *h2Peer) reset(code http2.ErrCode) {
	_ = p.write(func() error { return p.fr.WriteRSTStream(p.stream, code) })
}

func (p *h2Peer) away(last uint32) {
	p.gone.Store(true)
	_ = p.write(func() error { return p.fr.WriteGoAway(last, http2.ErrCodeNo, nil) })
}
