package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

const (
	portalLinksRoute = companyRoute + "/portal-links"
	portalLinkRoute  = portalLinksRoute + "/{link_id}"

	// portalEntrance is where a portal link leads: its token follows. The page there has to work without script, so a fragment will not do; and a token
	// in a query ends up in more places than one in a path, such as the statistics of a proxy. The page shows a button, and only the button's POST uses
	// the token up. What a proxy logs of the address is worthless from then on.
	portalEntrance = "/portal/enter/"
)

type (
	portalLinksIn struct {
		Company string `path:"company"`
	}
	portalLinkIn struct {
		Company string `path:"company"`
		LinkID  string `path:"link_id"`
	}
	newPortalLinkIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/json"`
	}
	newPortalLinkOut struct {
		Location string `header:"Location"`
		Body     newPortalLink
	}
	portalLinkOut  struct{ Body portalLink }
	portalLinksOut struct{ Body portalLinkList }

	portalLinkList struct {
		PortalLinks []portalLink `json:"portal_links"`
	}
	newPortalLink struct {
		URL string `json:"url" doc:"The address that works once, with the secret token in it. It is shown here and never again."`
		portalLink
	}
	portalLink struct {
		ID               string     `json:"id"`
		Status           string     `json:"status" enum:"unused,expired,in_use,ended" doc:"unused: it can be opened. expired: nobody opened it in time. in_use: its session lasts. ended: its session is over."`
		CreatedAt        time.Time  `json:"created_at"`
		CreatedBy        string     `json:"created_by" doc:"The id of the API key, or cli."`
		ExpiresAt        time.Time  `json:"expires_at" doc:"Until then it can be opened."`
		SessionExpiresIn string     `json:"session_expires_in" doc:"How long its session lasts."`
		CallbackIDs      []int64    `json:"callback_ids,omitempty" doc:"The callbacks that its session sees. Absent: all of the company's."`
		ReadOnly         bool       `json:"read_only" doc:"Its session may look and change nothing."`
		UsedAt           *time.Time `json:"used_at,omitempty" doc:"When it was opened."`
		SessionExpiresAt *time.Time `json:"session_expires_at,omitempty" doc:"When its session ends, or ended."`
	}

	portalLinkRequestDoc struct {
		_                struct{}    `additionalProperties:"false"`
		ExpiresIn        durationDoc `json:"expires_in,omitempty" doc:"How long the link can be opened: 1m to 720h, 24h by default."`
		SessionExpiresIn durationDoc `json:"session_expires_in,omitempty" doc:"How long its session lasts: 1m to 168h, 12h by default."`
		CallbackIDs      []int64     `json:"callback_ids,omitempty" minItems:"1" maxItems:"100" doc:"What its session sees: these callbacks, their deliveries and the events of those. Absent: all of the company's."`
		ReadOnly         bool        `json:"read_only,omitempty" doc:"Its session may look and change nothing."`
	}
)

func (s *server) portalLinks() {
	chapter := []string{"Portal links"}
	register(s, operation{need: managePortalLinks, body: &body{schema: reflect.TypeFor[portalLinkRequestDoc](), optional: true}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "create-portal-link", Method: http.MethodPost, Path: portalLinksRoute, Tags: chapter, DefaultStatus: http.StatusCreated,
		Summary: "Make a link to the company's page",
		Description: "For a partner without an API key. The link works once: opening it shows a button, and the button uses it up and begins a session, in which its holder " +
			"may do what a partner's key may, within `callback_ids` and `read_only`. The link's address begins with the installation's `--public-url`. " +
			"A company has 100 links at most; one that has ended makes room.",
		Errors: []int{http.StatusConflict},
	}}, s.createPortalLink)
	register(s, operation{need: managePortalLinks, Operation: huma.Operation{
		OperationID: "list-portal-links", Method: http.MethodGet, Path: portalLinksRoute, Tags: chapter, Summary: "List portal links",
		Description: "Newest first: those that can be opened or whose sessions last, and those that ended within a week.",
	}}, s.listPortalLinks)
	register(s, operation{need: managePortalLinks, Operation: huma.Operation{
		OperationID: "get-portal-link", Method: http.MethodGet, Path: portalLinkRoute, Tags: chapter, Summary: "Show a portal link",
	}}, s.getPortalLink)
	register(s, operation{need: managePortalLinks, Operation: huma.Operation{
		OperationID: "revoke-portal-link", Method: http.MethodDelete, Path: portalLinkRoute, Tags: chapter, Summary: "Revoke a portal link",
		Description: "Its session ends at once, too, on every process.",
	}}, s.revokePortalLink)
}

