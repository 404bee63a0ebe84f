package egress

import "reflect"

// protocolError is the HTTP/2 error code PROTOCOL_ERROR (RFC 9113, 7): mostly this side's verdict on a malformed answer.
const protocolError = 1

// streamError has the shape of net/http's own HTTP/2 stream error, which fills any struct of this shape through errors.As.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// Error implements error, as errors.As demands of its target.
func (e streamError) Error() string { return "HTTP/2 stream error" }

// isErrorCode reports whether err is net/http's verdict that the other side broke HTTP/2 for the whole connection (RFC 9113, 5.4.1). The type of
// that error is hidden, but no other error is a number of 32 bits.
func isErrorCode(err error) bool { return reflect.ValueOf(err).Kind() == reflect.Uint32 }
