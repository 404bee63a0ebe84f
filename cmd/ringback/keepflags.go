package main

import (
	"cmp"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
)

// A keeping is what is kept of exchanges with partners. Its zero value is the dispatcher's default.
type keeping struct {
	requests, answers dispatcher.Keep
	answerBytes       int // negative: nothing
}

// keepFlags say what is kept of exchanges.
func keepFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "keep-requests", Usage: "keep requests as they went out, of a delivery's last 3 attempts: `all|failed|none`", Value: string(dispatcher.KeepAll),
			EnvVars: []string{"RINGBACK_KEEP_REQUESTS"},
		},
		&cli.StringFlag{
			Name: "keep-answers", Usage: "keep answers of the last 3 attempts that failed, or of the last 3: `failed|all`", Value: string(dispatcher.KeepFailed),
			EnvVars: []string{"RINGBACK_KEEP_ANSWERS"},
		},
		&cli.IntFlag{
			Name: "keep-answer-bytes", Usage: "keep `BYTES` of an answer, 16384 at most; 0 is nothing", Value: dispatcher.DefaultKeepAnswerBytes,
			EnvVars: []string{"RINGBACK_KEEP_ANSWER_BYTES"},
		},
	}
}

// keepFrom is what the flags say.
func keepFrom(c *cli.Context) (keeping, error) {
	k := keeping{dispatcher.Keep(c.String("keep-requests")), dispatcher.Keep(c.String("keep-answers")), cmp.Or(c.Int("keep-answer-bytes"), -1)}
	switch {
	case k.requests != dispatcher.KeepAll && k.requests != dispatcher.KeepFailed && k.requests != dispatcher.KeepNone:
		return k, usagef("--keep-requests is all, failed or none")
	case k.answers != dispatcher.KeepAll && k.answers != dispatcher.KeepFailed:
		return k, usagef("--keep-answers is failed or all (--keep-answer-bytes 0 keeps none)")
	case c.Int("keep-answer-bytes") < 0 || k.answerBytes > dispatcher.MaxKeepAnswerBytes:
		return k, usagef("--keep-answer-bytes must be from 0 to %d", dispatcher.MaxKeepAnswerBytes)
	}
	return k, nil
}
