package console

import (
	"net/http"
	"net/url"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// A keyRow is an API key in a list.
type keyRow struct {
	*client.APIKey
	State  string // enabled or expired
	Own    bool   // it is the caller's
	Revoke string // leads to the page that asks; empty: the caller may not
}

// keysPage lists the API keys that the caller's covers.
func keysPage(v *visit) error {
	given, query := v.r.URL.Query(), url.Values{}
	for _, name := range []string{"company", "cursor"} {
		if value := given.Get(name); value != "" {
			query.Set(name, value)
		}
	}
	page := struct {
		Action, Company string
		On, AsksCompany bool
		Rows            []keyRow
		Pager           pager
	}{Action: v.path("keys"), Company: given.Get("company"), On: query.Has("company"), AsksCompany: v.everywhere()}
	var list client.KeyPage
	if err := v.get(&list, query, "keys"); err != nil {
		return err
	}
	page.Pager = v.pagerOf(list.NextCursor)
	for _, k := range list.Keys {
		row := keyRow{APIKey: k, State: "enabled", Own: k.ID == v.key.ID}
		if !k.ExpiresAt.IsZero() && k.ExpiresAt.Before(v.now) {
			row.State = "expired"
		}
		if k.ReplacedUntil.Before(v.now) {
			k.ReplacedUntil = time.Time{}
		}
		if v.operates() {
			row.Revoke = v.path("keys", k.ID, "revoke")
		}
		page.Rows = append(page.Rows, row)
	}
	return v.show(sheet{template: "keys", title: "API keys", company: page.Company, main: page})
}

// revokeKeyPage asks whether to revoke an API key, and does it. If it is the caller's own, it says so.
func revokeKeyPage(v *visit) error {
	id := v.r.PathValue("key")
	if v.r.Method == http.MethodPost {
		query := url.Values{}
		if own := v.r.PostForm.Get("own"); own != "" {
			query.Set("own", own)
		}
		if err := ask(v.r.Context(), v.api, v.r, v.w, question{method: http.MethodDelete, path: route("keys", id), query: query}, nil); err != nil {
			return err
		}
		return v.seen("API key "+id+" is revoked.", "keys")
	}
	var k client.APIKey
	if err := v.get(&k, nil, "keys", id); err != nil {
		return err
	}
	c := confirmation{
		Says: []string{
			"Whoever shows it is refused from now on, within a second in every process, and all visits end that were begun with it.",
			"It cannot be brought back. Another one is made on the command line, with `ringback keys create`.",
		},
		Act: v.act("Revoke the key", "danger", "keys", id, "revoke"), Back: v.path("keys"), Facts: factsOf(&k),
	}
	if id == v.key.ID {
		c.Act.Label, c.Hidden = "Revoke my own key", [][2]string{{"own", "true"}}
		c.Says = append([]string{"This is your own key: your visit ends with it at once, and without another key you do not come back in."}, c.Says...)
	}
	return v.show(sheet{template: "confirm", title: "Revoke API key " + id + "?", crumbs: []link{{c.Back, "API keys"}}, main: c})
}

// factsOf a key, for the page that asks whether to revoke it.
func factsOf(k *client.APIKey) []fact {
	at := func(name string, t time.Time) fact {
		if t.IsZero() {
			return fact{name, "never", ""}
		}
		return factAt(name, t)
	}
	company := k.Company
	if company == client.AllOfThem {
		company = "all"
	}
	return []fact{
		{"Role", k.Role, ""},
		{"Company", company, ""},
		at("Last used", k.LastUsedAt),
		at("Made", k.CreatedAt),
		at("Expires", k.ExpiresAt),
	}
}
