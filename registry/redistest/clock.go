package redistest

import (
	_ "embed"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// clockSource is what a Redis is started with whose clock is moved. It is built by the C compiler that the race detector needs, too.
//
//go:embed testdata/clock.c
var clockSource []byte

// A Clock is a server's.
type Clock struct {
	t    testing.TB
	file string
}

// StartWithClock is [Start] for a server whose clock the test moves. At first it is the machine's.
func StartWithClock(t testing.TB, args ...string) (*Server, *Clock) {
	t.Helper()
	dir := t.TempDir()
	source, library := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), "cc", "-O2", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("redistest: building the clock: %v\n%s", err, out)
	}
	c := &Clock{t: t, file: filepath.Join(dir, "ahead")}
	c.Set(0)
	return start(t, single, []string{"LD_PRELOAD=" + library, "CLOCK_AHEAD=" + c.file}, args), c
}

// Set has the server's clock be ahead of the machine's, at once.
func (c *Clock) Set(ahead time.Duration) {
	c.t.Helper()
	file, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(ahead.Milliseconds())), 0) // two's complement, as the reader has it
		_ = file.Close()
	}
	if err != nil {
		c.t.Fatalf("redistest: moving the clock: %v", err)
	}
}
