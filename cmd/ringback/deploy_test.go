package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/registry/redistest"
)

const deployFolder = "../../deploy"

// TestDeployFitsTheMetrics holds what stands in deploy/ about metrics against those of a busy app, in which all that they tell of has happened:
// its list of them, and by a real Prometheus every query of the dashboard and of the alerts.
func TestDeployFitsTheMetrics(t *testing.T) {
	t.Parallel()
	server := busyApp(t)
	t.Run("METRICS.md", func(t *testing.T) {
		_, text := get(t, server+"/metrics", "dev")
		compareMetrics(t, readFile(t, deployFolder+"/METRICS.md"), text)
	})
	needs(t, "prometheus", "promtool")
	p := scrape(t, server)
	t.Run("dashboard", func(t *testing.T) {
		queries, annotations := dashboardQueries(t)
		for _, query := range queries {
			p.wantSeries(t, query)
		}
		for _, query := range annotations {
			p.wantSelectors(t, query)
		}
	})
	t.Run("alerts", p.checkAlerts)
}

// TestAlertsFireWhenTheyShould is promtool's to say: the cases stand beside the rules.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	t.Parallel()
	needs(t, "promtool")
	rules, cases := readFile(t, deployFolder+"/prometheus/ringback.rules.yml"), readFile(t, deployFolder+"/prometheus/ringback.rules.test.yml")
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) == 0 {
		t.Fatal("there are no alerts")
	}
	for _, alert := range alerts {
		if !strings.Contains(cases, "alertname: "+alert[1]+"\n        exp_alerts:\n") || !strings.Contains(cases, "alertname: "+alert[1]+", exp_alerts: []") {
			t.Errorf("%s is not tried both ways", alert[1])
		}
	}
	cmd := exec.CommandContext(t.Context(), "promtool", "test", "rules", "ringback.rules.test.yml")
	cmd.Dir = deployFolder + "/prometheus"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestMetricsWithoutRedis: the gauges that come from Redis go missing, and soon the whole answer, which is what the alert goes by.
func TestMetricsWithoutRedis(t *testing.T) {
	t.Parallel()
	const gauge = "\nringback_oldest_due_age_seconds "
	redis := redistest.Start(t)
	env := []string{"RINGBACK_REDIS=" + redis.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json"), "RINGBACK_LISTEN=127.0.0.1:0"}
	serve := startPlain(t, env, "serve")
	server := "http://" + address(serve)
	key := strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "viewer"))
	if _, text := get(t, server+"/metrics", key); !strings.Contains(text, gauge) {
		t.Fatalf("with Redis: no%s in\n%s", gauge, text)
	}
	redis.Kill()
	if status, text := get(t, server+"/metrics", key); strings.Contains(text, gauge) || (status != http.StatusOK && status != http.StatusServiceUnavailable) {
		t.Errorf("without Redis: %d\n%s", status, text)
	}
}

