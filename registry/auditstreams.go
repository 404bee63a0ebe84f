package registry

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

var (
	// auditOfAll are the streams of what no company has.
	auditOfAll = []string{AuditKeyOfAll, auditKeysKey, auditTypesKey, auditCompaniesKey, auditReplaysKey}
	// auditOfCompanies are those of them that have lines about a company.
	auditOfCompanies = []string{auditKeysKey, auditCompaniesKey, auditReplaysKey}
)

const (
	// trailPage is how many lines of a stream are read at once at most.
	trailPage = 100
	// trailPipe is how many streams are asked in one round trip.
	trailPipe = 500
)

// A linePlace orders lines: newest first, and those of the same moment by stream.
type linePlace struct {
	ms, seq int64
	stream  string
}

func (p linePlace) before(q linePlace) bool {
	switch {
	case p.ms != q.ms:
		return p.ms > q.ms
	case p.seq != q.seq:
		return p.seq > q.seq
	}
	return p.stream < q.stream
}

func (p linePlace) id() string { return fmt.Sprintf("%d-%d", p.ms, p.seq) }

func (p linePlace) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte("line:" + p.id() + " " + p.stream))
}

func parsePlace(id, stream string) (p linePlace, ok bool) {
	ms, seq, _ := strings.Cut(id, "-")
	p.stream = stream
	var errMS, errSeq error
	p.ms, errMS = strconv.ParseInt(ms, 10, 64)
	p.seq, errSeq = strconv.ParseInt(seq, 10, 64)
	return p, errMS == nil && errSeq == nil
}

func decodePlace(cursor string) (p linePlace, ok bool) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	rest, isLine := strings.CutPrefix(string(text), "line:")
	id, stream, _ := strings.Cut(rest, " ")
	if err != nil || !isLine {
		return p, false
	}
	return parsePlace(id, stream)
}

func placeOf(m redis.XMessage, stream string) linePlace {
	place, _ := parsePlace(m.ID, stream) // Redis numbers them so
	return place
}
