package bench

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Report is all that was measured.
type Report struct {
	Binaries []Binary `json:"binaries,omitempty"`
	Server   string   `json:"server,omitempty"`
	Runs     int      `json:"runs"`
	// Floors are the medians over the runs; absent for a Server.
	Floors Figures `json:"floors,omitempty"`
	// Results are in the order of scenario, phase and binary.
	Results []*Result `json:"results"`
	// Notes say what was not measured, and why.
	Notes []string `json:"notes,omitempty"`
}

// Binary is one of the programs that were measured.
type Binary struct {
	Number  int    `json:"number"` // from 1
	Path    string `json:"path"`
	Version string `json:"version"` // as it calls itself
}

func (b Binary) label() string {
	if b.Number == 0 {
		return "the server"
	}
	return fmt.Sprintf("binary %d", b.Number)
}

// Result is what one phase of a scenario came to with one binary.
type Result struct {
	Scenario string    `json:"scenario"`
	Phase    string    `json:"phase,omitempty"` // empty: the scenario has only one
	Binary   int       `json:"binary"`          // its number; 0 for a Server
	Median   Figures   `json:"median"`
	Ratios   Figures   `json:"ratios,omitempty"` // of the median to that of the first binary
	Runs     []Figures `json:"runs"`
}

// Name is the scenario and the phase, for people.
func (r *Result) Name() string {
	if r.Phase == "" {
		return r.Scenario
	}
	return r.Scenario + " " + r.Phase
}

// Faults counts what must not be: deliveries that are missing, signatures that do not verify, and deliveries that came under two ids.
func (r *Report) Faults() (missing, signatures, ids int) {
	for _, result := range r.Results {
		for _, figures := range result.Runs {
			missing += int(figures[Missing])
			signatures += int(figures[BadSignatures])
			ids += int(figures[ChangedIDs])
		}
	}
	return missing, signatures, ids
}

func (r *Report) add(name string, binary int, p phase) {
	for _, result := range r.Results {
		if result.Scenario == name && result.Phase == p.name && result.Binary == binary {
			result.Runs = append(result.Runs, p.figures)
			return
		}
	}
	r.Results = append(r.Results, &Result{Scenario: name, Phase: p.name, Binary: binary, Runs: []Figures{p.figures}})
}

// conclude makes the medians and the ratios, and puts the binaries of each phase together.
func (r *Report) conclude(floors []Figures) {
	r.Floors = medians(floors)
	first := map[string]Figures{}
	for _, result := range r.Results {
		result.Median = medians(result.Runs)
		if len(result.Runs) > 1 {
			slowest := func(a, b Figures) int { return cmp.Compare(a[DeliveryRate], b[DeliveryRate]) }
			result.Median[LowestRate] = slices.MinFunc(result.Runs, slowest)[DeliveryRate]
			result.Median[HighestRate] = slices.MaxFunc(result.Runs, slowest)[DeliveryRate]
		}
		if result.Binary == 1 {
			first[result.Name()] = result.Median
		} else if result.Binary > 1 {
			result.Ratios = result.Median.ratios(first[result.Name()])
		}
	}
	place := map[string]int{}
	for _, result := range r.Results {
		if _, ok := place[result.Name()]; !ok {
			place[result.Name()] = len(place)
		}
	}
	slices.SortStableFunc(r.Results, func(a, b *Result) int { return place[a.Name()] - place[b.Name()] })
}

// medians are those of each figure. If a figure counts faults, it is the worst instead.
func medians(runs []Figures) Figures {
	values := map[string][]float64{}
	for _, run := range runs {
		for name, value := range run {
			values[name] = append(values[name], value)
		}
	}
	out := Figures{}
	for name, v := range values {
		slices.Sort(v)
		out[name] = (v[(len(v)-1)/2] + v[len(v)/2]) / 2
		if slices.Contains(faults, name) {
			out[name] = v[len(v)-1]
		}
	}
	return out
}

// ratios are those of f to the figures of base, where both are above 0. Counts have none.
func (f Figures) ratios(base Figures) Figures {
	out := Figures{}
	for name := range maps.Keys(f) {
		if f[name] > 0 && base[name] > 0 && !slices.Contains(counts, name) {
			out[name] = f[name] / base[name]
		}
	}
	return out
}