func (s *server) createPortalLink(ctx context.Context, in *newPortalLinkIn) (*newPortalLinkOut, error) {
	if s.PublicURL == "" {
		return nil, errNoAddress
	}
	terms, err := decodeLinkTerms(in.RawBody)
	if err != nil {
		return nil, err
	}
	token, l, err := s.Registry.CreateLink(ctx, in.Company, terms)
	if errors.Is(err, registry.ErrTooManyLinks) {
		return nil, &refusal{status: http.StatusConflict, detail: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	return &newPortalLinkOut{
		Location: "/companies/" + in.Company + "/portal-links/" + l.ID,
		Body:     newPortalLink{URL: s.PublicURL + portalEntrance + token, portalLink: shownLink(l, l.CreatedAt)},
	}, nil
}

// decodeLinkTerms reads what a link is made for. All members are optional.
func decodeLinkTerms(body []byte) (terms registry.LinkTerms, err error) {
	err = optionalMembers(body, func(name string, value json.RawMessage) string {
		if isNull(value) {
			return ""
		}
		switch name {
		case "expires_in":
			return lasting(value, &terms.ExpiresIn)
		case "session_expires_in":
			return lasting(value, &terms.SessionExpiresIn)
		case "callback_ids":
			if json.Unmarshal(value, &terms.Callbacks) != nil {
				return "must be a list of callbacks' ids, such as [1, 2]"
			}
			return ""
		case "read_only":
			return boolean(value, &terms.ReadOnly)
		}
		return "is not known here: the members are expires_in, session_expires_in, callback_ids and read_only"
	})
	return terms, err
}

// lasting reads a duration that is longer than nothing.
func lasting(value json.RawMessage, into *time.Duration) (wrong string) {
	wrong = duration(value, into)
	if wrong == "" && *into <= 0 {
		return "must be longer than nothing, such as \"24h\": leave it out for the default"
	}
	return wrong
}

func (s *server) listPortalLinks(ctx context.Context, in *portalLinksIn) (*portalLinksOut, error) {
	links, at, err := s.Registry.Links(ctx, in.Company)
	if err != nil {
		return nil, err
	}
	shown := make([]portalLink, len(links))
	for i, l := range links {
		shown[i] = shownLink(l, at)
	}
	return &portalLinksOut{portalLinkList{shown}}, nil
}

func (s *server) getPortalLink(ctx context.Context, in *portalLinkIn) (*portalLinkOut, error) {
	l, at, err := s.Registry.Link(ctx, in.Company, in.LinkID)
	return &portalLinkOut{shownLink(l, at)}, linkError(err)
}

func (s *server) revokePortalLink(ctx context.Context, in *portalLinkIn) (*noContent, error) {
	return &noContent{}, linkError(s.Registry.RevokeLink(ctx, in.Company, in.LinkID))
}

// linkError turns the registry's "not found" into one that speaks of a link.
func linkError(err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		return errNoLink
	}
	return err
}

// shownLink is a link as the API shows it at a time of the installation.
func shownLink(l registry.Link, at time.Time) portalLink {
	shown := portalLink{
		ID: l.ID, Status: string(l.State(at)), CreatedAt: l.CreatedAt, CreatedBy: l.CreatedBy, ExpiresAt: l.ExpiresAt,
		SessionExpiresIn: l.SessionLasts(), CallbackIDs: l.Callbacks, ReadOnly: l.ReadOnly,
	}
	if !l.UsedAt.IsZero() {
		shown.UsedAt, shown.SessionExpiresAt = &l.UsedAt, &l.SessionEndsAt
	}
	return shown
}
