package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker (see the Makefile). Without it, what `go install` recorded is used.
var version = ""

// programVersion names this build: a tag such as "v1.2.3", or "dev" when nobody said.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(c *cli.Context) error {
			if _, err := arguments(c); err != nil {
				return err
			}
			out := newPrinter(c)
			if out.json {
				return out.value(map[string]string{"version": programVersion(), "go": runtime.Version()})
			}
			_, err := fmt.Fprintf(out.w, "ringback %s (%s)\n", programVersion(), runtime.Version())
			return err
		},
	}
}
