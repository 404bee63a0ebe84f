package lua

import (
	"slices"
	"strings"
	"testing"

	interpreter "github.com/yuin/gopher-lua"
)

// What Redis gives to scripts, as far as ours use it.
var given = []string{"KEYS", "ARGV", "redis", "cjson", "math", "string", "table", "ipairs", "next", "pairs", "pcall", "tonumber", "type", "tostring", "unpack"}

// TestScriptsKnowAllTheirNames: each script, with those parts of the shared head that it carries, uses no name that nobody gave it, on
// whatever path. Redis would tell only of those that are run.
func TestScriptsKnowAllTheirNames(t *testing.T) {
	entries, err := files.ReadDir(".")
	if err != nil || len(entries) < 20 {
		t.Fatalf("%d scripts, %v", len(entries), err)
	}
	whole := 0
	for _, part := range head {
		whole += len(part.text)
	}
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".lua")
		if name == headName {
			continue
		}
		text := lean(source(name))
		for _, global := range globalsOf(t, text) {
			if !slices.Contains(given, global) {
				t.Errorf("%s.lua uses %q, which is neither its own nor Redis's", name, global)
			}
		}
		if len(text)-len(source(name)) > whole*9/10 {
			t.Errorf("%s.lua carries %d bytes of the head's %d: it has what it does not use", name, len(text)-len(source(name)), whole)
		}
	}
	if got := globalsOf(t, "local a = 1\nlocal function f() return a and b end\nreturn f"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("a script's unknown names are not seen: %v", got)
	}
}

// globalsOf are the names that a script takes from nowhere in itself.
func globalsOf(t *testing.T, text string) (names []string) {
	l := interpreter.NewState()
	defer l.Close()
	f, err := l.LoadString(text)
	if err != nil {
		t.Fatalf("a script does not compile: %v", err)
	}
	var walk func(p *interpreter.FunctionProto)
	walk = func(p *interpreter.FunctionProto) {
		for _, code := range p.Code {
			if op := int(code >> 26); op == interpreter.OP_GETGLOBAL || op == interpreter.OP_SETGLOBAL {
				names = append(names, p.Constants[code&0x3ffff].String())
			}
		}
		for _, inner := range p.FunctionPrototypes {
			walk(inner)
		}
	}
	walk(f.Proto)
	slices.Sort(names)
	return slices.Compact(names)
}
