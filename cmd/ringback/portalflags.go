package main

import (
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/httpapi"
)

// publicURLFlag is the address that links which are handed out begin with.
func publicURLFlag(without string) cli.Flag {
	return &cli.StringFlag{
		Name: "public-url", Usage: "`URL` that people reach the pages at, such as https://ringback.example.com: portal links begin with it", DefaultText: without,
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
