package registry_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/registry"
)

// filing does something before the command of a name is sent that names the file of certificates, the times that it is counted down.
type filing struct {
	command string
	passes  int
	do      func()
}

func (f *filing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *filing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *filing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); cmd.Name() == f.command && len(args) > 1 && args[1] == "ringback:certificates" {
			if f.passes--; f.passes == -1 {
				f.do()
			}
		}
		return next(ctx, cmd)
	}
}

// TestACertificateInUseIsFiled wherever a process stands still between storing one and filing it, while another process brings the one from before back.
func TestACertificateInUseIsFiled(t *testing.T) {
	a := egresstest.NewAuthority(t, "authority")
	one, oneKey := a.Client("one", nil)
	two, twoKey := a.Client("two", nil)
	for what, set := range map[string]func(h *house, cert, key string) error{
		"a company's": func(h *house, cert, key string) error {
			_, err := h.SetCompanyTLS(t.Context(), "acme", []byte(pair(cert, key)))
			return err
		},
		"a callback's": func(h *house, cert, key string) error {
			return createdError(h.Patch(t.Context(), "acme", 1, []byte(`{"tls":`+pair(cert, key)+`}`)))
		},
	} {
		for _, stop := range []filing{{command: "zadd", passes: 1}, {command: "zrem"}} {
			h := newHouse(t)
			h.create("acme", plain)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(set(h, one, oneKey))
			slow, stopped := h.neighbour(), false
			stop.do = func() { stopped = true; must(set(h, one, oneKey)) }
			slow.redis.AddHook(&stop)
			must(set(slow, two, twoKey))
			filed, err := h.FiledUntil(t.Context(), time.Now().Add(1000*24*time.Hour), 0, 10)
			must(err)
			inUse := slices.ContainsFunc(filed, func(f registry.Filed) bool {
				_, c, err := h.InUse(t.Context(), f)
				must(err)
				return c != nil && strings.Contains(c.Subject, "one")
			})
			if !stopped || !inUse {
				t.Errorf("%s, stopped before %s: stopped %t; filed is not what is in use: %+v", what, stop.command, stopped, filed)
			}
		}
	}
}

// TestAnotherChainLeavesACertificateFiled: it is the same certificate, with others of its authority behind it.
func TestAnotherChainLeavesACertificateFiled(t *testing.T) {
	h := newHouse(t)
	a := egresstest.NewAuthority(t, "authority")
	cert, key := a.Client("acme", nil)
	cb := h.create("acme", plain)
	for _, chain := range []string{cert, cert + a.PEM()} {
		if _, err := h.SetCompanyTLS(t.Context(), "acme", []byte(pair(chain, key))); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Patch(t.Context(), "acme", cb.ID, []byte(`{"tls":`+pair(chain, key)+`}`)); err != nil {
			t.Fatal(err)
		}
	}
	if filed, err := h.FiledUntil(t.Context(), time.Now().Add(1000*24*time.Hour), 0, 10); err != nil || len(filed) != 2 {
		t.Errorf("filed are %+v, %v", filed, err)
	}
}
