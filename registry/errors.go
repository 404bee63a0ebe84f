package registry

import "errors"

// ErrNotFound says that there is no such callback, or no such API key.
var ErrNotFound = errors.New("registry: not found")

// ErrBusy says that a callback, or a callback type, kept changing under a change: try again.
var ErrBusy = errors.New("registry: this is being changed by others at the moment")

// tries is how often an optimistic change is tried before it is ErrBusy. Each lost try is another's success.
const tries = 50
