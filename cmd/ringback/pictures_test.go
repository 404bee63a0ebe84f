//go:build pictures

package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	pagetool "github.com/chromedp/cdproto/page"
)

// TestPictures takes the pictures of asynq's UI in deploy/pictures: a real browser, before a `ringback dev` whose partners fail in
// several ways. It needs chromium and fonts (Debian: chromium fonts-dejavu-core).
func TestPictures(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("make pictures needs chromium: install it, and fonts-dejavu-core")
	}
	server := start(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1]
	partner := httptest.NewServer(http.HandlerFunc(answers))
	t.Cleanup(partner.Close)

	// A company's callbacks are spread over the four lanes, so that four to each failing URL put one of each into a lane; and four that
	// are well show that the others do not suffer.
	env := []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=dev", "RINGBACK_COMPANY=acme"}
	register := func(typ, url string) {
		file := writeFile(t, fmt.Sprintf(`{"callback_type": %q, "destination": {"url": %q}, "retry": {"initial_interval": "40s"}}`, typ, url))
		for range 4 {
			ringback(t, env, "callbacks", "create", "--file", file)
		}
	}
	ways := []string{partner.URL + "/down", partner.URL + "/login", "http://127.0.0.1:" + freePort(t) + "/hook", partner.URL + "/busy"}
	for _, way := range ways {
		register("payment_proof", way)
	}
	register("wallet_item_install", partner.URL+"/well")
	for range 10 {
		ringback(t, env, "events", "send", "--type", "wallet_item_install", "--payload", sample("wallet_item_install"))
	}
	ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"), "--event-id", "proof-2041")
	deadline := time.After(patience)
	for retriesInUI(t, server, "dev") < 4*len(ways) {
		select {
		case <-deadline:
			t.Fatal("asynq's UI does not count the retries")
		case <-time.After(100 * time.Millisecond):
		}
	}
	front := withKey(t, server, "dev")
	picture(t, browser, front+"/monitoring/queues/ringback-1?status=retry", "asynq-retries.png", 1500, 1016)
	picture(t, browser, front+"/monitoring/", "asynq-queues.png", 1400, 820)
}

// TestConsolePictures takes each page of the console.
func TestConsolePictures(t *testing.T) {
	s, b := newScene(t), openBrowser(t)
	takeAll(t, b, s, "console", s.pages(t), func(tb *tab) { tb.logIn("dev") })
}

// TestPortalPictures takes each page of the portal.
func TestPortalPictures(t *testing.T) {
	s, b := newScene(t), openBrowser(t)
	takeAll(t, b, s, "portal", s.portalPages(t), func(tb *tab) { tb.comeIn(s) })
}

// takeAll takes pages: light and dark, wide and narrow.
func takeAll(t *testing.T, b *browser, s *scene, what string, pages map[string]string, comeIn func(*tab)) {
	t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for size, width := range map[string]int64{"wide": 1280, "narrow": 360} {
			tb := b.open(t, s.server)
			tell(tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
			tell(tb, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Europe/Berlin"})
			tb.size(width, 900)
			comeIn(tb)
			for name, path := range pages {
				tb.visit(path)
				high := find[float64](tb, `Math.min(1600, Math.max(600, document.documentElement.scrollHeight))`)
				shot := tell(tb, pagetool.CaptureScreenshot, pagetool.CaptureScreenshotParams{
					Clip: &pagetool.Viewport{Width: float64(width), Height: high, Scale: 1}, CaptureBeyondViewport: new(true),
				})
				keep(t, what+"-"+name+"-"+scheme+"-"+size+".png", smaller(t, shot.Data))
			}
			tb.wantsPeace()
		}
	}
}

// withKey is the address of a proxy before server that adds the API key, which a browser cannot be told on its command line.
func withKey(t *testing.T, server, key string) string {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) {
		pr.SetURL(to)
		pr.Out.Header.Set("Authorization", "Bearer "+key)
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// picture has the browser take a picture of a page, and stores it in deploy/pictures.
func picture(t *testing.T, browser, page, name string, width, height int) {
	t.Helper()
	shot := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "--virtual-time-budget=6000", fmt.Sprintf("--window-size=%d,%d", width, height), "--screenshot="+shot, page)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	taken, err := os.ReadFile(shot)
	if err != nil {
		t.Fatal(err)
	}
	if size := len(taken) >> 10; size < 20 {
		t.Fatalf("%s has %d KiB: an empty page has less than 20", name, size)
	}
	keep(t, name, taken)
}

// keep stores a picture in deploy/pictures.
func keep(t *testing.T, name string, taken []byte) {
	t.Helper()
	if size := len(taken) >> 10; size > 200 {
		t.Fatalf("%s has %d KiB: a README has room for 200", name, size)
	}
	if err := os.WriteFile(filepath.Join(root, "deploy", "pictures", name), taken, 0o644); err != nil {
		t.Fatal(err)
	}
}

// smaller is a picture in its 256 most frequent colours, which is all that a page of text needs.
func smaller(t *testing.T, shot []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	often, bounds := map[color.RGBA]int{}, full.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(full.At(x, y)).(color.RGBA) }
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			often[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(often), func(a, b color.RGBA) int { return often[b] - often[a] })
	var palette color.Palette
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	nearest := map[color.RGBA]uint8{}
	for _, c := range colours {
		nearest[c] = uint8(palette.Index(c))
	}
	few := image.NewPaletted(bounds, palette)
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			few.SetColorIndex(x, y, nearest[at(x, y)])
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, few); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
