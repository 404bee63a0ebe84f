package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ringback/ringback/registry"
)

// need says what a key must be for an operation.
type need struct {
	roles []registry.Role
	// everywhere asks for a key of all companies: the answer is about all of them.
	everywhere bool
	// byKey asks for an API key: whoever came by a portal link may not.
	byKey bool
	// anywhere lets the path name * for all companies, to keys of all companies.
	anywhere bool
}

// andAnywhere is n, where the path may name * for all companies.
func (n need) andAnywhere() need {
	n.anywhere = true
	return n
}

// The needs of the operations (api.md). An operator may do all of it.
var (
	// Partners look after their callbacks; viewers look at them. A producer has no business with them.
	manageCallbacks = need{roles: []registry.Role{registry.Operator, registry.Partner}}
	readCallbacks   = need{roles: []registry.Role{registry.Operator, registry.Partner, registry.Viewer}}
	// Producers send events. All roles read the fate of one.
	sendEvents = need{roles: []registry.Role{registry.Operator, registry.Producer}}
	readFates  = need{roles: []registry.Role{registry.Operator, registry.Producer, registry.Partner, registry.Viewer}}
	// Partners replay and cancel the deliveries that they receive.
	steerDeliveries = need{roles: []registry.Role{registry.Operator, registry.Partner}}
	readTypes       = readFates
	// Producers may take back the events that they send. Only operators erase companies.
	eraseEvents    = sendEvents
	eraseCompanies = need{roles: []registry.Role{registry.Operator}}
	// The audit is for those who may change something.
	readAudit = manageCallbacks
	// Types are the same for all companies.
	manageTypes = need{roles: []registry.Role{registry.Operator}, everywhere: true}
	// What is sent again over all companies, too.
	manageEverywhere = manageTypes
	// Egress and the lanes are the same for all companies, too.
	manageEgress = manageTypes
	manageLanes  = manageTypes
	// A company's own operator reads its quotas. Quotas bound companies, so a company does not set its own.
	readQuotas   = eraseCompanies
	manageQuotas = manageTypes
	// An operator, or a partner, lets others in to the company's page. Those do not.
	managePortalLinks = need{roles: manageCallbacks.roles, byKey: true}
	// API keys are for operators to see and revoke, each for what its own key covers.
	manageKeys = eraseCompanies
	watch      = need{roles: []registry.Role{registry.Operator, registry.Viewer}, everywhere: true}
)

// permits judges a known key: first what it may see, then what it may do. If the path names no company, company is empty.
func (n need) permits(key registry.Key, company string) error {
	if company != "" && !key.Covers(company) {
		return errHidden
	}
	if !slices.Contains(n.roles, key.Role) {
		return n.wrongRole(key.Role)
	}
	if n.everywhere && key.Company != registry.AllCompanies {
		return errNotAllSeers
	}
	if n.byKey && key.IsLink() {
		return errLinkByLink
	}
	return nil
}

// wrongRole refuses a role, and names those that will do.
func (n need) wrongRole(role registry.Role) error {
	var able []string
	for _, r := range n.roles {
		able = append(able, string(r))
	}
	return &refusal{
		status: http.StatusForbidden,
		detail: fmt.Sprintf("a %s key may not do this: it takes the role %s", role, strings.Join(able, " or ")),
	}
}
