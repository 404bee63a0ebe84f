package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func deleteTypeCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Usage: "take a type away that was added and that nothing uses", ArgsUsage: typeArg,
		Description: examples("ringback types delete order.placed") +
			"\n\nIt is refused while a callback is registered for the type, or a delivery of it is not finished, and says where. " +
			"It takes some seconds, and an operator's key of all companies. What was sent of the type can be read and replayed as before.",
		Action: deleteType,
	}
}

func deleteType(c *cli.Context) error {
	args, err := arguments(c, typeArg)
	if err != nil {
		return err
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	if err := api.DeleteType(c.Context, args[0]); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback type %s is deleted\n", printable(args[0]))
	return nil
}
