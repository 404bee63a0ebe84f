package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/urfave/cli/v2"
)

// openTerminal is a terminal and its remote end, where what a person types goes in.
func openTerminal(t *testing.T, columns uint16) (screen, remote *os.File) {
	t.Helper()
	remote, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = remote.Close() })
	var number, locked int32
	ioctl(t, remote, syscall.TIOCSPTLCK, unsafe.Pointer(&locked))
	ioctl(t, remote, syscall.TIOCGPTN, unsafe.Pointer(&number))
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	resizeTerminal(t, remote, columns)
	return screen, remote
}

func resizeTerminal(t *testing.T, remote *os.File, columns uint16) {
	t.Helper()
	size := [4]uint16{24, columns} // rows, columns, and pixels
	ioctl(t, remote, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
}

func ioctl(t *testing.T, f *os.File, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	if _, _, err := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); err != 0 {
		t.Fatal(err)
	}
}

// TestOnlyTerminalsAreAskedForTheirWidth: COLUMNS says it of anything else, and NO_COLOR is heard.
func TestOnlyTerminalsAreAskedForTheirWidth(t *testing.T) {
	t.Setenv("COLUMNS", "")
	if w := terminalWidth(&strings.Builder{}); w != 0 {
		t.Errorf("what is no terminal has %d columns", w)
	}
	t.Setenv("COLUMNS", "72")
	if w := terminalWidth(&strings.Builder{}); w != 72 {
		t.Errorf("COLUMNS=72 is heard as %d", w)
	}
	t.Setenv("COLUMNS", "wide")
	screen, remote := openTerminal(t, 90)
	if w := terminalWidth(screen); w != 90 {
		t.Errorf("a terminal of 90 columns has %d", w)
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	if !isTerminal(screen) || isTerminal(&strings.Builder{}) {
		t.Error("colours are for terminals, and for nothing else")
	}
	t.Setenv("NO_COLOR", "1")
	if isTerminal(screen) {
		t.Error("NO_COLOR is not heard")
	}
	resizeTerminal(t, remote, 0)
	if w := terminalWidth(screen); w != usualWidth {
		t.Errorf("a terminal that does not say has %d columns", w)
	}
}

// TestSecretsAreAskedFor at the terminal, and not shown there.
func TestSecretsAreAskedFor(t *testing.T) {
	screen, remote := openTerminal(t, 80)
	var said strings.Builder
	root := newCLI(screen, screen, &said)
	var got map[string]any
	findCommand(findCommand(root.Commands, "callbacks").Subcommands, "update").Action = func(c *cli.Context) (err error) {
		got, err = settingsFrom(c)
		return err
	}
	if _, err := remote.WriteString("sesame\n"); err != nil { // it waits in the terminal until somebody reads
		t.Fatal(err)
	}
	if err := root.RunContext(t.Context(), []string{"ringback", "callbacks", "update", "--auth", "bearer"}); err != nil {
		t.Fatal(err)
	}
	auth, _ := got["auth"].(map[string]any)
	if auth["token"] != "sesame" || said.String() != "--auth token (not shown): \n" {
		t.Errorf("asked with %q, and heard %v", said.String(), auth["token"])
	}
}
