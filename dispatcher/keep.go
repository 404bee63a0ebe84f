package dispatcher

import (
	"errors"

	"github.com/ringback/ringback/dispatcher/verdict"
)

// A Keep says of which attempts something is kept.
type Keep string

// Of which attempts something is kept.
const (
	KeepNone   Keep = "none"
	KeepFailed Keep = "failed" // of those that did not deliver
	KeepAll    Keep = "all"
)

// Bounds of what is kept of a partner's answer, headers and body together.
const (
	// DefaultKeepAnswerBytes is also how much of it stands in a delivery's record, which each attempt reads and writes. More stands beside it.
	DefaultKeepAnswerBytes = 1 << 10
	MaxKeepAnswerBytes     = 16 << 10
)

// of reports whether something is kept of an attempt with that verdict.
func (k Keep) of(v verdict.Verdict) bool {
	return k == KeepAll || k == KeepFailed && v != verdict.Delivered
}

// A keeping is what is kept of the exchanges with partners.
type keeping struct {
	requests, answers Keep
	answerBytes       int
	// seal hides a URL that a callback was called at from who reads Redis.
	seal func(company string, callback int64, url string) ([]byte, error)
}

// inRecord is how much of an answer stands in a delivery's record.
func (k keeping) inRecord() int { return min(k.answerBytes, DefaultKeepAnswerBytes) }

// check says what is wrong with it.
func (k keeping) check() error {
	switch {
	case k.requests != KeepNone && k.requests != KeepFailed && k.requests != KeepAll:
		return errors.New("dispatcher: Config.KeepRequests must be all, failed or none")
	case k.answers != KeepFailed && k.answers != KeepAll:
		return errors.New("dispatcher: Config.KeepAnswers must be failed or all")
	case k.answerBytes > MaxKeepAnswerBytes:
		return errors.New("dispatcher: Config.KeepAnswerBytes must be at most 16384")
	}
	return nil
}
