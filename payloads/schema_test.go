package payloads_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

// chained is a schema of n definitions, each a link to the next, and an end.
func chained(n int, link, end string) string {
	var defs strings.Builder
	for i := range n {
		fmt.Fprintf(&defs, `"a%d":%s,`, i, strings.ReplaceAll(link, "NEXT", fmt.Sprintf(`{"$ref":"#/$defs/a%d"}`, i+1)))
	}
	return fmt.Sprintf(`{"$ref":"#/$defs/a0","$defs":{%s"a%d":%s}}`, defs.String(), n, end)
}

func nested(n int, inner string) string {
	return strings.Repeat(`{"x":`, n) + inner + strings.Repeat("}", n)
}

// TestSchemasThatWouldNotEnd: what would overflow the stack, and with it end the process, or take minutes, is refused.
func TestSchemasThatWouldNotEnd(t *testing.T) {
	const comments = `{"type":"object","properties":{"x":{"$ref":"#"},"l":{"items":{"type":"string"}}}}`
	const recursive = `{"type":"object","properties":{"x":{"$ref":"#"}}}`
	doubling := chained(25, `{"allOf":[NEXT,NEXT]}`, `{"type":"object"}`)
	tests := []struct{ what, schema, payload, location, words string }{
		{"to itself", `{"$ref":"#"}`, "", "body.schema", "one to itself"},
		{"to itself, around", `{"properties":{"x":{"anyOf":[{"type":"string"},{"$ref":"#/properties/x"}]}}}`, "", "body.schema", "one to itself"},
		{"a long chain", chained(990, `{"allOf":[NEXT]}`, recursive), "", "body.schema", "more than 1000 schemas"},
		{"a chain as long as to the bottom is affordable", chained(100, "NEXT", recursive), nested(127, "{}"), "", ""},
		{"a longer one", chained(900, "NEXT", recursive), nested(127, "{}"), "body.payload", "more than 1000000 steps"},
		{"a long way down", chained(600, `{"properties":{"x":NEXT}}`, "{}"), "", "body.schema", "more than 1000 schemas deep"},
		{"nested", nested(65, "{}"), "", "body.schema", "nest 64 levels"},
		{"many bytes", `{"description":"` + strings.Repeat("a", 256<<10) + `"}`, "", "body.schema", "may have 262144 bytes, and has 262162"},
		{"many objects", `{"properties":{"n":{}` + strings.Repeat(`,"n":{}`, 1998) + "," + names(2000, "{}") + `}}`, "", "body.schema", "2000 objects, and has 2003"},
		{"many booleans", `{"allOf":[true` + strings.Repeat(",true", 2000) + `]}`, "", "body.schema", "2000 objects, and has 2002"},
		{"many values", `{"enum":[0` + strings.Repeat(",0", 20_000) + `]}`, "", "body.schema", "20000 values, and has 20003"},
		{"long names", `{"properties":{"` + strings.Repeat("n", 5000) + `":{}}}`, "", "body.schema", "4096 bytes, and one has 5012"},
		{"patterns", `{"items":{"pattern":"^(a{250}b{250}){2,2}c{201}$"},"patternProperties":{"` + strings.Repeat("(x{20}){50}", 200) + `":{}}}`, "", "body.schema", "200000 instructions"},
		{"one pattern", `{"pattern":"` + strings.Repeat("(x{20}){50}", 100) + `"}`, "", "body.schema", "it is too large: repeat less in it"},
		{"$dynamicRef", `{"$dynamicAnchor":"a","properties":{"x":{"$dynamicRef":"#a"}}}`, "", "body.schema", "use $ref"},
		{"$recursiveRef", `{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveAnchor":true,"properties":{"x":{"$recursiveRef":"#"}}}`, "", "body.schema", "use $ref"},
		{"a standard's own", `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, "", "body.schema", "not followed"},

		{"deep", comments, nested(128, "{}"), "body.payload", "more than 128 levels deep"},
		{"as deep as can be", comments, nested(127, "{}"), "", ""},
		{"deep, where the schema is not", `{"type":"object"}`, nested(5000, "1"), "", ""},
		{"deep and at fault", comments, nested(126, `{"l":[1]}`), "body.payload" + strings.Repeat(".x", 126) + ".l[0]", "must be a string"},
		{"doubling in the same place", doubling, "", "body.schema", "more than 1000 schemas to one value"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			c, err := payloads.NewCatalogue(payloads.Type{Name: "x", Schema: json.RawMessage(tt.schema)})
			if err == nil {
				typ, _ := c.Lookup("x")
				_, err = typ.Check(json.RawMessage(tt.payload))
			}
			switch {
			case tt.words == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.words != "":
				wantField(t, err, tt.location, tt.words)
			}
		})
	}
}

// names lists n members with the same value.
func names(n int, value string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"k%d":%s`, i, value)
	}
	return strings.Join(list, ",")
}

