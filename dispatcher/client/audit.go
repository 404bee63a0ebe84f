package client

import (
	"context"
	"iter"
	"net/http"
	"time"
)

// An AuditEntry is a line of the audit trail: who changed what, and when.
type AuditEntry struct {
	ID      string        `json:"id"` // unique, and the same whenever it is read
	At      time.Time     `json:"at"`
	Company string        `json:"company,omitempty"` // empty: the whole installation
	Actor   string        `json:"actor"`             // an API key's id; "engine": Ringback itself; "cli": a command that talks to Redis
	Action  string        `json:"action"`            // such as callback.update
	Object  string        `json:"object"`            // such as callbacks/2
	Changes []AuditChange `json:"changes"`
	Sealed  bool          `json:"sealed,omitempty"` // there are changes, sealed with a key that the server's keyset does not have any more
}

// An AuditChange is what became of one field. Secrets are "***", URLs are without their query.
type AuditChange struct {
	Field string `json:"field"`
	Old   any    `json:"old,omitempty"` // nil: there was none
	New   any    `json:"new,omitempty"` // nil: there is none
}

// An AuditPage is a page of the audit trail, newest first.
type AuditPage struct {
	Answer
	Entries    []AuditEntry `json:"entries"`
	NextCursor string       `json:"next_cursor,omitempty"` // empty on the last page; others may have fewer entries than Limit, or none
}

// An AuditQuery selects lines of the audit trail. The zero value selects all that the key may see.
type AuditQuery struct {
	Company string    // lines about it
	Since   time.Time // at this time or later
	Until   time.Time // before this time
	Limit   int       // at most 500; 0: 50
	Cursor  string    // NextCursor of the page before
}

// Audit reads the audit trail, which is kept for 90 days. It takes an operator's or a partner's key; one of a single company sees that alone.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (*AuditPage, error) {
	return ask[AuditPage](ctx, c, request{
		method: http.MethodGet, path: []string{"audit"},
		query: query("company", q.Company, "since", moment(q.Since), "until", moment(q.Until), "limit", number(q.Limit), "cursor", q.Cursor),
	})
}

// AllAudit are lines of the audit trail, newest first, page after page from q.Cursor on. An error ends them.
func (c *Client) AllAudit(ctx context.Context, q AuditQuery) iter.Seq2[AuditEntry, error] {
	return all(func(cursor string) ([]AuditEntry, string, error) {
		q.Cursor = cursor
		page, err := c.Audit(ctx, q)
		if err != nil {
			return nil, "", err
		}
		return page.Entries, page.NextCursor, nil
	}, q.Cursor)
}
