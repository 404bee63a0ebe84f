package payloads_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

// needs says of each type that stands in a document which members its payload must have, by their path. The documents show all of them but
// entry_code.verify and customer.created_or_updated in a sample: testdata/samples has it as JSON, in the document's own layout.
var needs = map[string][]string{
	"wallet_item_install": {"wallet_campaign", "wallet_campaign.token", "wallet_instance", "wallet_item"},
	"wallet_item_remove":  {"wallet_campaign", "wallet_campaign.token", "wallet_instance", "wallet_item"},

	"payment_proof": {"requestId", "status"},

	"customer.updated":                        {"data", "data.customerId", "type"},
	"customer.deleted":                        {"data", "data.customerId", "type"},
	"customer.registered":                     {"data", "data.customerId", "type"},
	"customer.deactivated":                    {"data", "data.customerId", "type"},
	"customer.level_changed_automatically":    {"data", "data.customerId", "data.levelId", "type"},
	"customer.level_changed":                  {"data", "data.customerId", "data.levelId", "type"},
	"customer.bought_campaign":                {"data", "data.campaignId", "data.customerId", "type"},
	"transaction.registered":                  {"data", "data.transactionId", "type"},
	"transaction.assigned_to_customer":        {"data", "data.customerId", "data.transactionId", "type"},
	"account.available_points_amount_changed": {"data", "data.customerId", "type"},
	"account.expiring_points_notification":    {"data", "data.customerId", "type"},
	"account.points_transfer":                 {"data", "data.customerId", "data.pointsTransferId", "type"},

	"entry_code.validation_failed": {"entryCode"},
	"entry_code.verify":            {"entryCode"},
	"customer.created_or_updated":  nil,
}

// sample is the document's payload of a type.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "samples", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestSamples: what the documents show is what the types accept and show, value by value, and what is sent, byte by byte.
func TestSamples(t *testing.T) {
	files, err := os.ReadDir("testdata/samples")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 16 {
		t.Errorf("%d samples, and the documents have 16", len(files))
	}
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), ".json")
		t.Run(name, func(t *testing.T) {
			typ, text := builtin(t, name), sample(t, name)
			if _, err := typ.Check(text); err != nil {
				t.Errorf("the type refuses it: %v", err)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, text); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(compact.String(), string(typ.Example)); diff != "" {
				t.Errorf("the type's example differs (-sample +example):\n%s", diff)
			}
			if compact.Len() == len(bytes.TrimSpace(text)) {
				t.Error("it has no spaces that somebody could lose")
			}
			sent, err := payloads.Encode(payloads.ContentTypeJSON, slices.Clone(text))
			if err != nil || !bytes.Equal(sent, text) {
				t.Errorf("it is sent as\n%s(%v)", sent, err)
			}
		})
	}
}

// TestContractsNeedWhatIdentifies takes each member out of each type's example: the payload is refused, naming the member, if the
// type needs it, and else accepted. What is needed is not null either.
func TestContractsNeedWhatIdentifies(t *testing.T) {
	for name, need := range needs {
		typ := builtin(t, name)
		t.Run(name, func(t *testing.T) {
			paths := members(decoded(t, typ.Example), "")
			for _, path := range need {
				if !slices.Contains(paths, path) {
					t.Errorf("the example has no %s", path)
				}
			}
			for _, path := range paths {
				location := "body.payload." + path
				v := decoded(t, typ.Example)
				object, name := parent(v, path)
				delete(object, name)
				_, err := typ.Check(encoded(t, v))
				if !slices.Contains(need, path) {
					if err != nil {
						t.Errorf("without %s: %v", path, err)
					}
					continue
				}
				wantField(t, err, location, "is missing: "+typ.Name+" needs it")
				object[name] = nil
				_, err = typ.Check(encoded(t, v))
				wantField(t, err, location, "must be ")
			}
		})
	}
}

