package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestFilesMayBeginWithAMark: what some programs write before a text is no part of a payload, be it a file or stdin.
func TestFilesMayBeginWithAMark(t *testing.T) {
	const payload = "{\"a\" : 1.0}\n"
	file := filepath.Join(t.TempDir(), "payload.json")
	if err := os.WriteFile(file, []byte("\ufeff"+payload), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, "-"} {
		app := cli.NewApp()
		app.Reader = strings.NewReader("\ufeff" + payload)
		if doc, err := readJSON(cli.NewContext(app, nil, nil), name); err != nil || string(doc) != payload {
			t.Errorf("%s: %q, %v", name, doc, err)
		}
	}
}
