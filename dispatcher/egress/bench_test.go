package egress

import (
	"net"
	"net/http"
	"testing"
)

// BenchmarkDo measures one request over a kept connection to a server that costs next to nothing, and the same with net/http alone.
func BenchmarkDo(b *testing.B) {
	server := newRawServer(b, func(conn net.Conn) {
		buf := make([]byte, 4096)
		answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
	c := newClient(b, Config{Allow: loopback})
	req := Request{URL: server.url(), Body: make([]byte, 800), Header: http.Header{
		"User-Agent": {"Ringback/1"}, "Content-Type": {"application/json"}, "Webhook-Id": {"dlv_0123456789"}, "Webhook-Timestamp": {"1731234567"},
		"Webhook-Signature": {"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="}, "Ringback-Event-Id": {"evt_1"}, "Ringback-Event-Type": {"x"}, "Ringback-Attempt": {"1"},
	}}
	b.Run("do", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Do(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("untraced", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out, err := c.build(b.Context(), req, &trace{body: req.Body})
			if err != nil {
				b.Fatal(err)
			}
			answer, cause := c.transport.RoundTrip(out)
			if cause != nil {
				b.Fatal(cause)
			}
			readBody(new(Response), answer, defaultKeepBody)
			_ = answer.Body.Close()
		}
	})
	b.Run("build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.build(b.Context(), req, &trace{body: req.Body}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.CheckURL("https://partner.example/hook?a=b"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
