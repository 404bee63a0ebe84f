package main

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
)

// posture is what doctor finds about Redis, for the overview.
func posture(rdb redis.UniversalClient, promised promises) func(context.Context) dispatcher.Posture {
	return func(ctx context.Context) dispatcher.Posture {
		d := &diagnosis{}
		d.examineRedis(ctx, rdb, promised)
		p := dispatcher.Posture{Faults: d.Faults, Warnings: d.Warnings}
		for _, f := range d.Findings {
			p.Findings = append(p.Findings, dispatcher.Finding{Node: f.Node, Check: f.Check, Level: string(f.Level), Found: f.Found, Cure: f.Cure})
		}
		return p
	}
}
