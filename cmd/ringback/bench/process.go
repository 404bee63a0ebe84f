package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	startTimeout = 30 * time.Second // of a process on a machine with other work; usually a third of a second
	startPoll    = 5 * time.Millisecond
)

// A child is a process of our own, which writes its output into a file.
type child struct {
	name  string
	addr  string // where it listens, if startRedis started it
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// launch starts a process. ctx ends it. If it ends by itself, fail is told why.
func launch(ctx context.Context, name, log string, env []string, fail context.CancelCauseFunc, path string, args ...string) (*child, error) {
	file, err := os.Create(log) //nolint:gosec // in a folder that this process made
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the child has its own
	cmd := command(ctx, path, env, args...)
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	c := &child{name: name, cmd: cmd, log: log, ended: make(chan struct{})}
	go func() {
		err := cmd.Wait()
		fail(fmt.Errorf("%s ended (%w), saying: %s", name, cmp.Or(err, errors.New("exit code 0")), c.said()))
		close(c.ended)
	}()
	return c, nil
}

// command is a program with no settings but those of env.
func command(ctx context.Context, path string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the user's own choice of a program
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(pair string) bool {
		return strings.HasPrefix(pair, "RINGBACK_") || strings.HasPrefix(pair, "OTEL_")
	}), env...)
	return cmd
}

// ask runs a program to its end and returns what it prints.
func ask(ctx context.Context, path string, env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var complaint bytes.Buffer
	cmd := command(ctx, path, env, args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", path, strings.Join(args, " "), err, &complaint)
	}
	return string(out), nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// said is the end of what the child has written.
func (c *child) said() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// await asks again and again until the child is ready.
func (c *child) await(ctx context.Context, ready func() error) error {
	late := time.After(startTimeout)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.ended:
			return fmt.Errorf("%s ended before it was ready, saying: %s", c.name, c.said())
		case <-late:
			return fmt.Errorf("%s is not ready after %s (%w), and says: %s", c.name, startTimeout, err, c.said())
		case <-time.After(startPoll):
		}
	}
}

// end kills the child and waits for it: nothing that it holds is wanted any more.
func (c *child) end() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}
