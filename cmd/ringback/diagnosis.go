package main

import "strings"

// A diagnosis is all that doctor found.
type diagnosis struct {
	Faults     int         `json:"faults"`
	Warnings   int         `json:"warnings"`
	Durability *durability `json:"durability,omitempty"` // absent if Redis did not answer
	Findings   []finding   `json:"findings"`
}

func (d *diagnosis) add(f finding) {
	switch f.Level {
	case levelFault:
		d.Faults++
	case levelWarn:
		d.Warnings++
	}
	d.Findings = append(d.Findings, f)
}

func (d *diagnosis) print(out printer) error {
	if out.json {
		return out.value(d)
	}
	keeps := false
	for _, f := range d.Findings {
		check := f.Check
		if f.Node != "" {
			check += " of " + f.Node
		}
		if err := out.line("%-6s %-18s %s", f.Level, printable(check), printable(f.Found)); err != nil {
			return err
		}
		if f.Cure != "" {
			_ = out.line("       %-18s cure: %s", "", printable(f.Cure))
		}
		keeps = keeps || strings.Contains(f.Cure, " CONFIG SET ")
	}
	if keeps {
		_ = out.line("\nCONFIG SET lasts until Redis restarts: put the setting into redis.conf as well, or run CONFIG REWRITE.")
	}
	if d.Durability != nil {
		_ = out.line("\nAn event that was accepted:\n  Redis crashes or is killed: %s\n  its machine loses power:    %s\n  a replica takes over:       %s",
			d.Durability.RedisCrash, d.Durability.PowerCut, d.Durability.Failover)
	}
	return out.line("\nfaults: %d, warnings: %d", d.Faults, d.Warnings)
}