// TestCostlyChecks: what a small payload could make cost seconds and gigabytes costs no more than its counting.
func TestCostlyChecks(t *testing.T) {
	const twice = `{"properties":{"x":{"$ref":"#"}},"required":["q"]}`
	ints := strings.Trim(strings.ReplaceAll(fmt.Sprint(make([]int, 5000)), " ", ","), "[]")
	tests := []struct{ what, schema, payload, words string }{
		{"two ways back", `{"anyOf":[` + twice + "," + twice + `]}`, nested(20, "1"), "more than 1000000 steps"},
		{"by way of items", `{"oneOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"},"minItems":2}]}`, strings.Repeat("[", 30) + strings.Repeat("]", 30), "more than 1000000 steps"},
		{"under not", `{"not":{"required":["z"],"anyOf":[` + twice + "," + twice + `]}}`, nested(30, "1"), "more than 1000000 steps"},
		{"an enum of numbers", `{"items":{"enum":[` + ints + `]}}`, "[" + ints + "]", "more than 1000000 steps"},
		{"an enum of texts", `{"items":{"enum":["` + strings.ReplaceAll(ints, ",", `","`) + `"]}}`, `["` + strings.Repeat(`x","`, 20_000) + `"]`, "more than 1000000 steps"},
		{"a large pattern on a long text", `{"pattern":"(a{100}){10}b"}`, `"` + strings.Repeat("a", 100_000) + `"`, "more than 1000000 steps"},
		{"many required", `{"items":{"required":["` + strings.Join(strings.Fields(strings.ReplaceAll(names(5000, ""), `"`, "")), "") + `",` + strings.ReplaceAll(names(5000, "1"), ":1", "") + `]}}`, "[" + strings.Repeat("{},", 2000) + "{}]", "more than 1000000 steps"},
		{"unevaluated in many ways", `{"allOf":[` + strings.Repeat(`{"minProperties":1},`, 900) + `{}],"unevaluatedProperties":false}`, "{" + names(2000, "1") + "}", "more than 1000000 steps"},

		{"just affordable", `{"anyOf":[` + twice + "," + twice + `]}`, nested(14, "1"), "fits none of the forms"},
		{"but not to explain", `{"anyOf":[` + twice + "," + twice + `]}`, nested(15, "1"), "to say where takes more than 250000 steps"},
		{"large and right", `{"items":{"$ref":"#/$defs/n"},"$defs":{"n":{"type":"number"}}}`, "[" + strings.Repeat("1,", 6000) + "1]", ""},
		{"large and wrong", `{"items":{"type":"string"}}`, `[` + strings.Repeat(`"a",`, 12_000) + "1]", "must be a string"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			typ := custom(t, tt.schema, nil)
			payload := json.RawMessage(tt.payload)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := typ.Check(payload)
			runtime.ReadMemStats(&after)
			if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 200 {
				t.Errorf("%d MiB for a payload of %d bytes", allocated, len(payload))
			}
			if tt.words == "" && err == nil {
				return
			}
			if list := fields(t, err); len(list) != 1 || !strings.HasPrefix(list[0].Location, "body.payload") || !strings.Contains(list[0].Message, tt.words) {
				t.Errorf("%v, want one field saying %q", err, tt.words)
			}
		})
	}
}

// TestExampleIsChecked within the same bounds, where the type is put.
func TestExampleIsChecked(t *testing.T) {
	const twice = `{"properties":{"x":{"$ref":"#"}}}`
	_, err := payloads.NewCatalogue(payloads.Type{
		Name: "x", Schema: json.RawMessage(`{"anyOf":[` + twice + "," + twice + `]}`), Example: json.RawMessage(nested(30, "1")),
	})
	wantField(t, err, "body.example", "more than 1000000 steps to check against the schema of x")
}

