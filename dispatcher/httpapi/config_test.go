package httpapi

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { _ = rdb.Close() })
	whole := Config{
		Client: &dispatcher.Client{}, Registry: &registry.Registry{}, Keys: &registry.Keys{},
		Redis: rdb,
	}
	for name, spoil := range map[string]func(*Config){
		"Config.Client":   func(c *Config) { c.Client = nil },
		"Config.Registry": func(c *Config) { c.Registry = nil },
		"Config.Keys":     func(c *Config) { c.Keys = nil },
		"Config.Redis":    func(c *Config) { c.Redis = nil },
		"Config.MaxBody":  func(c *Config) { c.MaxBody = -1 },
	} {
		cfg := whole
		spoil(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutMetricsThereIsNoSuchPath(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Metrics = nil })
	h.call("operator", "GET", "/metrics", "").wantProblem(404)
	if strings.Contains(string(h.call("", "GET", "/openapi.json", "").body), `"/metrics"`) {
		t.Error("/metrics is described")
	}
}
