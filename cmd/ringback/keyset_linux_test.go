package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A keyset file is its owner's alone. Where nobody can change that, because an orchestrator mounted it read-only, the log says so.
func TestKeysetFilesAreTheirOwnersOnly(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "keyset.json")
	var said strings.Builder
	check := func() error {
		said.Reset()
		return checkKeysetFile(t.Context(), file, slog.New(slog.NewTextHandler(&said, nil)))
	}
	if err := check(); err != nil {
		t.Errorf("before there is one: %v", err)
	}
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, refused := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o644: true, 0o660: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		switch err := check(); {
		case refused != (err != nil):
			t.Errorf("mode %04o: %v", mode, err)
		case refused && (!strings.Contains(err.Error(), "chmod 600 "+file) || exitCode(err, true) != exitConfig):
			t.Errorf("mode %04o: exit %d: %v", mode, exitCode(err, true), err)
		case said.Len() > 0:
			t.Errorf("mode %04o: the log says %s", mode, said.String())
		}
	}
	if os.Getuid() != 0 {
		return // only root can mount
	}
	if err := os.Chmod(file, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Logf("the read-only mount is not tried: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := check(); err != nil || !strings.Contains(said.String(), "mode 0444") {
		t.Errorf("on a read-only mount: %v, and the log says %q", err, said.String())
	}
}
