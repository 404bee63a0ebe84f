package payloads_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

func BenchmarkCheck(b *testing.B) {
	for _, typ := range payloads.Builtin().Types() {
		b.Run(typ.Name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(typ.Example)))
			for b.Loop() {
				if _, err := typ.Check(typ.Example); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecode is what encoding/json alone takes for the same payload, to
// judge Check by.
func BenchmarkDecode(b *testing.B) {
	typ, _ := payloads.Builtin().Lookup("wallet_item_install")
	b.ReportAllocs()
	for b.Loop() {
		var v any
		if err := json.Unmarshal(typ.Example, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	typ, _ := payloads.Builtin().Lookup("wallet_item_install")
	e := payloads.Event{Company: "bi3bwNRk", ID: "evt_1", Type: typ.Name, Payload: typ.Example}
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	typ, _ := payloads.Builtin().Lookup("wallet_item_install")
	secret, at := payloads.NewSecret(), time.Unix(1731234567, 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := payloads.Sign("dlv_1", at, typ.Example, secret); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeForm(b *testing.B) {
	typ, _ := payloads.Builtin().Lookup("wallet_item_install")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := payloads.Encode(payloads.ContentTypeForm, typ.Example); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeForm(b *testing.B) {
	typ, _ := payloads.Builtin().Lookup("wallet_item_install")
	form, err := payloads.Encode(payloads.ContentTypeForm, typ.Example)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := payloads.DecodeForm(form); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodeFormHostile is a payload that would fill gigabytes.
func BenchmarkEncodeFormHostile(b *testing.B) {
	payload := json.RawMessage(strings.Repeat(`{"a":`, 9000) + "[" + strings.Repeat("1,", 480_000) + "1]" + strings.Repeat("}", 9000))
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if _, err := payloads.Encode(payloads.ContentTypeForm, payload); err == nil {
			b.Fatal("it fits")
		}
	}
}
