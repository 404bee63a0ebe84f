package console

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A look is how a site differs from Ringback's own: its colour and its logo, as files that browsers keep.
type look struct {
	style, logo string // the files' names; empty: none
	files       []*file
}

// newLook is the look with an accent and a logo. Either may be missing.
func newLook(accent string, logo []byte) (l look, err error) {
	if accent != "" {
		c, err := parseColour(accent)
		if err != nil {
			return l, fmt.Errorf("console: PortalConfig.Accent %w", err)
		}
		f := newFile("accent", ".css", "text/css; charset=utf-8", []byte(accentStyle(c)))
		l.style, l.files = f.name, append(l.files, f)
	}
	if logo != nil {
		f, err := newLogo(logo)
		if err != nil {
			return l, fmt.Errorf("console: PortalConfig.Logo %w", err)
		}
		l.logo, l.files = f.name, append(l.files, f)
	}
	return l, nil
}

// CheckAccent says what is wrong with the text of a colour, if something is.
func CheckAccent(text string) error {
	_, err := parseColour(text)
	return err
}

// CheckLogo says what is wrong with a logo, if something is.
func CheckLogo(picture []byte) error {
	_, err := newLogo(picture)
	return err
}

// MaxLogo bounds a logo, in bytes: it is on every page, in 28 pixels' height.
const MaxLogo = 64 << 10

// logoPolicy is for whoever opens the logo by itself: a picture may have styles, and nothing in it runs or is loaded.
const logoPolicy = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"

// newLogo is the file of a logo. What it is follows from its bytes.
func newLogo(b []byte) (*file, error) {
	if len(b) > MaxLogo {
		return nil, fmt.Errorf("must have %d KiB at most: it is on every page", MaxLogo>>10)
	}
	if bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")) {
		if c, err := png.DecodeConfig(bytes.NewReader(b)); err != nil || c.Width > 4096 || c.Height > 4096 {
			return nil, errors.New("is a PNG that cannot be read, or one of more than 4096 pixels")
		}
		f := newFile("logo", ".png", "image/png", b)
		f.policy = logoPolicy
		return f, nil
	}
	if err := checkSVG(b); err != nil {
		return nil, err
	}
	f := newFile("logo", ".svg", "image/svg+xml", b)
	f.policy = logoPolicy
	return f, nil
}

// checkSVG wants a picture that runs nothing and loads nothing.
func checkSVG(b []byte) error {
	d := xml.NewDecoder(bytes.NewReader(b))
	for root := true; ; {
		t, err := d.Token()
		switch {
		case errors.Is(err, io.EOF) && !root:
			return nil
		case err != nil:
			return errors.New("must be a PNG or an SVG")
		}
		e, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		if root && e.Name.Local != "svg" {
			return errors.New("must be a PNG or an SVG")
		}
		root = false
		if slices.Contains([]string{"script", "foreignobject", "iframe", "handler"}, strings.ToLower(e.Name.Local)) {
			return fmt.Errorf("must be a picture and no more: take <%s> out of it", e.Name.Local)
		}
		for _, a := range e.Attr {
			name, value := strings.ToLower(a.Name.Local), strings.TrimSpace(a.Value)
			if strings.HasPrefix(name, "on") || name == "href" && !strings.HasPrefix(value, "#") && !strings.HasPrefix(value, "data:image/") {
				return fmt.Errorf("must be a picture and no more: take %s out of <%s>", a.Name.Local, e.Name.Local)
			}
		}
	}
}

// EmbedOrigin checks an origin whose pages may have the portal in a frame, and returns it as policies name it.
func EmbedOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#") || !isHost(u) {
		return "", errors.New("must be an origin, which is a scheme, a host and perhaps a port, such as https://partners.example.com: no path, no wildcard")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return "", errors.New("must be https: whoever is on the way could change another page, and use the portal through it. On loopback http will do")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// host are the names that a policy can name: no wildcards, nothing that would end the directive.
var host = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

func isHost(u *url.URL) bool {
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return false
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		return addr.Zone() == ""
	}
	return host.MatchString(u.Hostname())
}

func isLoopback(name string) bool {
	addr, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && addr.IsLoopback()
}

// A colour is red, green and blue, from 0 to 1.
type colour [3]float64

var hex6 = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)

func parseColour(text string) (c colour, err error) {
	if !hex6.MatchString(text) {
		return c, errors.New("must be a colour such as #1f5fd0")
	}
	for i := range c {
		n, _ := strconv.ParseUint(text[1+2*i:3+2*i], 16, 8) // the pattern has seen to it
		c[i] = float64(n) / 255
	}
	return c, nil
}

func (c colour) String() string {
	return fmt.Sprintf("#%02x%02x%02x", int(math.Round(c[0]*255)), int(math.Round(c[1]*255)), int(math.Round(c[2]*255)))
}

// mixed is c with so much of another colour in it, from 0 to 1.
func (c colour) mixed(with colour, much float64) colour {
	for i := range c {
		c[i] += (with[i] - c[i]) * much
	}
	return c
}

// luminance is that of WCAG 2.
func (c colour) luminance() float64 {
	for i, v := range c {
		if v <= .04045 {
			c[i] = v / 12.92
		} else {
			c[i] = math.Pow((v+.055)/1.055, 2.4)
		}
	}
	return .2126*c[0] + .7152*c[1] + .0722*c[2]
}

// contrast is that of WCAG 2, from 1 to 21.
func contrast(a, b colour) float64 {
	la, lb := a.luminance(), b.luminance()
	return (max(la, lb) + .05) / (min(la, lb) + .05)
}

// readable is the contrast that text needs (WCAG 2, AA), with a little more for what rounding takes away.
const readable = 4.6

var (
	black = colour{0, 0, 0}
	white = colour{1, 1, 1}
)

// A scheme is what an accent stands on, light or dark: style.css names the same colours.
type scheme struct {
	grounds []string // --sheet comes first
	toward  colour   // what an accent is mixed with until it can be read
	tint    float64  // how much of an accent is in --accent-soft
}

var (
	light = scheme{[]string{"#ffffff", "#f7f8fa", "#eef1f5"}, black, .1}
	dark  = scheme{[]string{"#171c24", "#10141a", "#202733"}, white, .18}
)

// accents are the accent that can be read in a scheme, what is written on it, and its tint. The accent is as near as can be to the one that is wanted.
func (s scheme) accents(wanted colour) (accent, ink, soft colour) {
	sheet, _ := parseColour(s.grounds[0]) // they are this program's
	for step := 0; step <= 100; step++ {
		accent = wanted.mixed(s.toward, float64(step)/100)
		soft = accent.mixed(sheet, 1-s.tint)
		worst := contrast(accent, soft)
		for _, text := range s.grounds {
			ground, _ := parseColour(text)
			worst = min(worst, contrast(accent, ground))
		}
		if worst >= readable {
			break
		}
	}
	ink = white
	if contrast(accent, black) > contrast(accent, white) {
		ink = black
	}
	return accent, ink, soft
}

// accentStyle is the style sheet that puts an accent in the place of Ringback's, light and dark.
func accentStyle(wanted colour) string {
	var b strings.Builder
	rule := func(s scheme) {
		accent, ink, soft := s.accents(wanted)
		fmt.Fprintf(&b, ":root { --accent: %s; --accent-ink: %s; --accent-soft: %s; }\n", accent, ink, soft)
	}
	rule(light)
	b.WriteString("@media (prefers-color-scheme: dark) {\n")
	rule(dark)
	b.WriteString("}\n")
	return b.String()
}