// needs skips the test where a program is missing, but not in CI.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed, and in CI nothing is skipped: make prepare installs it", name)
			}
			t.Skipf("%s is not installed (Debian: the package prometheus)", name)
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// busyApp is a `ringback dev` on a real Redis in which deliveries were made, are tried again, are held and were given up, a callback was disabled, and
// events keep coming. It returns its URL.
func busyApp(t *testing.T) string {
	t.Helper()
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(status)
	}))
	t.Cleanup(partner.Close)
	redis := redistest.Start(t, "--maxmemory", "256mb")
	dev := startPlain(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT="}, "dev", "--listen", "127.0.0.1:0", "--redis", redis.URL(), "--keyset-file", filepath.Join(t.TempDir(), "keyset.json"))
	server := dev.await(`API +(http://\S+)`)[1]
	dev.await(`msg=ready`)
	call := func(method, path, body string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, server+"/companies/acme"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer dev")
		req.Header.Set("Content-Type", "application/json")
		status, _, answer := send(t, req)
		if status >= http.StatusBadRequest {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		return status
	}
	for i, callback := range []string{
		partner.URL + `/204"}`, partner.URL + `/503"}`, partner.URL + `/410"}`, `http://127.0.0.1:1/"}`,
		partner.URL + `/500"}, "retry": {"max_attempts": 1}`, partner.URL + `/204"}`,
	} {
		call(http.MethodPost, "/config/callbacks", `{"callback_type": "payment_proof", "destination": {"url": "`+callback+`}`)
		if i == 5 {
			call(http.MethodPost, "/config/callbacks/6/pause", "")
		}
	}
	call(http.MethodPost, "/config/callbacks", `{"callback_type": "entry_code.verify", "destination": {"url": "`+partner.URL+`/204"}}`)
	const question = `{"event_type": "entry_code.verify", "payload": {"entryCode": "1"}}`
	call(http.MethodPost, "/decisions", question)
	event := func(id string) string {
		return `{"event_type": "payment_proof", "event_id": "` + id + `", "payload": {"requestId": "r-1", "status": "OK"}}`
	}
	call(http.MethodPost, "/events", event("e-1"))
	if status := call(http.MethodPost, "/events", event("e-1")); status != http.StatusOK {
		t.Errorf("the same event again: %d", status)
	}
	for _, verdict := range []string{"delivered", "retry reason=status_503", "gone", "retry reason=refused", "dead"} {
		dev.await(`msg=attempt .*verdict=` + verdict) // a decision is no delivery
	}

	redis.Stop() // long enough for the API to answer 503
	if status, text := get(t, server+"/readyz", "dev"); status != http.StatusServiceUnavailable {
		t.Errorf("while Redis hangs: %d %s", status, text)
	}
	redis.Cont()

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for n := 2; ; n++ { // so that rates are not zero
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			for path, body := range map[string]string{"/events": event("e-" + strconv.Itoa(n)), "/decisions": question} {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/companies/acme"+path, strings.NewReader(body))
				if err != nil {
					return
				}
				req.Header.Set("Authorization", "Bearer dev")
				req.Header.Set("Content-Type", "application/json")
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_ = resp.Body.Close()
				}
			}
		}
	}()
	return server
}

