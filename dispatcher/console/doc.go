// Package console is Ringback's pages for people: for on-call at /console/, and for partners at /portal/.
//
// # No second truth
//
// A page knows nothing by itself. It calls the API's [http.Handler] in this process, as the caller that asked for the page, and shows what the
// API answered. So a page shows what a key may see, and does what a key may do, since the API decides. If the API refuses, its sentences are the
// page's message. The package imports neither the dispatcher nor its ledger, and has no connection to Redis of its own.
//
// # Who gets in
//
// A caller shows an API key in the header Authorization, as to the API, or logs in with one on the login page. A login gives the browser a cookie
// with a session's token, never the key. The console takes operators and viewers. The portal takes partners, each at its company, and whoever
// opens a portal link, within what the link is for. Buttons follow the role: a viewer sees none, nor does whoever may look only. The API decides
// all the same.
//
// A portal link's address shows a button, and looks at nothing. The button's form uses the link up, and begins a session. So whoever merely opens
// addresses uses nothing up.
//
// A POST is taken from pages of the same origin only, and only with the token that the page's form holds. The token is derived from the key or
// from the session's token, so that nothing has to be kept of it.
//
// No page may stand in a frame, unless an operator names origins whose pages may have the portal in one. Then the portal's cookies go along from within
// that frame, and each site that has it gets cookies of its own.
//
// # Two at the same callback
//
// A form that changes a callback's settings has the version that it was filled from, which is the API's ETag, and sends it back as If-Match. If somebody
// changed the settings meanwhile, nothing is done. The form comes back with what was typed, and says what is there now. Those are the forms that edit
// and delete a callback, and that give it a new secret or a new key. The others change no settings: each does what its page says, whatever those are.
//
// # Forms that come back
//
// A form that was refused comes back with what was typed, and the focus is where something has to be mended. A secret that was typed is on no page. Its
// field says that it has to be typed again, and an empty one is refused once: nobody gets a secret that was made who meant to bring one.
//
// # What a page is
//
// A page is whole without script. The script shows times in the viewer's zone, copies, and follows what happens. No page has a script or a style in its text: both
// are files under static/, whose names hold a hash of what is in them, so that browsers keep them for good.
//
// # Where each page is, and what it calls
//
//	/console/                                       GET /overview
//	/console/companies                              GET /companies
//	/console/login, /console/logout                 GET /caller
//	/console/find                                   GET /companies/{company}/events, or with * for all; with an id, what that names
//	/console/replays, /console/replays/{id}         GET /replays, GET /replays/{id}
//	/console/replays/{id}/cancel                    DELETE /replays/{id}
//	/console/replays/start                          POST /replays, at first with dry_run
//	/console/companies/{company}                    GET /companies/{company}/config/callbacks
//	…/callbacks/{id}                                GET …/config/callbacks/{id}, GET …/deliveries
//	…/new                                           POST …/config/callbacks, or POST …/config/callbacks/dry-run
//	…/callbacks/{id}/edit                           PATCH …/config/callbacks/{id}, with what the form changes, or POST …/config/callbacks/{id}/dry-run
//	…/callbacks/{id}/pause, resume, test, verify    the POST of that name
//	…/callbacks/{id}/secret, signing-key            the POST of that name
//	…/callbacks/{id}/replay                         POST …/config/callbacks/{id}/replay, at first with dry_run
//	…/deliveries, …/deliveries/{id}                 the GET of that name; of one, with include=request
//	…/live                                          GET …/deliveries/stream, for the script of the lists
//	…/deliveries/{id}/now, replay, cancel           the POST of that name
//	…/events/{id}, …/events/{id}/payload            GET …/events/{id}, GET …/events/{id}/payload
//	…/replays, …/replays/{id}                       the GET of that name
//	…/replays/{id}/cancel                           DELETE …/replays/{id}
//	…/replays/start                                 POST …/replays, at first with dry_run
//	/console/types, /console/types/{name}           GET /callback-types, GET /callback-types/{name}
//	/console/keys                                   GET /keys
//	/console/keys/{id}/revoke                       GET /keys/{id}, DELETE /keys/{id}
//	/console/audit                                  GET /audit
//	/console/operations                             GET /egress, GET /lanes
//	/console/operations/pause, resume               POST /egress/pause, POST /egress/resume
//	/console/static/{file}                          nothing
//
// The portal has the same pages below /portal/, but for what is of all companies, the keys and the audit trail. A company's page has each
// callback's last deliveries (GET …/deliveries) and what needs the partner (GET …/config/callbacks by status). And it has these:
//
//	/portal/                                        the page of the caller's company
//	/portal/enter/{token}, /portal/enter            nothing; the form opens the link
//	…/callbacks/{id}/delete                         DELETE …/config/callbacks/{id}
//	/portal/verification                            nothing
//
// # Files
//
// The files form layers, and each leans only on those below it. From the bottom to the top they are:
//
//   - words and pictures: words.go, times.go, draw.go;
//   - the files that browsers keep (static.go), a site's own colour and logo (look.go), and the calls of the API (ask.go);
//   - a front end with its root, its name and its menu (site.go);
//   - a request on its way (visit.go), and the templates that answer it (render.go);
//   - the door before all pages (door.go), the way in and out (login.go), and all that is served below a root (front.go);
//   - a callback's settings (settings.go), what somebody changed of them while another had the form (meanwhile.go), and the fields that pages have for
//     such (fields.go);
//   - pages that ask before they do something (confirm.go), and a file for each kind of page, of which portal*.go are the portal's alone;
//   - the pages that both roots have (routes.go), and console.go and portal.go, which put all of them together.
package console
