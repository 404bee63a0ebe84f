package main

import (
	"strconv"

	"github.com/ringback/ringback/dispatcher/client"
)

// stateOf is a delivery's state and, where it is held, why.
func stateOf(d *client.Delivery) string {
	if d.HeldReason != "" {
		return d.State + " (" + d.HeldReason + ")"
	}
	return d.State
}

// some shows a number, and zero as nothing.
func some(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
