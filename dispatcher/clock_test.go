package dispatcher

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func TestAClockThatIsOffIsToldOnce(t *testing.T) { // not beside others: a look that takes seconds proves nothing
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), Protocol: 2})
	defer func() { _ = rdb.Close() }()
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	var watch clockWatch
	for i, look := range []struct {
		ahead time.Duration // this machine's clock
		want  string        // of the log
	}{
		{0, ""},
		{900 * time.Millisecond, ""},
		{3 * time.Second, "level=WARN"},
		{4 * time.Second, ""},
		{900 * time.Millisecond, ""}, // not quite right
		{-3 * time.Second, ""},
		{0, "level=INFO"},
		{-3 * time.Second, "level=WARN"},
		{-time.Hour, ""},
	} {
		text.Reset()
		m.SetTime(time.Now().Add(-look.ahead))
		watch.look(t.Context(), rdb, log)
		if got := text.String(); (got == "") != (look.want == "") || !strings.Contains(got, look.want) || strings.Count(got, "\n") > 1 {
			t.Errorf("look %d, %v ahead: logged %q, want %q", i, look.ahead, got, look.want)
		}
		if strings.Contains(look.want, "WARN") && !strings.Contains(text.String(), map[bool]string{true: "ahead_seconds=3.", false: "ahead_seconds=-2."}[look.ahead > 0]) {
			t.Errorf("look %d, %v ahead: logged %q", i, look.ahead, text.String())
		}
	}
	m.Close()
	text.Reset()
	if watch.look(t.Context(), rdb, log); text.Len() > 0 || !watch.off {
		t.Errorf("a Redis that is away: logged %q, off %t", text.String(), watch.off)
	}
}
