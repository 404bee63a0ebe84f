package console

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// An accent can be read in light and in dark, whichever colour somebody wants, and stays the colour that it is where it can.
func TestAccentsCanBeRead(t *testing.T) {
	sheet := string(files["style.css"].bytes)
	day, night, _ := strings.Cut(sheet, "prefers-color-scheme: dark")
	for part, s := range map[string]scheme{day: light, night: dark} {
		for i, name := range []string{"--sheet", "--ground", "--raised"} {
			if !strings.Contains(part, name+": "+s.grounds[i]+";") {
				t.Errorf("style.css does not say %s: %s", name, s.grounds[i])
			}
		}
	}
	for r := 0; r < 256; r += 51 {
		for g := 0; g < 256; g += 51 {
			for b := 0; b < 256; b += 51 {
				text := fmt.Sprintf("#%02X%02x%02x", r, g, b)
				wanted, err := parseColour(text)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range []scheme{light, dark} {
					accent, ink, soft := s.accents(wanted)
					shown := func(c colour) colour { c, _ = parseColour(c.String()); return c } // as the browser gets it
					for _, ground := range append([]string{soft.String(), ink.String()}, s.grounds...) {
						on, _ := parseColour(ground)
						if got := contrast(shown(accent), on); got < 4.5 {
							t.Errorf("%s becomes %s, with a contrast of %.2f to %s", text, accent, got, ground)
						}
					}
				}
			}
		}
	}
	for text, want := range map[string]string{"#1f5fd0": "--accent: #1f5fd0; --accent-ink: #ffffff;", "#ffcc00": "--accent: #ffcc00; --accent-ink: #000000;"} {
		c, err := parseColour(text)
		if err != nil || !strings.Contains(accentStyle(c), want) {
			t.Errorf("%s: %v\n%s", text, err, accentStyle(c))
		}
	}
	for _, text := range []string{"", "red", "#fff", "#12345g", "1f5fd0", "#1f5fd0;}", " #1f5fd0"} {
		if CheckAccent(text) == nil {
			t.Errorf("%q is taken for a colour", text)
		}
	}
}

const svg = `<?xml version="1.0"?><!-- drawn --><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><style>rect { fill: red }</style><rect width="4" height="4"/></svg>`