// TestKeptTypes: a type that was put when schemas were bound less goes on, and its payloads are checked within the bounds of today.
func TestKeptTypes(t *testing.T) {
	const twice = `{"properties":{"x":{"$ref":"#"}}}`
	kept := payloads.Type{Name: "x", Schema: json.RawMessage(`{"properties":{` + names(2100, "{}") + `},"anyOf":[` + twice + "," + twice + `]}`)}
	_, err := payloads.Builtin().With(kept)
	wantField(t, err, "body.schema", "2000 objects")
	typ, err := payloads.Keep(kept)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := typ.Check(json.RawMessage(`{"k7":1}`)); err != nil {
		t.Error(err)
	}
	_, err = typ.Check(json.RawMessage(nested(30, "1")))
	wantField(t, err, "body.payload", "more than 1000000 steps")
}

// TestUniqueItems: equal is what JSON Schema calls equal, and the first two that are equal are found.
func TestUniqueItems(t *testing.T) {
	typ := custom(t, `{"uniqueItems":true}`, nil)
	for payload, unique := range map[string]bool{
		`[1,2,3]`: true, `[1,2,1.0]`: false, `[10,1e1]`: false, `[0,-0.0]`: false, `[1,"1",true,null,[1],{"a":1}]`: true, `[null,null]`: false,
		`[{"a":1,"b":[2]},{"b":[2],"a":1}]`: false, `[{"a":1,"b":2},{"a":2,"b":1}]`: true, `[[1,2],[2,1]]`: true, `[[[1],2],[[1,2]]]`: true,
		`["a,b",["a","b"]]`: true, `[["a\",\"b"],["a","b"]]`: true, `[{"a\":1,\"b":2},{"a":1,"b":2}]`: true, `[{"a:1/1,b":2},{"a":1,"b":2}]`: true, `[false,"false"]`: true, `{"a":1}`: true, `[]`: true,
		`[[],{},"",0]`: true, `[{"a":{}},{"a":[]}]`: true, `["\ud800","\ud801"]`: false, // neither is a character
	} {
		if _, err := typ.Check(json.RawMessage(payload)); (err == nil) != unique {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

// TestLongWordsOfSchemas: an error repeats a schema's lists and texts in brief.
func TestLongWordsOfSchemas(t *testing.T) {
	ints := strings.Trim(strings.ReplaceAll(fmt.Sprint(make([]int, 5000)), " ", ","), "[]")
	for schema, want := range map[string]string{
		`{"enum":[` + ints + `]}`:                          "must be one of 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, and 4980 more",
		`{"const":"` + strings.Repeat("é", 5000) + `"}`:    `must be "` + strings.Repeat("é", 99) + "…",
		`{"const":[` + ints + `]}`:                         "must be (a large value)",
		`{"pattern":"^` + strings.Repeat("a", 5000) + `"}`: "must match the pattern ^" + strings.Repeat("a", 199) + "…",
	} {
		_, err := custom(t, schema, nil).Check(json.RawMessage(`"x"`))
		wantField(t, err, "body.payload", want)
	}
}

// TestManyFaults: a payload that does not fit anywhere is told so quickly.
func TestManyFaults(t *testing.T) {
	typ := custom(t, `{"items":{"type":"string"}}`, nil)
	payload := json.RawMessage("[" + strings.Repeat("1,", 20_000) + "1]")
	_, err := typ.Check(payload)
	list := fields(t, err)
	if len(list) != 17 || list[16].Location != "body.payload" || list[16].Message != "has 19985 more faults" {
		t.Errorf("%d fields, the last one %+v", len(list), list[len(list)-1])
	}
	if allocs := testing.AllocsPerRun(1, func() { _, _ = typ.Check(payload) }); allocs > 600_000 {
		t.Errorf("%.0f allocations", allocs)
	}
}

// TestExplanationsKeepNobodyWaiting: whoever cannot be told soon where a payload does not fit is told that it does not.
func TestExplanationsKeepNobodyWaiting(t *testing.T) {
	typ := custom(t, `{"items":{"type":"string"}}`, nil)
	payload := json.RawMessage(`[` + strings.Repeat(`"a",`, 12_000) + "1]")
	giveBack := payloads.HoldExplanations()
	told := make(chan error, 1)
	go func() {
		_, err := typ.Check(payload)
		told <- err
	}()
	select {
	case err := <-told:
		wantField(t, err, "body.payload", "does not fit the schema of "+typ.Name+"; others are being told where at the moment: send it again to learn it")
	case <-time.After(time.Minute):
		t.Error("no answer while another is explained")
	}
	giveBack()
	_, err := typ.Check(payload)
	wantField(t, err, "body.payload[12000]", "must be a string")
}
