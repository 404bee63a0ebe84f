package main

import "github.com/ringback/ringback/dispatcher/client"

// stateOf is a delivery's state and, where it is held, why.
func stateOf(d *client.Delivery) string {
	if d.HeldReason != "" {
		return d.State + " (" + d.HeldReason + ")"
	}
	return d.State
}