// pngOf is a picture.
func pngOf(t *testing.T, side int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, side, 1))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A logo is a PNG or an SVG by what is in it, and no more than a picture.
func TestLogos(t *testing.T) {
	for _, good := range [][]byte{[]byte(svg), pngOf(t, 4), []byte(strings.Replace(svg, "<rect", `<use href="#a"/><rect`, 1))} {
		if err := CheckLogo(good); err != nil {
			t.Error(err)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing": {}, "text": []byte("a logo"), "html": []byte("<html><body/></html>"), "half an SVG": []byte(svg[:60]), "half a PNG": pngOf(t, 4)[:20],
		"too long": []byte(svg + strings.Repeat(" ", MaxLogo)), "too wide": pngOf(t, 4097),
		"a script": []byte(strings.Replace(svg, "<rect", "<script>alert(1)</script><rect", 1)), "a handler": []byte(strings.Replace(svg, "<rect", `<rect onclick="alert(1)"`, 1)),
		"a page within": []byte(strings.Replace(svg, "<rect", "<foreignObject/><rect", 1)), "a link": []byte(strings.Replace(svg, "<rect", `<a href="javascript:alert(1)"/><rect`, 1)),
		"a picture of strangers": []byte(strings.Replace(svg, "<rect", `<image href="https://evil.example/x.png"/><rect`, 1)),
		"an entity":              []byte(`<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>`),
	} {
		if CheckLogo(bad) == nil {
			t.Errorf("%s is taken for a logo", name)
		}
	}
}

func TestEmbedOrigins(t *testing.T) {
	for text, want := range map[string]string{
		"https://partners.example.com": "https://partners.example.com", "https://Partners.Example.com:8443": "https://partners.example.com:8443",
		"http://localhost:3000": "http://localhost:3000", "http://127.0.0.1:3000": "http://127.0.0.1:3000", "http://[::1]:3000": "http://[::1]:3000",
	} {
		if got, err := EmbedOrigin(text); got != want || err != nil {
			t.Errorf("%s: %q %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "*", "https://*", "https://*.example.com", "https://partners.example.com/", "https://partners.example.com/a", "https://partners.example.com?", "https://partners.example.com#",
		"https://me:s3cret@partners.example.com", "http://partners.example.com", "http://127.0.0.1.example.com", "ftp://localhost", "partners.example.com", "'self'", "https:", "https://", "data:",
		"https://a.example; script-src *", "https://a.example https://b.example", "https://a.example,https://b.example", "https://a.example:", "https://a.example:0", "https://a.example:99999", "https://a_b.example", "https://[fe80::1%25eth0]",
	} {
		if got, err := EmbedOrigin(text); err == nil {
			t.Errorf("%q is taken for the origin %s", text, got)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error repeats a password: %v", err)
		}
	}
}

// A portal has the name, the colour and the logo that an operator gave it, as files of its own: no page has a style in its text. The logo is no page that runs.
func TestPortalLook(t *testing.T) {
	h := newHouse(t)
	cfg := h.portal
	cfg.PortalLook = PortalLook{Name: "Hooks of <Acme>", Accent: "#ffcc00", Logo: []byte(svg)}
	var err error
	h.guest, err = NewPortal(cfg)
	h.must(err)
	nobody := &visitor{h, "", map[string]string{}}
	page := nobody.get("/portal/login").want(t, http.StatusOK, "Hooks of &lt;Acme&gt;")
	page.wantSound(t)
	files := regexp.MustCompile(`"(/portal/static/(?:accent|logo)\.[0-9a-f]{16}\.(?:css|svg))"`).FindAllStringSubmatch(page.text, -1)
	if len(files) != 2 {
		t.Fatalf("the page names %v", files)
	}
	style, logo := nobody.get(files[0][1]), h.raw(files[1][1])
	style.want(t, http.StatusOK, "--accent: #ffcc00")
	if got := style.header.Get("Content-Type"); got != "text/css; charset=utf-8" {
		t.Errorf("the style is %s", got)
	}
	logo.want(t, http.StatusOK, "<svg")
	if policy := logo.header.Get("Content-Security-Policy"); logo.header.Get("Content-Type") != "image/svg+xml" || !strings.HasPrefix(policy, "default-src 'none';") || !strings.Contains(policy, "sandbox") || logo.header.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(policy, "script-src") {
		t.Errorf("the logo may run scripts: %v", logo.header)
	}
	if page := h.showing("operator").get("/console/types"); strings.Contains(page.text, "Acme") || strings.Contains(page.text, "accent.") {
		t.Error("the console looks like the portal")
	}
	for field, look := range map[string]PortalLook{"Accent": {Accent: "red"}, "Logo": {Logo: []byte("x")}, "Embed": {Embed: []string{"*"}}} {
		cfg.PortalLook = look
		if _, err := NewPortal(cfg); err == nil || !strings.Contains(err.Error(), "PortalConfig."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for want, cfg := range map[string]PortalConfig{"API": {}, "Sessions": {API: h.api}} {
		if _, err := NewPortal(cfg); err == nil || !strings.Contains(err.Error(), "PortalConfig."+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// In pages of the origins that are named the portal may be embedded, and its cookies come back there, each site's own. The console never may.
func TestPortalEmbedding(t *testing.T) {
	h := newHouse(t)
	cfg := h.portal
	cfg.Embed = []string{"https://partners.example.com", "http://localhost:3000"}
	var err error
	h.guest, err = NewPortal(cfg)
	h.must(err)
	token, _ := h.link("acme", "")
	r := newForm(t, "/portal/enter", url.Values{"link": {token}})
	a := h.serve(r)
	a.want(t, http.StatusSeeOther)
	cookie := a.header.Get("Set-Cookie")
	for _, part := range []string{"ringback_portal=", "Path=/portal/", "HttpOnly", "Secure", "SameSite=None", "Partitioned"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie has no %s: %s", part, cookie)
		}
	}
	for _, at := range []string{"/portal/login", "/portal/", "/portal/nowhere", "/portal/enter/" + token} {
		a := h.raw(at)
		policy := a.header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "frame-ancestors 'self' https://partners.example.com http://localhost:3000;") || a.header.Get("X-Frame-Options") != "" || !strings.Contains(policy, "form-action 'self'") {
			t.Errorf("%s: %v", at, a.header)
		}
		if a.header.Get("Cross-Origin-Resource-Policy") != "cross-origin" || a.header.Get("Cross-Origin-Embedder-Policy") != "require-corp" {
			t.Errorf("%s cannot stand in a page that wants its frames to agree: %v", at, a.header)
		}
	}
	h.showing("operator").get("/console/types").want(t, http.StatusOK) // do checks its headers
	value, _, _ := strings.Cut(cookie, ";")
	visit := func(r *http.Request) answer {
		r.Header.Set("Cookie", value)
		return h.serve(r)
	}
	form := url.Values{"token": {tokenOn(t, visit(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/portal/types", nil)))}}
	r = newForm(t, "/portal/logout", form) // from a page that embeds it
	r.Header.Set("Origin", "https://partners.example.com")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	visit(r).want(t, http.StatusForbidden, "sent from another site")
	r = newForm(t, "/portal/logout", form)
	r.Header.Set("Origin", "null")
	r.Header.Del("Sec-Fetch-Site")
	visit(r).want(t, http.StatusForbidden, "sent from another site")
	visit(newForm(t, "/portal/logout", form)).want(t, http.StatusSeeOther)
}
