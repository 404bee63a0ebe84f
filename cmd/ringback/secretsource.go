package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// The places that a secret may come from other than the command line, which shells keep and other users of the machine see.
const (
	fromFile     = "@"    // @FILE; @- is stdin
	fromVariable = "env:" // env:VARIABLE
)

// elsewhere names these places in errors.
const elsewhere = "@FILE, @- for stdin, or env:VARIABLE"

// secretFrom reads a secret from where source says; what names no place is the secret itself. what is for errors, which never show it. The line
// break that editors put at the end of a file is no part of it.
func secretFrom(c *cli.Context, what, source string) (string, error) {
	var secret string
	switch {
	case strings.HasPrefix(source, fromVariable):
		name := strings.TrimPrefix(source, fromVariable)
		if secret = os.Getenv(name); secret == "" {
			return "", usagef("%s: the environment variable %s is not set", what, printable(name))
		}
	case strings.HasPrefix(source, fromFile):
		text, err := wholeText(c, strings.TrimPrefix(source, fromFile))
		if err != nil {
			return "", usagef("%s: %v", what, err)
		}
		secret = strings.TrimRight(string(text), "\r\n")
	default:
		return source, nil
	}
	if secret == "" || strings.ContainsAny(secret, "\r\n") {
		return "", usagef("%s: %s must hold one line and no more", what, printable(source))
	}
	return secret, nil
}

// mostSecret bounds what is read of a file that should hold a secret.
const mostSecret = 64 << 10

func wholeText(c *cli.Context, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(c.App.Reader, mostSecret))
	}
	f, err := os.Open(file) //nolint:gosec // reading the file that the user named is the point
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, mostSecret))
}

// askSecret asks the person at the terminal, without showing what is typed.
func askSecret(c *cli.Context, what string) (string, error) {
	in, ok := c.App.Reader.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", usagef("%s is missing, and there is no terminal to ask at: give it as %s", what, elsewhere)
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "%s (not shown): ", what)
	typed, err := term.ReadPassword(int(in.Fd()))
	_, _ = fmt.Fprintln(c.App.ErrWriter)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if len(typed) == 0 {
		return "", usagef("%s is missing: nothing was typed", what)
	}
	return string(typed), nil
}
