package payloads_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
)

func filter(t testing.TB, text string) *payloads.Filter {
	t.Helper()
	f, err := payloads.ParseFilter(json.RawMessage(text), "body.filter")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

func read(payload string) payloads.Document { return payloads.ReadDocument(json.RawMessage(payload)) }

// clauseOf is a filter of one clause.
func clauseOf(pointer, op, value string) string {
	if value == "" {
		return fmt.Sprintf(`{"pointer":%q,"op":%q}`, pointer, op)
	}
	return fmt.Sprintf(`{"pointer":%q,"op":%q,"value":%s}`, pointer, op, value)
}

func TestClauses(t *testing.T) {
	const payload = `{"status":"paid","amount":100,"exact":1.0,"big":9007199254740993,"tiny":1e-7,"debt":-0.50,"yes":true,"none":null,
		"text":"12","list":["a",{"b":"c"}],"a/b":{"m~n":"x"},"":"empty","object":{}}`
	tests := []struct {
		pointer, op, value string
		want               bool
	}{
		{"/status", "equals", `"paid"`, true},
		{"/status", "equals", `"Paid"`, false},
		{"/status", "not_equals", `"open"`, true},
		{"/status", "not", `"paid"`, false},
		{"/status", "in", `["open","paid"]`, true},
		{"/status", "in", `["open"]`, false},
		{"/status", "not_in", `["open"]`, true},
		{"/status", "prefix", `"pa"`, true},
		{"/status", "prefix", `"aid"`, false},
		{"/status", "suffix", `"id"`, true},
		{"/status", "suffix", `"pai"`, false},
		{"/status", "exists", ``, true},
		{"/status", "exists", `false`, false},
		{"/amount", "gt", `99.999`, true},
		{"/amount", "gt", `100`, false},
		{"/amount", "gte", `1e2`, true},
		{"/amount", "lt", `100`, false},
		{"/amount", "lte", `100.0`, true},
		{"/debt", "lt", `0`, true},
		{"/debt", "equals", `-5e-1`, true},
		{"/debt", "gt", `-0.51`, true},
		{"/tiny", "equals", `0.0000001`, true},
		{"/tiny", "gt", `0`, true},
		{"/tiny", "lt", `1e-6`, true},

		// Numbers are exact, above 2^53, too.
		{"/exact", "equals", `1`, true},
		{"/big", "equals", `9007199254740993`, true},
		{"/big", "equals", `9007199254740992`, false},
		{"/big", "gt", `9007199254740992`, true},
		{"/big", "in", `[1,9007199254740994]`, false},

		// Kinds never mix.
		{"/text", "equals", `12`, false},
		{"/text", "gt", `1`, false},
		{"/amount", "prefix", `"1"`, false},
		{"/yes", "equals", `true`, true},
		{"/yes", "equals", `"true"`, false},
		{"/yes", "equals", `false`, false},

		// null is a value, and what is missing is none.
		{"/none", "equals", `null`, true},
		{"/none", "exists", ``, true},
		{"/missing", "equals", `null`, false},
		{"/missing", "exists", ``, false},
		{"/missing", "exists", `false`, true},
		{"/missing", "not_equals", `"x"`, true},
		{"/missing", "not_in", `["x"]`, true},
		{"/missing", "lt", `5`, false},
		{"/missing", "prefix", `"x"`, false},
		{"/none", "lt", `5`, false},

		// Objects and arrays are no values.
		{"/object", "exists", ``, true},
		{"/object", "equals", `null`, false},
		{"/list", "in", `["a"]`, false},
		{"", "exists", ``, true},

		// Pointers.
		{"/list/0", "equals", `"a"`, true},
		{"/list/1/b", "equals", `"c"`, true},
		{"/list/2", "exists", ``, false},
		{"/list/00", "exists", ``, false},
		{"/list/-", "exists", ``, false},
		{"/status/0", "exists", ``, false},
		{"/a~1b/m~0n", "equals", `"x"`, true},
		{"/", "equals", `"empty"`, true},
	}
	for _, tt := range tests {
		f := filter(t, clauseOf(tt.pointer, tt.op, tt.value))
		if got := f.Holds(read(payload)); got != tt.want {
			t.Errorf("%s: %t", f, got)
		}
		if (f.Judge(read(payload)) == nil) != tt.want {
			t.Errorf("%s: Judge and Holds differ", f)
		}
	}
	if f := filter(t, clauseOf("", "exists", "")); f.Holds(payloads.Document{}) {
		t.Error("a payload that was not read holds something")
	}
	if !(*payloads.Filter)(nil).Holds(payloads.Document{}) {
		t.Error("no filter must hold for everything")
	}
}

// TestMisses holds that the clause that decides is named, and nothing of the payload.
func TestMisses(t *testing.T) {
	paid, large, vip := clauseOf("/status", "equals", `"paid"`), clauseOf("/amount", "gt", `1000`), clauseOf("/customer/vip", "equals", `true`)
	const payload = `{"status":"paid","amount":17.25,"secret":"geheim"}`
	tests := []struct{ filter, location, why string }{
		{large, "filter", "The callback's filter asks for /amount gt 1000, and the event has another value there, a number."},
		{`{"all":[` + paid + `,` + large + `]}`, "filter.all[1]", "The callback's filter.all[1] asks for /amount gt 1000, and the event has another value there, a number."},
		{`{"all":[` + paid + `,` + vip + `]}`, "filter.all[1]", "The callback's filter.all[1] asks for /customer/vip equals true, and the event has nothing there."},
		{`{"not":[` + large + `,` + paid + `]}`, "filter.not[1]", `The callback's filter.not[1] asks for anything but /status equals "paid", and the event has that.`},
		{`{"any":[` + large + `]}`, "filter.any[0]", "The callback's filter.any[0] asks for /amount gt 1000, and the event has another value there, a number."},
		{`{"any":[` + large + `,` + vip + `]}`, "filter.any", "The callback's filter.any asks for one of 2, and none of them holds: " +
			"/amount gt 1000 (the event has another value there, a number), /customer/vip equals true (the event has nothing there)."},
		{`{"not":[{"all":[` + paid + `]}]}`, "filter.not[0].all", `The callback's filter.not[0].all is not to hold, and it does: /status equals "paid" (filter.not[0].all[0]).`},
		{`{"not":[{"all":[{"not":[` + vip + `]}]}]}`, "filter.not[0].all", "The callback's filter.not[0].all is not to hold, and it does: none of its clauses does."},
		{`{"any":[{"all":[` + paid + `,` + large + `]},{"not":[` + paid + `]},{"any":[` + large + `,` + vip + `]}]}`, "filter.any", "The callback's filter.any asks for one of 3, and none of them holds: " +
			`/amount gt 1000 (the event has another value there, a number), anything but /status equals "paid" (the event has that), filter.any[2].any.`},
		{`{"all":[{"any":[{"not":[` + paid + `]}]}]}`, "filter.all[0].any[0].not[0]", `The callback's filter.all[0].any[0].not[0] asks for anything but /status equals "paid", and the event has that.`},
		{clauseOf("/status", "gt", "5"), "filter", "The callback's filter asks for /status gt 5, and the event has a string there."},
		{clauseOf("/status", "exists", "false"), "filter", "The callback's filter asks for nothing at /status, and the event has a string there."},
		{clauseOf("/secret", "exists", "false"), "filter", "The callback's filter asks for nothing at /secret, and the event has a string there."},
	}
	for _, tt := range tests {
		m := filter(t, tt.filter).Judge(read(payload))
		if m == nil || m.Location != tt.location || m.Why != tt.why {
			t.Errorf("%s:\ngot  %+v\nwant %s: %s", tt.filter, m, tt.location, tt.why)
			continue
		}
		if strings.Contains(m.Why, "17.25") || strings.Contains(m.Why, "geheim") {
			t.Errorf("the payload shows: %s", m.Why)
		}
	}
}

func TestFiltersThatAreRefused(t *testing.T) {
	deep := clauseOf("/a", "exists", "")
	for range 6 {
		deep = `{"all":[` + deep + `]}`
	}
	many := `{"any":[` + strings.TrimSuffix(strings.Repeat(clauseOf("/a", "exists", "")+",", 51), ",") + `]}`
	tests := []struct{ filter, location, words string }{
		{`"x"`, "body.filter", "must be a group"},
		{`{}`, "body.filter", "must be a group"},
		{`{"all":{}}`, "body.filter.all", "must be a list"},
		{`{"all":[]}`, "body.filter.all", "must have a clause"},
		{`{"all":[` + clauseOf("/a", "exists", "") + `],"any":[]}`, "body.filter", "one of all, any and not"},
		{`{"all":[7]}`, "body.filter.all[0]", "but is a number"},
		{deep, "body.filter.all[0].all[0].all[0].all[0].all[0].all", "groups may nest 5 levels"},
		{many, "body.filter", "has 51 clauses: there may be 50"},
		{`{"pointer":"a","op":"exists"}`, "body.filter.pointer", "must be a JSON Pointer"},
		{`{"pointer":5,"op":"exists"}`, "body.filter.pointer", "must be a JSON Pointer"},
		{`{"pointer":"/a~2","op":"exists"}`, "body.filter.pointer", "~0 for ~"},
		{`{"op":"exists"}`, "body.filter.pointer", "is missing: a JSON Pointer"},
		{clauseOf("/"+strings.Repeat("x", 512), "exists", ""), "body.filter.pointer", "is too long"},
		{clauseOf(strings.Repeat("/x", 33), "exists", ""), "body.filter.pointer", "32 steps"},
		{clauseOf("/a", "like", `"x"`), "body.filter.op", "must be one of equals, not_equals"},
		{clauseOf("/a", "equals", ""), "body.filter.value", "is missing"},
		{clauseOf("/a", "equals", `{}`), "body.filter.value", "but is an object"},
		{clauseOf("/a", "in", `"x"`), "body.filter.value", "must be a list"},
		{clauseOf("/a", "in", `[]`), "body.filter.value", "nothing is in an empty list"},
		{clauseOf("/a", "in", `["x",[1]]`), "body.filter.value[1]", "but is an array"},
		{clauseOf("/a", "prefix", `""`), "body.filter.value", "a character or more"},
		{clauseOf("/a", "gt", `"12"`), "body.filter.value", "must be a number, but is a string"},
		{clauseOf("/a", "exists", `"yes"`), "body.filter.value", "must be true or false"},
		{clauseOf("/a", "gt", `1e999999`), "body.filter.value", "no receiver can read exactly"},
		{clauseOf("/a", "equals", `"`+strings.Repeat("x", 257)+`"`), "body.filter.value", "256 bytes"},
		{`{"pointer":"/a","op":"exists","path":"/b"}`, "body.filter.path", "is not known here"},
		{`{"pointer":"/a","pointer":"/b","op":"exists"}`, "body.filter.pointer", "is given twice"},
		{`{"pointer":"/a","op":"exists"} 1`, "body.filter", "nothing may follow"},
		{clauseOf("/a", "in", `["`+strings.Repeat(strings.Repeat("x", 250)+`","`, 40)+`"]`), "body.filter", "it may have 8192"},
		{`{"all":[` + clauseOf("/a", "equals", `"\ud800"`) + `]}`, "body.filter", "surrogate"},
	}
	for _, tt := range tests {
		f, err := payloads.ParseFilter(json.RawMessage(tt.filter), "body.filter")
		if err == nil || f != nil {
			t.Errorf("%.200s: accepted", tt.filter)
			continue
		}
		wantField(t, err, tt.location, tt.words)
	}
}

// TestFiltersAgainstSchemas holds what a schema rules out, and that it rules out nothing else.
func TestFiltersAgainstSchemas(t *testing.T) {
	strict := custom(t, `{"type":"object","additionalProperties":false,"required":["id"],"properties":{
		"id":{"type":"integer"},"status":{"enum":["paid","open",null]},"customer":{"$ref":"#/$defs/customer"},
		"items":{"type":"array","maxItems":2,"items":{"type":"object","properties":{"sku":{"type":"string"}},"additionalProperties":false}},
		"either":{"anyOf":[{"type":"string"},{"type":"object","properties":{"x":{"type":"boolean"}},"additionalProperties":false}]},
		"all":{"allOf":[{"type":["string","null"]},{"type":["string","number"]}]},
		"never":false,"any":{},"free":{"type":"object"}},
		"patternProperties":{"^x_":{"type":"number"}},
		"$defs":{"customer":{"type":"object","properties":{"id":{"type":"string","pattern":"^c-"}, "parent":{"$ref":"#/$defs/customer"}},"additionalProperties":false}}}`, nil)
	fits := []string{
		clauseOf("/id", "gt", "5"), clauseOf("/id", "equals", "5"), clauseOf("/status", "equals", `"paid"`), clauseOf("/status", "not_in", `["open",null]`),
		clauseOf("/customer/id", "equals", `"c-1"`), clauseOf("/customer/parent/parent/id", "prefix", `"c-"`), clauseOf("/items/1/sku", "exists", ""),
		clauseOf("/either/x", "equals", "true"), clauseOf("/either", "prefix", `"a"`), clauseOf("/all", "suffix", `"a"`), clauseOf("/any/thing/at/all", "exists", ""),
		clauseOf("/free/thing", "lt", "5"), clauseOf("/x_1", "lt", "5"), clauseOf("", "exists", ""),
	}
	for _, text := range fits {
		if faults := filter(t, text).Check([]*payloads.Type{strict}, "body.filter"); len(faults) > 0 {
			t.Errorf("%s: %v", text, faults)
		}
	}
	refused := []struct{ filter, location, words string }{
		{clauseOf("/amuont", "gt", "5"), "body.filter.pointer", "leads nowhere: the schema of custom has no place for it"},
		{clauseOf("/customer/name", "exists", "false"), "body.filter.pointer", "leads nowhere"},
		{clauseOf("/customer/parent/name", "exists", ""), "body.filter.pointer", "leads nowhere"},
		{clauseOf("/id/x", "exists", ""), "body.filter.pointer", "leads nowhere"},
		{clauseOf("/items/x", "exists", ""), "body.filter.pointer", "leads nowhere"},
		{clauseOf("/items/2", "exists", ""), "body.filter.pointer", "leads nowhere"},
		{clauseOf("/items/0/price", "exists", ""), "body.filter.pointer", "leads nowhere"},
		{clauseOf("/either/y", "exists", ""), "body.filter.pointer", "leads nowhere"},
		{clauseOf("/never", "exists", ""), "body.filter.pointer", "leads nowhere"},
		{clauseOf("/id", "equals", `"5"`), "body.filter.value", "does not allow it at /id"},
		{clauseOf("/id", "equals", `5.5`), "body.filter.value", "does not allow it at /id"},
		{clauseOf("/status", "in", `["paid","piad"]`), "body.filter.value[1]", "does not allow it at /status"},
		{clauseOf("/customer/id", "not_equals", `"d-1"`), "body.filter.value", "does not allow it"},
		{clauseOf("/id", "prefix", `"5"`), "body.filter.op", "looks at a string"},
		{clauseOf("/status", "gt", `5`), "body.filter.op", "looks at a number"},
		{clauseOf("/all", "gt", `5`), "body.filter.op", "looks at a number"},
		{`{"all":[{"not":[` + clauseOf("/x_1", "equals", `"a"`) + `]}]}`, "body.filter.all[0].not[0].value", "does not allow it at /x_1"},
	}
	lenient := custom(t, `{"type":"object"}`, nil)
	for _, tt := range refused {
		f := filter(t, tt.filter)
		faults := f.Check([]*payloads.Type{strict}, "body.filter")
		if len(faults) != 1 || faults[0].Location != tt.location || !strings.Contains(faults[0].Message, tt.words) {
			t.Errorf("%s: %v", tt.filter, faults)
		}
		if faults := f.Check([]*payloads.Type{strict, lenient}, "body.filter"); len(faults) > 0 {
			t.Errorf("%s: one of two types allows it, and it is refused: %v", tt.filter, faults)
		}
		if faults := f.Check(nil, "body.filter"); len(faults) > 0 {
			t.Errorf("%s: refused by no type: %v", tt.filter, faults)
		}
	}
	c, err := payloads.NewCatalogue(payloads.Type{Name: "custom", Schema: strict.Schema, Validation: payloads.Warn})
	if err != nil {
		t.Fatal(err)
	}
	if faults := filter(t, clauseOf("/amuont", "gt", "5")).Check(c.Types(), "body.filter"); len(faults) > 0 {
		t.Errorf("payloads that do not fit pass, and a filter for them is refused: %v", faults)
	}
}

// TestCheckingAgainstASchemaEnds: a schema may refer to itself in ways that a walk must not follow for ever, nor twice.
func TestCheckingAgainstASchemaEnds(t *testing.T) {
	typ := custom(t, `{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","additionalProperties":{"anyOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/n"},{"type":"number"}]}}}}`, nil)
	f := filter(t, clauseOf(strings.Repeat("/a", 32), "prefix", `"x"`))
	if faults := f.Check([]*payloads.Type{typ}, "body.filter"); len(faults) != 1 {
		t.Errorf("%v", faults)
	}
}

// TestFilterTextsStay: what is shown is read as the same filter.
func TestFilterTextsStay(t *testing.T) {
	text := ` { "all" : [ {"op":"not","value":"<a&b>","pointer":"/x"}, {"not":[{"pointer":"","op":"exists"}]}, {"pointer":"/n","op":"in","value":[2,1.0]} ] } `
	want := `{"all":[{"pointer":"/x","op":"not_equals","value":"<a&b>"},{"not":[{"pointer":"","op":"exists"}]},{"pointer":"/n","op":"in","value":[2,1.0]}]}`
	f := filter(t, text)
	if f.String() != want || filter(t, f.String()).String() != want {
		t.Errorf("%s", f)
	}
}

func FuzzFilter(f *testing.F) {
	for _, text := range []string{
		clauseOf("/a", "equals", `"x"`), `{"all":[` + clauseOf("/a", "gt", "-1.50e+2") + `,{"not":[` + clauseOf("/b/0", "in", `[1,"1",null,true]`) + `]}]}`,
		`{"any":[` + clauseOf("", "exists", "false") + `,` + clauseOf("/a~1b", "prefix", `"é"`) + `]}`, `{"all":[]}`, `{"pointer":"/a","op":"equals","value":1e400}`, `[`, `{"not":{}}`,
	} {
		f.Add([]byte(text), []byte(`{"a":-150.0,"b":[1.0,"x"],"a/b":"éé"}`))
	}
	f.Fuzz(func(t *testing.T, text, payload []byte) {
		parsed, err := payloads.ParseFilter(text, "body.filter")
		if err != nil {
			for _, field := range fields(t, err) {
				if !strings.HasPrefix(field.Location, "body.filter") || field.Message == "" || strings.ContainsAny(field.Location, "\n\r") {
					t.Errorf("field %q", field)
				}
			}
			return
		}
		again, err := payloads.ParseFilter(json.RawMessage(parsed.String()), "body.filter")
		if err != nil || again.String() != parsed.String() {
			t.Fatalf("%s is read as %v (%v)", parsed, again, err)
		}
		parsed.Check(payloads.Builtin().Types(), "body.filter")
		d := payloads.ReadDocument(payload)
		if parsed.Holds(d) != again.Holds(d) || parsed.Holds(d) != (parsed.Judge(d) == nil) {
			t.Error("one filter decides in two ways")
		}
	})
}

// FuzzNumbers holds numbers against exact fractions.
func FuzzNumbers(f *testing.F) {
	for _, pair := range [][2]string{{"1", "1.0"}, {"-0", "0"}, {"1e2", "100"}, {"9007199254740993", "9007199254740992"}, {"0.001", "1e-3"}, {"-1.5", "-1.49"}, {"10e-400", "1e-399"}, {"0e5", "0.00"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := json.Number(a), json.Number(b)
		clause, err := payloads.ParseFilter(json.RawMessage(clauseOf("/n", "lt", string(y))), "")
		d := payloads.ReadDocument(json.RawMessage(`{"n":` + string(x) + `}`))
		if err != nil || !json.Valid([]byte(a)) || !d.Readable() || strings.Trim(a, "0123456789.eE+-") != "" {
			return
		}
		p, ok := new(big.Rat).SetString(strings.TrimSpace(a))
		q, fine := new(big.Rat).SetString(strings.TrimSpace(b))
		if !ok || !fine {
			return
		}
		equal := filter(t, clauseOf("/n", "equals", string(y)))
		if clause.Holds(d) != (p.Cmp(q) < 0) || equal.Holds(d) != (p.Cmp(q) == 0) {
			t.Errorf("%s and %s: less %t, equal %t", a, b, clause.Holds(d), equal.Holds(d))
		}
	})
}

func TestNumbersAreExact(t *testing.T) {
	literals := []string{"-1e400", "-9007199254740993", "-9007199254740992", "-1.5", "-0.05", "-1e-400", "0", "1e-400", "0.049", "0.05", "1", "1.5", "99", "1e2", "100.5", "9007199254740992", "9007199254740993", "1e400"}
	for i, a := range literals {
		for j, b := range literals {
			for op, want := range map[string]bool{"lt": i < j, "lte": i <= j, "gt": i > j, "gte": i >= j, "equals": i == j} {
				if got := filter(t, clauseOf("/n", op, b)).Holds(read(`{"n":` + a + `}`)); got != want {
					t.Errorf("%s %s %s: %t", a, op, b, got)
				}
			}
		}
	}
	if !slices.IsSortedFunc(literals, func(a, b string) int {
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		return x.Cmp(y)
	}) {
		t.Error("the table is out of order")
	}
}
