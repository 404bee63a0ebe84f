package main

// A finding is one thing about an installation that was looked at.
type finding struct {
	Node  string `json:"node,omitempty"` // which Redis, if there are several
	Check string `json:"check"`          // what was looked at, in a word or two
	Level level  `json:"level"`
	Found string `json:"found"`          // a sentence without a full stop
	Cure  string `json:"cure,omitempty"` // what to do: a command, or else a sentence; a command that begins with CONFIG is Redis's own
}

// A level says how bad a finding is.
type level string

const (
	levelOK    level = "ok"
	levelWarn  level = "warn"  // works, and may hurt
	levelFault level = "fault" // a promise does not hold
)
