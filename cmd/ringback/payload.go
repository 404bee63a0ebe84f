package main

import "github.com/urfave/cli/v2"

func payloadCommand() *cli.Command {
	return &cli.Command{
		Name: "payload", Usage: "print an event's payload, byte for byte as it came in", ArgsUsage: eventArg,
		Description: examples("ringback events payload proof-1 > proof.json"),
		Flags:       []cli.Flag{companyFlag()}, Action: printPayload,
	}
}

func printPayload(c *cli.Context) error {
	args, err := arguments(c, eventArg)
	if err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	payload, err := api.Payload(c.Context, company, args[0])
	if err != nil {
		return err
	}
	_, err = c.App.Writer.Write(payload)
	return err
}
