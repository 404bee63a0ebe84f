package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
)

// sayEvery is how often a progress that is no bar says how far it is, and that the server is away.
const sayEvery = 5 * time.Second

// progress tells on stderr how far the sending of a file is: a bar on a terminal, else a line every few seconds. It is safe for
// concurrent use.
type progress struct {
	began time.Time

	mu     sync.Mutex
	w      io.Writer
	bar    *progressbar.ProgressBar // nil: lines
	size   int64                    // of the file, -1: not known
	bytes  int64
	events int
	said   time.Time // when there was a line last
	fussed time.Time // when there was one about the server last
}

func newProgress(c *cli.Context, size int64) *progress {
	p := &progress{w: c.App.ErrWriter, size: size, began: time.Now(), said: time.Now()}
	if isScreen(p.w) {
		p.bar = progressbar.NewOptions64(size, append(barOptions(c), progressbar.OptionShowBytes(true), progressbar.OptionSetDescription("sending"))...)
	}
	return p
}

// barOptions are those of every bar: on stderr, and gone when it is done; where stderr is no terminal, nothing.
func barOptions(c *cli.Context) []progressbar.Option {
	return []progressbar.Option{
		progressbar.OptionSetWriter(c.App.ErrWriter), progressbar.OptionSetVisibility(isScreen(c.App.ErrWriter)), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionSetWidth(20), progressbar.OptionSetPredictTime(true), progressbar.OptionUseANSICodes(true),
	}
}

// add says that the file is done up to a byte, with so many events more.
func (p *progress) add(bytes int64, events int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes, p.events = bytes, p.events+events
	now := time.Now()
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%d events, %.0f/s", p.events, float64(p.events)/max(now.Sub(p.began).Seconds(), 0.001)))
		_ = p.bar.Set64(bytes)
	} else if now.Sub(p.said) >= sayEvery {
		p.said = now
		_, _ = fmt.Fprintln(p.w, p.line(now))
	}
}

// line is how far it is, in words.
func (p *progress) line(now time.Time) string {
	took := max(now.Sub(p.began), time.Millisecond)
	said := fmt.Sprintf("%d events (%.1f MB) in %s, %.0f events/s", p.events, float64(p.bytes)/1e6, took.Round(time.Second), float64(p.events)/took.Seconds())
	if p.size <= 0 || p.bytes == 0 {
		return said
	}
	left := time.Duration(float64(took) * float64(p.size-p.bytes) / float64(p.bytes))
	return fmt.Sprintf("%d%%: %s, about %s left", 100*p.bytes/p.size, said, left.Round(time.Second))
}

// note prints a line of its own.
func (p *progress) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(text)
}

func (p *progress) print(text string) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	_, _ = fmt.Fprintln(p.w, oneLine(printable(text)))
	if p.bar != nil {
		_ = p.bar.RenderBlank()
	}
}

// hiccup says that the server is away and is asked again, but not for every batch.
func (p *progress) hiccup(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.fussed) >= sayEvery {
		p.fussed = now
		p.print(err.Error() + "; trying again")
	}
}

// finish takes the bar away.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
}
