package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

// examineRedis looks at each Redis that rdb leads to, the one or a cluster's masters, and at what Ringback left there.
func (d *diagnosis) examineRedis(ctx context.Context, rdb redis.UniversalClient, promised promises) {
	usable := true
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		usable = d.examineMasters(ctx, cluster, promised)
	} else if node, ok := rdb.(*redis.Client); ok {
		usable = d.examineNode(ctx, node, "", promised)
	}
	if !usable {
		return
	}
	model, err := judgeModel(ctx, rdb)
	if err != nil {
		model.Level, model.Found, model.Cure = levelFault, oneLine(err.Error()), "see that Redis answers GET "+ledger.ModelKey+" to the user of --redis"
	}
	d.add(model)
	d.examineSteady(ctx, rdb)
	d.examineProcesses(ctx, rdb)
	if letters, err := dispatcher.ExpiringLetters(ctx, rdb); err == nil && letters > 0 { // other checks have said what cannot be read
		d.add(finding{
			Check: "dead letters", Level: levelWarn, Found: fmt.Sprintf("%d dead deliveries will soon have been kept for as long as serve --dead-retention says", letters),
			Cure: "replay what is still wanted (the workers' logs name the companies), or give --dead-retention more time",
		})
	}
}

// examineSteady compares the installation's time with each Redis's clock, as the processes have written it down.
func (d *diagnosis) examineSteady(ctx context.Context, rdb redis.UniversalClient) {
	nodes, err := steady.Nodes(ctx, rdb)
	if err != nil {
		d.add(finding{Check: "installation time", Level: levelFault, Found: oneLine(err.Error()), Cure: "see that Redis answers HGETALL " + steady.Key + " to the user of --redis"})
	}
	for _, n := range nodes {
		d.add(judgeSteady(n))
	}
}

// examineProcesses lists the processes that work on this Redis. While an older one runs, the others refuse requests for what it does not know.
func (d *diagnosis) examineProcesses(ctx context.Context, rdb redis.UniversalClient) {
	present, err := registry.Look(ctx, rdb)
	if err != nil {
		d.add(finding{Check: "processes", Level: levelFault, Found: oneLine(err.Error()), Cure: "see that the user of --redis may do what OPERATORS.md lists"})
		return
	}
	if len(present.Processes) == 0 {
		d.add(finding{Check: "processes", Level: levelOK, Found: "none is running"})
	}
	for _, p := range present.Processes {
		f := finding{Check: "process", Level: levelOK, Found: p.String()}
		if p.Level < registry.Level {
			f.Level, f.Cure = levelWarn, "upgrade or stop it: while it runs, requests for what it does not know are answered 409"
		}
		d.add(f)
	}
	if present.Unseen != nil {
		d.add(finding{
			Check: "connections", Level: levelWarn, Found: "a process of an older version that only serves the API would not be seen: Redis does not list its connections (" + oneLine(present.Unseen.Error()) + ")",
			Cure: "let the user of --redis run CLIENT LIST: ACL SETUSER NAME +client|list",
		})
	}
}
