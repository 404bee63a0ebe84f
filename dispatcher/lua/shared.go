package lua

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scripts and Go share these. A script finds each under the name that shared gives it.
const (
	// OrderScale makes of an event's place in the log a number, which rooms are sorted by: milliseconds times this, and a sequence number below it.
	OrderScale = 4096
	// HostMemory is how long after its last failure a host is forgotten.
	HostMemory = time.Hour
	// TypeFailing and TypeDisabled are the operational types that tell a company how its callbacks do.
	TypeFailing  = "callback.failing"
	TypeDisabled = "callback.disabled"
	// TypeExpiring is the operational type that tells a company of a client certificate that expires.
	TypeExpiring = "callback.certificate_expiring"
)

// Warnings are at how many percent of the way to its end a callback is warned of.
func Warnings() []int { return []int{50, 70, 90} }

// shared are parts of the head. Each script has those that it uses.
var shared = []string{
	fmt.Sprintf("local ORDER_SCALE = %d", OrderScale),
	fmt.Sprintf("local HOST_MEMORY = %d -- ms", HostMemory.Milliseconds()),
	fmt.Sprintf("local TYPE_FAILING, TYPE_DISABLED = '%s', '%s'", TypeFailing, TypeDisabled),
	fmt.Sprintf("local WARNINGS = {%s} -- the highest first", descending(Warnings())),
}

func descending(numbers []int) string {
	var texts []string
	for _, n := range slices.Backward(slices.Sorted(slices.Values(numbers))) {
		texts = append(texts, fmt.Sprint(n))
	}
	return strings.Join(texts, ", ")
}
