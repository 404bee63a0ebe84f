package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
}

// confirm asks the person at the terminal to type word, or wants it from stdin. With --yes it asks nothing.
func confirm(c *cli.Context, question, word string) error {
	if c.Bool("yes") {
		return nil
	}
	if in, ok := c.App.Reader.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		_, _ = fmt.Fprint(c.App.ErrWriter, printable(question))
	}
	line, _ := bufio.NewReader(c.App.Reader).ReadString('\n') // the end without a line is no answer either
	if strings.TrimSpace(line) != word {
		return usagef("nothing is done: type %s when asked, or give --yes", printable(word))
	}
	return nil
}

// readJSON reads a JSON document from a file, or from stdin if it is named "-".
func readJSON(c *cli.Context, file string) (json.RawMessage, error) {
	var doc []byte
	var err error
	if file == "-" {
		doc, err = io.ReadAll(c.App.Reader)
	} else {
		doc, err = os.ReadFile(file) //nolint:gosec // reading the file that the user named is the point
	}
	if err != nil {
		return nil, err
	}
	doc = bytes.TrimPrefix(doc, byteOrderMark)
	if !json.Valid(doc) {
		return nil, fmt.Errorf("%s does not hold valid JSON", fileName(file))
	}
	return doc, nil
}

func fileName(file string) string {
	if file == "-" {
		return "stdin"
	}
	return file
}

// byteOrderMark is what some programs write at the beginning of a text file. It says nothing about UTF-8, and is no part of the text.
var byteOrderMark = []byte("\ufeff")
