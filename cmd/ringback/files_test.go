package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// knots are the files of each package that reach each other in a loop, by names that they use of each other: the number of files of each knot, the
// largest first. A package that is not here has none. The numbers only shrink.
var knots = map[string]struct {
	files []int
	why   string
}{
	"dispatcher/client": {[]int{5}, "errors know an undecided question, and callbacks and deliveries share a path and a duration"},
	"payloads":          {[]int{5, 3, 2}, "a Type holds what checks, stamps and bounds it, and each of those reads the Type"},
}

// longest is how many lines a function may have, from func to its closing brace: what a screen shows at once.
const longest = 60

// long are the functions that have more lines, and why they may.
var long = map[string]string{}

func TestFilesOfAPackageDoNotCircle(t *testing.T) {
	t.Parallel()
	for _, pkg := range slices.Sorted(maps.Keys(arrows)) {
		uses := usesBetweenFiles(t, pkg)
		found, allowed := uses.knots(), knots[pkg].files
		for i := range max(len(found), len(allowed)) {
			var files []string
			if i < len(found) {
				files = found[i]
			}
			limit := 0
			if i < len(allowed) {
				limit = allowed[i]
			}
			switch {
			case len(files) > limit:
				t.Errorf("%s: %d files reach each other, and knots allows %d: %s\nThe shortest loop: %s\nMove a name of it to the file where it belongs.",
					pkg, len(files), limit, strings.Join(files, " "), uses.shortestLoop(files))
			case len(files) < limit:
				t.Errorf("%s: knot %d has %d files now, and knots allows %d: take away what is not needed", pkg, i+1, len(files), limit)
			}
		}
	}
	for pkg, knot := range knots {
		if _, known := arrows[pkg]; !known || knot.why == "" {
			t.Errorf("knots has %s, which is no package, or has no reason", pkg)
		}
	}
}

func TestFunctionsFitAScreen(t *testing.T) {
	t.Parallel()
	met := map[string]bool{}
	for pkg := range arrows {
		fset, files := parsePackage(t, pkg)
		for _, file := range files {
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				begin, end := fset.Position(f.Pos()), fset.Position(f.End())
				lines := end.Line - begin.Line + 1
				if lines <= longest {
					continue
				}
				name := pkg + "/" + filepath.Base(begin.Filename) + " " + f.Name.Name
				met[name] = true
				if long[name] == "" {
					t.Errorf("%s: %s has %d lines, more than the %d of a screen: split it into parts that each tell one thing", begin, f.Name.Name, lines, longest)
				}
			}
		}
	}
	for name := range long {
		if !met[name] {
			t.Errorf("%s has no more than %d lines: take it out of long", name, longest)
		}
	}
}

// parsePackage reads the files of a package but for its tests.
func parsePackage(t *testing.T, pkg string) (*token.FileSet, []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range paths {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		t.Fatalf("no files in %s", pkg)
	}
	return fset, files
}

// fileUses are the names that a package's files use of each other: by the file that uses, the file that declares, and the name.
type fileUses map[string]map[string]map[string]bool

// usesBetweenFiles checks the types of a package on this platform. It sees no name that is reached through the type of another package only.
func usesBetweenFiles(t *testing.T, pkg string) fileUses {
	t.Helper()
	fset, files := parsePackage(t, pkg)
	files = slices.DeleteFunc(files, func(f *ast.File) bool {
		dir, name := filepath.Split(fset.Position(f.Pos()).Filename)
		built, err := build.Default.MatchFile(dir, name)
		return err != nil || !built
	})
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: sealedPackages{}, Error: func(error) {}} // errors are about what the sealed packages do not show
	checked, _ := config.Check(pkg, fset, files, &info)
	fileOf := func(pos token.Pos) string { return filepath.Base(fset.Position(pos).Filename) }
	uses := fileUses{}
	for ident, object := range info.Uses {
		from, to := fileOf(ident.Pos()), fileOf(object.Pos())
		if object.Pkg() != checked || from == to {
			continue
		}
		if uses[from] == nil {
			uses[from] = map[string]map[string]bool{}
		}
		if uses[from][to] == nil {
			uses[from][to] = map[string]bool{}
		}
		uses[from][to][object.Name()] = true
	}
	return uses
}

// sealedPackages imports every package as an empty one.
type sealedPackages struct{}

func (sealedPackages) Import(imported string) (*types.Package, error) {
	sealed := types.NewPackage(imported, path.Base(imported))
	sealed.MarkComplete()
	return sealed, nil
}

// ways are the shortest ways from a file to each that it reaches, without the first file. It reaches itself if it is in a loop.
func (u fileUses) ways(from string) map[string][]string {
	ways := map[string][]string{}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, next := range slices.Sorted(maps.Keys(u[at])) {
			if ways[next] == nil {
				ways[next] = append(slices.Clone(ways[at]), next)
				if next != from {
					queue = append(queue, next)
				}
			}
		}
	}
	return ways
}

// knots are the files that reach each other, the largest knot first.
func (u fileUses) knots() [][]string {
	ways := map[string]map[string][]string{}
	for file := range u {
		ways[file] = u.ways(file)
	}
	var knots [][]string
	for _, file := range slices.Sorted(maps.Keys(u)) {
		var knot []string
		for other := range ways[file] {
			if ways[other][file] != nil {
				knot = append(knot, other)
			}
		}
		slices.Sort(knot)
		if len(knot) > 0 && knot[0] == file { // else it is empty, or known by its first file
			knots = append(knots, knot)
		}
	}
	slices.SortStableFunc(knots, func(a, b []string) int { return cmp.Compare(len(b), len(a)) })
	return knots
}

// shortestLoop is the shortest one that begins and ends in one of the files, with the names on its arrows.
func (u fileUses) shortestLoop(files []string) string {
	var loop []string
	for _, file := range files {
		if way := u.ways(file)[file]; loop == nil || len(way) < len(loop)-1 {
			loop = append([]string{file}, way...)
		}
	}
	var b strings.Builder
	b.WriteString(loop[0])
	for i, to := range loop[1:] {
		fmt.Fprintf(&b, " uses %s of %s", strings.Join(slices.Sorted(maps.Keys(u[loop[i]][to])), ", "), to)
		if i+2 < len(loop) {
			b.WriteString(", which")
		}
	}
	return b.String()
}
