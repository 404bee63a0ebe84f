// Package npmtest has libraries of npm judge what goes on the wire, in tests.
package npmtest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Run runs a program of the test's testdata, an ES module that may import these packages ("name@version"), by node. in is its stdin, as JSON. Run returns what it
// prints. The packages are installed once for all runs of tests, into the user's cache. Where node or npm is missing the test is skipped, or fails if CI is "true".
func Run(t *testing.T, program string, in any, packages ...string) []byte {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("CI has no %s: install it", tool)
			}
			t.Skipf("there is no %s on this machine", tool)
		}
	}
	source, err := os.ReadFile(filepath.Join("testdata", program))
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e", string(source)) // it finds packages from where it runs
	run.Dir, run.Stdin, run.Stderr = installed(t, packages), bytes.NewReader(stdin), os.Stderr
	out, err := run.Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return out
}

// installed returns a folder that has these packages.
func installed(t *testing.T, packages []string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "ringback-tests", strings.NewReplacer("@", "-", "/", "-").Replace(strings.Join(packages, "+")))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-") //nolint:usetesting // it becomes the folder of the next runs, which a rename has to reach
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	install := exec.CommandContext(t.Context(), "npm", append([]string{"install", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"}, packages...)...)
	install.Dir = fresh
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", install, err, out)
	}
	_ = os.Rename(fresh, dir) // another test may have been first
	return dir
}
