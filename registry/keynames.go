package registry

import "strconv"

// The package's comment says what each key in Redis holds.

// VersionKey is where the version of a company's callbacks stands: a decimal
// number, absent = 0.
func VersionKey(company string) string { return "{" + company + "}:ver" }

// GateKey is where a callback's [Gate] stands.
func GateKey(company string, id int64) string {
	return gatePrefix(company) + strconv.FormatInt(id, 10)
}

func gatePrefix(company string) string { return "{" + company + "}:gate:" }

// RateKey is where a callback's [RateLimit] stands, as its String has it; absent =
// none.
func RateKey(company string, id int64) string {
	return "{" + company + "}:rate:" + strconv.FormatInt(id, 10)
}

// HealthKey is where the dispatcher keeps how a callback does. The registry notes
// there, as hn, the name of the host it goes to.
func HealthKey(company string, id int64) string {
	return "{" + company + "}:health:" + strconv.FormatInt(id, 10)
}

// RoomsKey is the sorted set of a company's callbacks to look after.
func RoomsKey(company string) string { return "{" + company + "}:rooms" }

// QuotaKey is a hash of a company's quotas, by name; what is absent is the default.
func QuotaKey(company string) string { return "{" + company + "}:quota" }

// AuditKey is a company's stream of the audit trail.
func AuditKey(company string) string { return "{" + company + "}:audit" }

func callbacksKey(company string) string { return "{" + company + "}:cb" }
func anchorsKey(company string) string   { return "{" + company + "}:cbseal" }
func changesKey(company string) string   { return "{" + company + "}:cbver" }

// companyTLSKey is a hash: the company's client certificate, sealed, and what was told of it.
func companyTLSKey(company string) string { return "{" + company + "}:tls" }

func linksKey(company string) string    { return "{" + company + "}:links" }
func sequenceKey(company string) string { return "{" + company + "}:cbseq" }

// The dispatcher's own: waitingKey is what it counts for [QuotaWaitingBytes], and eventsKey the stream of the company's events.
func waitingKey(company string) string { return "{" + company + "}:waiting" }
func eventsKey(company string) string  { return "{" + company + "}:log" }

func keyRateKey(id string) string  { return "ringback:keyrate:" + id }
func keyTestsKey(id string) string { return "ringback:keytests:" + id }
func sessionsKey(id string) string { return "ringback:sessions:" + id }

const (
	companiesKey = "ringback:companies"
	keysKey      = "ringback:keys"
	keysetKey    = "ringback:keyset"
	// certificatesKey is a sorted set: each client certificate, as its Filed has it, by its end.
	certificatesKey = "ringback:certificates"
	processesKey    = "ringback:processes"

	// The index of companies with work, the last epoch that was given in it, and what there is of those that are not in it.
	workingKey = "ringback:working"
	epochKey   = "{" + workingKey + "}:epoch"
	restingKey = "{" + workingKey + "}:asleep"
	sumsKey    = "{" + workingKey + "}:sums"
	// owedKey has the companies that are to come into the index. Its slot is 11229, that of the index 1621.
	owedKey = "ringback:owed"

	typesKey = "ringback:types" // a hash: the JSON of each callback type that operators added, by its name, and versionField
	// versionField of typesKey is how often any of the types changed. No type's name has a colon.
	versionField = ":version"

	// installationQuotaKey and goneTypesKey share the slot of [typesKey].
	installationQuotaKey = "{" + typesKey + "}:quota"
	goneTypesKey         = "{" + typesKey + "}:gone" // a hash: what is left of each callback type that was deleted, by its name; see goneType
)

// The streams of the audit trail about what no company has. They share the slots of what they tell of, so that one script changes it and writes
// the line.
const (
	auditKeysKey      = "{" + keysKey + "}:audit"
	auditTypesKey     = "{" + typesKey + "}:audit"
	auditCompaniesKey = "{" + companiesKey + "}:audit"
	auditReplaysKey   = "{ringback:replays}:audit" // of replays over companies (package ledger)
	// AuditKeyOfAll is the stream of what concerns the whole installation.
	AuditKeyOfAll = "ringback:audit"
)
