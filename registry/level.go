package registry

import (
	"strconv"
	"strings"
)

// Level says which features a process knows: each feature that a process without it would ignore or misread belongs to the first level
// whose processes know it. It grows with a release that has such features.
//
//	1  commit 6da24ca, which announces nothing
//	2  processes announce themselves, and know unverified callbacks, anchored seals, quotas and API keys with terms
//	3  processes list the companies with work
//	4  processes know data model 2 (package ledger), another number of lanes than four, and a halt
//	5  processes erase a company's portal links, and the sessions of those, with the company, and know callback types that are being deleted
//	6  processes know a callback's filter, template, envelope, body, header_style, tls, signature, batch and ordering, callbacks that the partner fetches from,
//	companies' client certificates, and requests with an Idempotency-Key
const Level = 6

// ModelLevel is the [Level] whose processes know data model 2. Processes below it would misread what is written in it.
const ModelLevel = 4

// linksLevel is the [Level] whose processes erase portal links with their company.
const linksLevel = 5

// goneTypesLevel is the [Level] whose processes take nothing new of a callback type that is being deleted.
const goneTypesLevel = 5

// wireLevel is the [Level] whose processes know what a callback may say of its requests beyond level 5; see traits.
const wireLevel = 6

// CertificatesLevel is the [Level] whose processes know the callback type that tells of client certificates that expire.
const CertificatesLevel = wireLevel

// announcedLevel is the [Level] that brought what level 2 has.
const announcedLevel = 2

// clientName is the name that processes of level 1 give to their connections to Redis. Later ones add a slash and their level.
const clientName = "ringback"

// ClientName is the name that the connections of this program's processes to Redis bear: KnownEverywhere tells levels apart by it.
func ClientName() string { return clientName + "/" + strconv.Itoa(Level) }

// LevelOfName returns the level of the processes whose connections bear that name. If they are none of Ringback's, or have a name of their
// own, it returns 0.
func LevelOfName(name string) int {
	if name == clientName {
		return 1
	}
	if text, ok := strings.CutPrefix(name, clientName+"/"); ok {
		if level, err := strconv.Atoi(text); err == nil && level > 1 {
			return level
		}
	}
	return 0
}