// TestContractsWelcomeWhatTheyDoNotKnow: partners' systems grow members, and dates come in forms of their own.
func TestContractsWelcomeWhatTheyDoNotKnow(t *testing.T) {
	for _, typ := range payloads.Builtin().Types() {
		v := decoded(t, typ.Example)
		objects := []map[string]any{v}
		for _, path := range members(v, "") {
			object, name := parent(v, path)
			if inner, ok := object[name].(map[string]any); ok {
				objects = append(objects, inner)
			} else if text, ok := object[name].(string); ok && strings.HasPrefix(text, "20") {
				object[name] = "2017-01-14T14:30Z"
			}
		}
		for _, object := range objects {
			object["new"] = []any{1, nil}
		}
		if _, err := typ.Check(encoded(t, v)); err != nil {
			t.Errorf("%s: %v", typ.Name, err)
		}
	}
}

// TestLoyaltyEnvelopesAreLabelledRight: a receiver of all of the loyalty types at one URL goes by the envelope's type.
func TestLoyaltyEnvelopesAreLabelledRight(t *testing.T) {
	const other = "customer.renamed"
	for name, need := range needs {
		if !slices.Contains(need, "type") {
			continue
		}
		v := decoded(t, builtin(t, name).Example)
		v["type"] = other
		_, err := builtin(t, name).Check(encoded(t, v))
		wantField(t, err, "body.payload.type", fmt.Sprintf("must be %q", name))
	}
	updated := builtin(t, "customer.updated")
	_, err := updated.Check(sample(t, "customer.deleted"))
	wantField(t, err, "body.payload.type", `must be "customer.updated"`)
}

// TestLoyaltyIsAsLooseAsItsDocument about what is a number there, a text here and null elsewhere.
func TestLoyaltyIsAsLooseAsItsDocument(t *testing.T) {
	for _, tt := range []struct {
		name, path  string
		fit, misfit []any
	}{
		{"customer.registered", "data.data.phone", []any{123456789, "+123456789", nil}, []any{true, []any{}}},
		{"customer.registered", "data.data.createdAt", []any{1563363348, 1563363348.5, nil}, []any{"2019-07-17T11:35:48Z"}},
		{"customer.registered", "data.data.agreement1", []any{true, false, nil}, []any{"true", 1}},
		{"transaction.registered", "data.customerData.phone", []any{123456789, "+123456789", nil}, []any{false}},
		{"transaction.registered", "data.customerData", []any{nil, map[string]any{}}, []any{"Jon Doe", []any{}}},
		{"transaction.registered", "data.items", []any{nil, []any{}}, []any{map[string]any{}, []any{1}}},
		{"account.expiring_points_notification", "data.points", []any{100, 0.5, nil}, []any{"100"}},
		{"account.points_transfer", "data.customerPhone", []any{1231232312, "1231232312", nil}, []any{true}},
		{"customer.bought_campaign", "createdAt", []any{"2020-09-24T14:09:13+02:00", nil}, []any{1600949353}},
	} {
		v := decoded(t, builtin(t, tt.name).Example)
		object, name := parent(v, tt.path)
		for _, object[name] = range tt.fit {
			if _, err := builtin(t, tt.name).Check(encoded(t, v)); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		for _, object[name] = range tt.misfit {
			_, err := builtin(t, tt.name).Check(encoded(t, v))
			if got := fields(t, err); len(got) != 1 || !strings.HasPrefix(got[0].Location, "body.payload."+tt.path) {
				t.Errorf("%s with %s %v: %v", tt.name, tt.path, object[name], got)
			}
		}
	}
}

// decoded is a payload's object, its numbers as they are written.
func decoded(t testing.TB, text []byte) map[string]any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func encoded(t testing.TB, v any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// members are the paths of all members of v's objects; what is in arrays is left alone.
func members(v map[string]any, under string) []string {
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		paths = append(paths, under+name)
		if object, ok := v[name].(map[string]any); ok {
			paths = append(paths, members(object, under+name+".")...)
		}
	}
	return paths
}

// parent is the object that the path's last name stands in.
func parent(v map[string]any, path string) (object map[string]any, name string) {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		v = v[name].(map[string]any)
	}
	return v, names[len(names)-1]
}
