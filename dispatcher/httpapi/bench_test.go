package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
)

// blank is a ResponseWriter that costs nothing.
type blank struct{ header http.Header }

func (b *blank) Header() http.Header         { return b.header }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(int)             {}

func (h *house) post(path, body string) {
	r := httptest.NewRequestWithContext(context.Background(), "POST", path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+h.keys["operator"])
	w := &blank{http.Header{}}
	h.api.ServeHTTP(w, r)
}

// BenchmarkFace is what HTTP costs on the way of an event, apart from accepting it: routing, the key, the body, decoding
// and encoding. "bare" is a net/http handler that reads the same body, for comparison.
func BenchmarkFace(b *testing.B) {
	h := newHouse(b)
	register(h.api, operation{need: sendEvents, body: &body{schema: reflect.TypeFor[eventDoc]()}, Operation: huma.Operation{
		OperationID: "bench", Method: http.MethodPost, Path: "/companies/{company}/bench", DefaultStatus: http.StatusAccepted,
	}}, func(_ context.Context, in *eventIn) (*receiptOut, error) {
		e, err := decodeEvent(in.Company, in.RawBody)
		if err != nil {
			return nil, err
		}
		return &receiptOut{Status: http.StatusAccepted, Location: "/x", Body: dispatcher.Receipt{EventID: e.ID, EventType: e.Type, Deliveries: []dispatcher.Accepted{{DeliveryID: "dlv_1", CallbackID: 1, State: dispatcher.Pending}}}}, nil
	})
	h.api.mux.HandleFunc("POST /bare/{company}", func(w http.ResponseWriter, r *http.Request) {
		body, err := (body{mediaTypes: []string{mediaJSON}, limit: DefaultMaxBody}).read(w, r, nil)
		if err != nil {
			b.Error(err)
		}
		e, err := decodeEvent(r.PathValue("company"), body)
		if err != nil {
			b.Error(err)
		}
		writeJSON(w, http.StatusAccepted, mediaJSON, dispatcher.Receipt{EventID: e.ID})
	})
	body := event("e")
	for name, path := range map[string]string{"operation": "/companies/acme/bench", "bare": "/bare/acme"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.post(path, body)
			}
		})
	}
}

// BenchmarkSendEvent is an event's whole way in, by 64 senders at a time, to one callback.
func BenchmarkSendEvent(b *testing.B) {
	h := newHouse(b)
	h.register("acme")
	var n atomic.Int64
	b.SetParallelism(32) // on two cores
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.post("/companies/acme/events", event(fmt.Sprintf("e%d", n.Add(1))))
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkBatch is a batch of a thousand events, to one callback.
func BenchmarkBatch(b *testing.B) {
	h := newHouse(b)
	h.register("acme")
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		h.post(batchPath, batchOf(fmt.Sprintf("b%d-", n), 1000))
	}
	b.ReportMetric(float64(n)*1000/b.Elapsed().Seconds(), "events/s")
}
