package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// bind listens on addr, so that whoever hears of it afterwards can connect.
func bind(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		if opErr, ok := errors.AsType[*net.OpError](err); ok {
			err = opErr.Err
		}
		_, malformed := errors.AsType[*net.AddrError](err)
		unknown, _ := errors.AsType[*net.DNSError](err)
		err = fmt.Errorf("cannot listen on %s: %w; --listen takes another address, and port 0 any free one", addr, err)
		if malformed || unknown != nil && unknown.IsNotFound || errors.Is(err, syscall.EACCES) {
			return nil, misconfigured(err)
		}
		return nil, err // in use: the process before this one may be about to leave
	}
	return ln, nil
}
