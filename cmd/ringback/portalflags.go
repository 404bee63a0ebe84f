package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/console"
	"github.com/ringback/ringback/dispatcher/httpapi"
)

// publicURLFlag is the address that links which are handed out begin with.
func publicURLFlag(without string) cli.Flag {
	return &cli.StringFlag{
		Name: "public-url", Usage: "`URL` that people reach the pages at, such as https://ringback.example.com: portal links, and the addresses in thin bodies, begin with it", DefaultText: without,
		EnvVars: []string{"RINGBACK_PUBLIC_URL"},
	}
}

// publicURL is what that flag says; empty: nothing.
func publicURL(c *cli.Context) (string, error) {
	text := c.String("public-url")
	if text == "" {
		return "", nil
	}
	u, err := httpapi.PublicURL(text)
	if err != nil {
		return "", usagef("--public-url %s", err)
	}
	return u, nil
}

// portalFlags say how the partners' pages look, and where.
func portalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{
			Name: "portal-embed", Usage: "let pages of this `ORIGIN`, such as https://partners.example.com, have /portal/ in a frame (repeatable)",
			EnvVars: []string{"RINGBACK_PORTAL_EMBED"},
		},
		&cli.StringFlag{Name: "portal-name", Usage: "call /portal/ `NAME`", Value: "Ringback", EnvVars: []string{"RINGBACK_PORTAL_NAME"}},
		&cli.StringFlag{Name: "portal-logo", Usage: "show the PNG or SVG in `FILE` on /portal/: 64 KiB at most, read at the start", EnvVars: []string{"RINGBACK_PORTAL_LOGO"}},
		&cli.StringFlag{
			Name: "portal-accent", Usage: "give /portal/ this `COLOUR`, such as #1f5fd0, made darker or lighter where it could not be read", EnvVars: []string{"RINGBACK_PORTAL_ACCENT"},
		},
	}
}

// maxPortalName bounds a name that stands on top of each page, in bytes.
const maxPortalName = 60

// portalLook is what those flags say.
func portalLook(c *cli.Context) (look console.PortalLook, err error) {
	look.Name, look.Accent = strings.TrimSpace(c.String("portal-name")), c.String("portal-accent")
	if look.Name == "" || len(look.Name) > maxPortalName || strings.ContainsFunc(look.Name, unicode.IsControl) {
		return look, usagef("--portal-name must have 1 to %d bytes, and no control characters", maxPortalName)
	}
	if look.Accent != "" {
		if err := console.CheckAccent(look.Accent); err != nil {
			return look, usagef("--portal-accent %v", err)
		}
	}
	for _, text := range commaSeparated(c.StringSlice("portal-embed")) {
		origin, err := console.EmbedOrigin(text)
		if err != nil {
			return look, usagef("--portal-embed %v", err)
		}
		look.Embed = append(look.Embed, origin)
	}
	if name := c.String("portal-logo"); name != "" {
		if look.Logo, err = logoIn(name); err != nil {
			return look, usagef("--portal-logo %s %v", printable(name), err)
		}
	}
	return look, nil
}

// logoIn reads a logo. Of what is no logo it reads no more than it takes to say so.
func logoIn(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the operator's own choice of a file
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err)) // without its name, which the caller has
	}
	defer func() { _ = f.Close() }()
	picture, err := io.ReadAll(io.LimitReader(f, console.MaxLogo+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	return picture, console.CheckLogo(picture)
}
