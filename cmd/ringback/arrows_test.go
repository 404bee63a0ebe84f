package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.." // of the module, from here
	module = "github.com/ringback/ringback/"
)

// arrows says which packages of this module each package may import. They point down only, so that payloads can be read without
// knowing Redis, and egress without knowing anything.
var arrows = map[string][]string{
	"payloads":                     {},
	"payloads/receive":             {"payloads"}, // partners import it, and nothing of the server with it
	"payloads/npmtest":             {},
	"registry":                     {"payloads", "registry/once", "registry/steady"},
	"registry/once":                {},
	"registry/steady":              {},
	"registry/redistest":           {},
	"dispatcher/egress":            {},
	"dispatcher/egress/egresstest": {},
	"dispatcher/client":            {}, // so that programs that use it pull in nothing of the server
	"dispatcher/lua":               {"registry", "registry/once"},
	"dispatcher/lanes":             {"registry", "dispatcher/ledger", "dispatcher/verdict"},
	"dispatcher/ledger":            {"payloads", "registry", "registry/once", "registry/steady", "dispatcher/egress", "dispatcher/lua", "dispatcher/verdict"},
	"dispatcher/verdict":           {"payloads", "registry", "dispatcher/egress"}, // of the registry no more than a callback's Retry
	"dispatcher":                   {"payloads", "registry", "registry/once", "registry/steady", "dispatcher/egress", "dispatcher/lanes", "dispatcher/ledger", "dispatcher/verdict"},
	"dispatcher/httpapi":           {"payloads", "registry", "registry/once", "dispatcher/egress", "dispatcher"},
	"dispatcher/console":           {"registry", "dispatcher/client"}, // of the client no more than what answers look like; no ledger, no lanes, no Redis
	"cmd/faults":                   {},                                // a module of its own, which knows the program from outside
	"cmd/ringback":                 {"payloads", "registry", "registry/steady", "dispatcher/egress", "dispatcher", "dispatcher/ledger", "dispatcher/httpapi", "dispatcher/client", "dispatcher/console", "cmd/ringback/bench"},
	"cmd/ringback/bench":           {"payloads"}, // it measures any version of the program, from outside
}

// testArrows are what a package's tests may import besides: the client is checked against the server.
var testArrows = map[string][]string{
	"dispatcher":         {"dispatcher/lua", "payloads/receive"}, // what partners receive with
	"dispatcher/httpapi": {"dispatcher/lua"},                     // what Redis calls the scripts
	"dispatcher/client":  {"payloads", "registry", "dispatcher/egress", "dispatcher", "dispatcher/httpapi"},
	"dispatcher/console": {"payloads", "dispatcher/egress", "dispatcher", "dispatcher/httpapi"},
	"cmd/faults":         {"dispatcher/lua"}, // what Redis calls the scripts
	"cmd/ringback":       {"dispatcher/lua"}, // the same
}

// forTests may be imported by tests only, and by any of them.
var forTests = []string{"registry/redistest", "dispatcher/egress/egresstest", "payloads/npmtest"}

func TestImportsPointDownwards(t *testing.T) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			checkImports(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImports(t *testing.T, path string) {
	t.Helper()
	rel, err := filepath.Rel(root, filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	from := filepath.ToSlash(rel)
	allowed, known := arrows[from]
	if !known {
		t.Errorf("%s: package %s has no place in the module: give it one in arrows, with the packages it may import", path, from)
		return
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	isTest := strings.HasSuffix(path, "_test.go")
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		to, ours := strings.CutPrefix(imported, module)
		switch {
		case !ours || slices.Contains(allowed, to):
		case isTest && (slices.Contains(forTests, to) || to == from || slices.Contains(testArrows[from], to)):
		default:
			t.Errorf("%s: %s must not import %s", path, from, to)
		}
	}
}
