// Package faults breaks Ringback on purpose and looks whether it kept its promises.
//
// It is a module of its own and nothing but tests, so that the program needs none of what they use. `make test` runs the quick ones,
// `make test-faults` all of them, some 18 minutes, and writes deploy/FAULTS.md. See the comment at the top of scene_test.go for how a
// fault is written.
package faults
