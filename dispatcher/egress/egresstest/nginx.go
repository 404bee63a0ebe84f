package egresstest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nginxConf is all of nginx's configuration but for the servers. Nothing of it lies outside its own directory.
const nginxConf = `daemon off;
worker_processes 1;
error_log %[1]s/error.log;
pid %[1]s/nginx.pid;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
%[2]s
}
`

// StartNginx starts an nginx of the test's own, and returns host and port of each of its servers. Each text of servers is the inside of a server
// block, without listen: that is written before it, with what listens says behind the port, such as "ssl http2". Files are written into its
// directory, which $dir stands for in the texts. Without nginx the test is skipped, but not with CI=true.
func StartNginx(t testing.TB, listens string, files map[string]string, servers ...string) (addrs []string) {
	t.Helper()
	binary, err := findNginx()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("egresstest: there is no nginx: install nginx-light")
		}
		t.Skip("there is no nginx")
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatalf("egresstest: %v", err)
		}
	}
	var blocks strings.Builder
	cmd := exec.CommandContext(t.Context(), binary, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", filepath.Join(dir, "nginx.conf")) //nolint:gosec // of this machine
	var inherited strings.Builder
	inherited.WriteString("NGINX=")
	for i, server := range servers {
		// nginx takes the sockets over that its environment names, as from the nginx of before: so the kernel chooses their ports.
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("egresstest: %v", err)
		}
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatalf("egresstest: %v", err)
		}
		_ = l.Close()
		defer func() { _ = file.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
		fmt.Fprintf(&inherited, "%d;", 3+i)
		addrs = append(addrs, l.Addr().String())
		fmt.Fprintf(&blocks, "server {\nlisten %s %s;\n%s\n}\n", l.Addr(), listens, strings.ReplaceAll(server, "$dir", dir))
	}
	conf := fmt.Sprintf(nginxConf, dir, blocks.String())
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		t.Fatalf("egresstest: %v", err)
	}
	cmd.Env = append(os.Environ(), inherited.String())
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends its worker first
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("egresstest: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the test's context has ended
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log")) //nolint:gosec // the test's own directory
			t.Logf("nginx: %s%s", said.String(), log)
		}
	})
	return addrs // they listen already
}

// findNginx also looks where Debian has it, which is on no user's path but root's.
func findNginx() (string, error) {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/nginx")
}
