package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

//go:embed templates
var sources embed.FS

// words are the functions that templates may call.
var words = template.FuncMap{
	"stamp":  stamp,
	"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"ago":    func(t time.Time) string { return apart(t, time.Now()) },
	"later":  func(t time.Time) bool { return t.After(time.Now()) },
	"pill":   pillOf,
	"count":  count[int64],
	"figure": figure[int64],
	"number": figure[int],
	"says":   says,
	"ms":     func(ms float64) string { return strconv.FormatFloat(ms, 'f', 1, 64) + " ms" },
	"told":   told,
	"near":   near,
	"took":   took,
	"join":   strings.Join,
	"breaks": breaks,
	"asJSON": asJSON,
	"goesTo": goesTo,
	"spaced": func(s string) string { return strings.ReplaceAll(s, "_", " ") },
}

// pages are the templates by the name of their file, without its ending. Those under parts/ are what pages are made of; each page defines "main".
var pages = func() map[string]*template.Template {
	base := template.Must(template.New("").Funcs(words).ParseFS(sources, "templates/parts/*.html"))
	all := map[string]*template.Template{}
	entries, err := fs.ReadDir(sources, "templates")
	if err != nil {
		panic(err) // a directory of this program
	}
	for _, e := range entries {
		if !e.IsDir() {
			name := strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
			all[name] = template.Must(template.Must(base.Clone()).ParseFS(sources, "templates/"+e.Name()))
		}
	}
	return all
}()

// A frame is what stands around every page.
type frame struct {
	Site, Home, Style, Script, Icon string
	Accent, Logo                    string // the site's own; empty: Ringback's
	Docs                            string // the address of the API's description; empty: none is shown
	Title                           string // the page's h1
	Kicker                          string // what the title is, in a word above it
	Crumbs                          []link // the pages above it
	Menu                            []item
	Who, Role                       string // the caller; empty: nobody logged in
	Find                            string // the address of the box that finds things; empty: there is none
	AsksCompany                     bool   // the box asks for the company, too
	Company                         string // what the box is about
	Logout                          *act   // nil: the caller shows a key with every request
	Note                            *note
	Main                            any // what the page's own template gets
}

// A sheet is a page: its template, its title, and what it shows.
type sheet struct {
	template string
	status   int // 0: 200
	title    string
	kicker   string
	company  string
	crumbs   []link
	main     any
}

// show answers with a page.
func (v *visit) show(s sheet) error {
	f := v.frame(s.title)
	f.Kicker, f.Crumbs, f.Main, f.Company = s.kicker, s.crumbs, s.main, s.company
	f.Who, f.Role, f.Find, f.Note = v.key.ID, string(v.key.Role), v.path("find"), v.note()
	f.AsksCompany = !v.partners
	if v.key.ReadOnly {
		f.Role = "read only"
	}
	f.Menu = v.menu(v.key, v.r.URL.Path)
	if f.Company == "" && !v.everywhere() {
		f.Company = v.key.Company
	}
	if v.r.Header.Get("Authorization") == "" {
		f.Logout = v.act("Log out", "plain", "logout")
	}
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return write(v.w, s.status, s.template, f)
}

// frame is what stands around a page of a site.
func (s *site) frame(title string) frame {
	f := frame{Site: s.name, Home: s.root + "/", Style: s.asset("style.css"), Script: s.asset("console.js"), Icon: s.asset("icon.svg"), Title: title}
	if s.look.style != "" {
		f.Accent = s.path("static", s.look.style)
	}
	if s.look.logo != "" {
		f.Logo = s.path("static", s.look.logo)
	}
	if !s.partners {
		f.Docs = "/docs"
	}
	return f
}

// write answers with a template.
func write(w http.ResponseWriter, status int, name string, f frame) error {
	var page bytes.Buffer
	if err := pages[name].ExecuteTemplate(&page, "layout", f); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes())
	return nil
}

// trouble is what a page shows of an error.
type trouble struct {
	Status int
	Says   string
	Fields []client.FieldErr
	Again  string // where to try again; empty: nowhere
	Focus  bool   // it has the focus when the page comes
}

// troubleOf is what a caller hears of an error. What is no answer of the API is this program's fault, and the log knows more.
func troubleOf(err error) trouble {
	e, ok := errors.AsType[*client.APIError](err)
	if !ok {
		return trouble{Status: http.StatusInternalServerError, Says: "Something went wrong in Ringback: the operator finds the cause in its log."}
	}
	t := trouble{Status: e.Status, Says: sentence(e.Detail)}
	if t.Says == "" {
		t.Says = sentence(http.StatusText(e.Status))
	}
	for _, f := range e.Errors {
		if !strings.Contains(e.Detail, f.Message) {
			t.Fields = append(t.Fields, f)
		}
	}
	return t
}

// fail answers with a page about an error.
func (v *visit) fail(err error) {
	t := troubleOf(err)
	if t.Status == http.StatusInternalServerError && v.r.Context().Err() == nil {
		v.log.ErrorContext(v.r.Context(), "page failed", "page", v.r.Pattern, "error", err)
	}
	if e, ok := errors.AsType[*client.APIError](err); ok && e.RetryAfter > 0 {
		v.w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryAfter/time.Second)))
	}
	if err := v.show(sheet{template: "trouble", status: t.Status, title: http.StatusText(t.Status), main: t}); err != nil {
		v.log.ErrorContext(v.r.Context(), "page failed", "page", v.r.Pattern, "error", err)
		http.Error(v.w, t.Says, http.StatusInternalServerError)
	}
}

// asJSON is a value as JSON, in which <, > and & stay as they are: the template escapes them.
func asJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(b.String()), err
}

// indented is JSON for people.
func indented(doc json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, doc, "", "  ") != nil {
		return string(doc)
	}
	return b.String()
}
