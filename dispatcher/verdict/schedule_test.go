package verdict

import (
	"testing"
	"time"

	"github.com/ringback/ringback/registry"
)

// TestTheDefaultSchedule: 15 attempts over about 57 hours, the first retry after 5 s, times 2.5, at most 12 h apart, ±20 %.
func TestTheDefaultSchedule(t *testing.T) {
	retry := registry.Retry{InitialInterval: 5 * time.Second, Multiplier: 2.5, MaxInterval: 12 * time.Hour, MaxAttempts: 15}
	interval, total := float64(5*time.Second), time.Duration(0)
	for n := 1; n < retry.MaxAttempts; n++ {
		want := min(time.Duration(interval), retry.MaxInterval)
		total += want
		interval *= 2.5
		for range 200 {
			wait, least, exhausted := Next(retry, n, 0)
			if low, high := want*8/10, want*12/10+time.Millisecond; exhausted || wait < low-1 || wait > high || least > wait || least < low-time.Millisecond {
				t.Fatalf("after attempt %d: %s, at least %s, %t; want %s to %s", n, wait, least, exhausted, low, high)
			}
		}
	}
	if total < 56*time.Hour || total > 59*time.Hour {
		t.Errorf("the schedule spans %s", total)
	}
	if _, _, exhausted := Next(retry, retry.MaxAttempts, 0); !exhausted {
		t.Error("it never ends")
	}
	if wait, least, _ := Next(retry, 1, time.Hour); wait != time.Hour || least != time.Hour {
		t.Errorf("Retry-After: %s, at least %s", wait, least)
	}
}