// compareMetrics: the table in METRICS.md lists every metric of ours that text has, with its type and labels, and nothing else.
func compareMetrics(t *testing.T, table, text string) {
	t.Helper()
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `((?:ringback|http)_\\w+)` \\| (\\w+) \\| \\w+ \\| (.*?) ?\\| .+ \\|$").FindAllStringSubmatch(table, -1) {
		documented[row[1]] = row[2] + " " + strings.ReplaceAll(row[3], "`", "")
	}
	live := map[string]string{}
	for _, metric := range regexp.MustCompile(`(?m)^# TYPE ((?:ringback|http)_\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		labels := map[string]bool{}
		for _, series := range regexp.MustCompile(`(?m)^`+metric[1]+`(?:_bucket|_sum|_count)?\{(.*)\} `).FindAllStringSubmatch(text, -1) {
			for _, label := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(series[1], -1) {
				if label[1] != "le" {
					labels[label[1]] = true
				}
			}
		}
		var names []string
		for name := range labels {
			names = append(names, name)
		}
		slices.Sort(names)
		live[metric[1]] = metric[2] + " " + strings.Join(names, ", ")
	}
	if diff := gocmp.Diff(documented, live); diff != "" {
		t.Errorf("deploy/METRICS.md and /metrics differ (-documented +live):\n%s", diff)
	}
}

// dashboardQueries are all expressions in the dashboard, with its variables filled in, those of annotations apart.
func dashboardQueries(t *testing.T) (queries, annotations []string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(readFile(t, deployFolder+"/grafana/ringback.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "30s", "$job", ".*", "$instance", ".*")
	ids := map[int]bool{}
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] || panel.Title == "" || (len(panel.Targets) == 0) != (panel.Type == "row") {
			t.Errorf("panel %d %q has a number that is taken, no title, or nothing to show", panel.ID, panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			queries = append(queries, fill.Replace(target.Expr))
		}
	}
	for _, variable := range dashboard.Templating.List {
		if values := regexp.MustCompile(`^label_values\((.+), \w+\)$`).FindStringSubmatch(variable.Definition); values != nil {
			queries = append(queries, fill.Replace(values[1]))
		} else if variable.Name != "datasource" {
			t.Errorf("the variable %s has a query of a kind that this test does not know: %s", variable.Name, variable.Definition)
		}
	}
	for _, annotation := range dashboard.Annotations.List {
		annotations = append(annotations, fill.Replace(annotation.Expr))
	}
	for _, query := range slices.Concat(queries, annotations) {
		if strings.Contains(query, "$") {
			t.Errorf("%s has a variable that this test does not know", query)
		}
	}
	if len(queries) < 20 {
		t.Errorf("only %d queries were found in the dashboard", len(queries))
	}
	return queries, annotations
}

// scraper is a real Prometheus, with deploy/'s configuration.
type scraper struct{ url string }

// scrape starts a Prometheus with deploy/'s configuration, but for address, key and pace, and waits until it has scraped server.
func scrape(t *testing.T, server string) *scraper {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ringback.key":       "dev",
		"ringback.rules.yml": readFile(t, deployFolder+"/prometheus/ringback.rules.yml"),
		"prometheus.yml": strings.NewReplacer(
			"127.0.0.1:8080", strings.TrimPrefix(server, "http://"), "/etc/prometheus/", "", "15s", "1s",
		).Replace(readFile(t, deployFolder+"/prometheus/prometheus.yml")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	process := launch(t, exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0", "--storage.tsdb.retention.time=1h", "--enable-feature=exemplar-storage", "--log.format=json"))
	p := &scraper{"http://" + process.await(`"address":"(127\.0\.0\.1:[1-9]\d*)"`)[1]}
	process.await(`Server is ready to receive web requests`)
	p.wantSeries(t, `rate(ringback_delivery_lag_seconds_count[30s]) > 0`) // by which time each series has been scraped twice
	return p
}

// ask asks Prometheus's HTTP API and decodes the data of its answer.
func (p *scraper) ask(t *testing.T, path string, query url.Values, data any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, text := send(t, req)
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s %v: %v %s", path, query, err, text)
	}
	if err := json.Unmarshal(answer.Data, data); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// wantSeries waits until the query has a series with a number.
func (p *scraper) wantSeries(t *testing.T, query string) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		var data struct {
			Result []struct{ Value [2]any }
		}
		p.ask(t, "/api/v1/query", url.Values{"query": {query}}, &data)
		for _, series := range data.Result {
			if n, err := strconv.ParseFloat(fmt.Sprint(series.Value[1]), 64); err == nil && !math.IsNaN(n) {
				return
			}
		}
		if time.Now().After(end) {
			t.Errorf("no series: %s (%d without a number)", query, len(data.Result))
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}

// selectors are the series that an expression names: a condition that does not hold leaves none over, but they have to be there.
var selectors = regexp.MustCompile(`\b(?:ringback|http_server|process|go|up)\w*(?:\{[^}]*\})?`)

func (p *scraper) wantSelectors(t *testing.T, expression string) {
	t.Helper()
	found := selectors.FindAllString(expression, -1)
	if len(found) == 0 {
		t.Errorf("%s names no series", expression)
	}
	for _, selector := range found {
		p.wantSeries(t, selector)
	}
}

// checkAlerts: Prometheus has evaluated each, what it looks at is there, and it says to whoever is on call what is wrong and what to do.
func (p *scraper) checkAlerts(t *testing.T) {
	type rule struct {
		Name, Query, Health, LastError string
		Labels, Annotations            map[string]string
	}
	var data struct{ Groups []struct{ Rules []rule } }
	evaluated := func() bool {
		p.ask(t, "/api/v1/rules", nil, &data)
		return len(data.Groups) > 0 && !slices.ContainsFunc(data.Groups[0].Rules, func(r rule) bool { return r.Health == "unknown" })
	}
	for end := time.Now().Add(patience); !evaluated(); <-time.After(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not evaluated: %+v", data)
		}
	}
	for _, rule := range data.Groups[0].Rules {
		if rule.Health != "ok" {
			t.Errorf("%s: %s", rule.Name, rule.LastError)
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || !slices.Contains([]string{"page", "ticket"}, rule.Labels["severity"]) {
			t.Errorf("%s: %v %v", rule.Name, rule.Labels, rule.Annotations)
		}
		p.wantSelectors(t, rule.Query)
	}
}
