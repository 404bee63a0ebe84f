package egresstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// marker names the test that runs in a namespace, in its environment.
const marker = "RINGBACK_TEST_NETWORK"

// reenter runs the test in network and mount namespaces of its own. The error says that there are none to be had.
func reenter(t *testing.T) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v") //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), marker+"="+t.Name(), "GODEBUG=netdns=cgo")                     // a resolver that does not prefer Go's is then the system's
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	t.Log(out.String())
	if err != nil {
		t.Errorf("in a network of its own: %v", err)
	}
	return nil
}

// cover mounts a file with that content over another, if there is one.
func cover(t testing.TB, dir, file, content string) {
	t.Helper()
	if _, err := os.Stat(file); err != nil {
		return
	}
	own := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(own, []byte(content), 0o644); err != nil { //nolint:gosec // it takes the place of one that all may read
		t.Fatal(err)
	}
	for _, mount := range []func() error{
		func() error { return syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") }, // nothing of it is seen elsewhere
		func() error { return syscall.Mount(own, file, "", syscall.MS_BIND, "") },
	} {
		if err := mount(); err != nil {
			t.Fatalf("mounting over %s: %v", file, err)
		}
	}
}

// routeEverything makes every address one of this machine's.
func routeEverything(t testing.TB) {
	t.Helper()
	for _, args := range []string{"link set lo up", "route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil { //nolint:gosec // arguments of our own
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
}
