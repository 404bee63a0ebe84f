package main

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestFlagsAreGivenInParts: several times is as if commas stood between, and what contradicts itself is refused. A value of one flag never runs into the next one's.
func TestFlagsAreGivenInParts(t *testing.T) {
	t.Setenv("PEM", "-----BEGIN")
	for _, tt := range []struct {
		args []string
		want string // the settings as JSON, or what the error says
	}{
		{[]string{"--batch", "max_events=10", "--batch", "max_wait=2s", "--batch", "element=envelope,results=true"}, `{"batch":{"element":"envelope","max_events":10,"max_wait":"2s","results":true}}`},
		{[]string{"--batch", "on"}, `{"batch":{}}`},
		{[]string{"--batch", "none"}, `{"batch":null}`},
		{[]string{"--batch="}, `{"batch":null}`},
		{[]string{"--batch", "on", "--batch", "max_events=10"}, "--batch on says all of it: give --batch once"},
		{[]string{"--batch", "max_events=10", "--batch", "none"}, "--batch none says all of it"},
		{[]string{"--batch", "max_events=10", "--batch="}, "--batch '' says all of it"},
		{[]string{"--batch", "on", "--batch", "on"}, "--batch on says all of it"},
		{[]string{"--batch", "max_events=10", "--batch", "max_events=20"}, "--batch has max_events twice"},
		{[]string{"--batch", "max_events=10,max_events=20"}, "--batch has max_events twice"},
		{[]string{"--batch", "on,max_events=10"}, "--batch takes on, or max_events=N"},
		{[]string{"--batch", ","}, "--batch takes on, or max_events=N"},

		{[]string{"--retry", "multiplier=2", "--retry", "max_interval=1h, max_attempts=3"}, `{"retry":{"max_attempts":3,"max_interval":"1h","multiplier":2}}`},
		{[]string{"--retry", "multiplier=2", "--retry", "default"}, "--retry default says all of it"},
		{[]string{"--retry", "multiplier=2", "--retry", "multiplier=3"}, "--retry has multiplier twice"},

		{[]string{"--auth", "bearer", "--auth", "token=a"}, `{"auth":{"audience":null,"client_id":null,"client_secret":null,"password":null,"scopes":null,"token":"a","token_url":null,"type":"bearer","username":null}}`},
		{[]string{"--auth", "bearer,token=s3cret,", "--auth", "token=b"}, "--auth has token twice"},
		{[]string{"--auth", "bearer,token=s3cret", "--auth", "basic,username=me,password=s3cret"}, "--auth bearer takes token, each as NAME=VALUE"},
		{[]string{"--auth", "bearer,token=s3cret", "--auth", "none"}, "--auth none says all of it"},
		{[]string{"--auth", "token=s3cret", "--auth", "bearer"}, "--auth begins with bearer"},

		{[]string{"--tls", "client_certificate=env:PEM", "--tls", "client_key=env:PEM,ca=", "--tls", "server_name=a,b"}, `{"tls":{"ca":null,"client_certificate":"-----BEGIN","client_key":"-----BEGIN","server_name":"a,b"}}`},
		{[]string{"--tls", "server_name=a", "--tls", "none"}, "--tls none says all of it"},
		{[]string{"--tls", "server_name=a", "--tls", "server_name="}, "--tls has server_name twice"},
		{[]string{"--tls", "server_name=a", "--tls", "key=@client.key"}, "--tls takes client_certificate"},

		{[]string{"--ordering", "key=/a,b", "--ordering", "skip_after=1h"}, `{"ordering":{"key":"/a,b","skip_after":"1h"}}`},
		{[]string{"--ordering", "key=/a", "--ordering", "/b"}, "--ordering takes key=/customerId"},
		{[]string{"--ordering", "key=/a", "--ordering", "none"}, "--ordering none says all of it"},
		{[]string{"--ordering", "key=/a", "--ordering", "key=/b"}, "--ordering has key twice"},

		{[]string{"--signature", "hmac", "--signature", "rfc9421"}, `{"signature":{"ed25519":false,"hmac":true,"rfc9421":true}}`},
		{[]string{"--signature", "hmac", "--signature", "ed25519,hmac"}, "--signature has hmac twice"},
		{[]string{"--signature", "hmac", "--signature", "default"}, "--signature default says all of it"},

		{[]string{"--header", "X-A: 1", "--header", "X-B: 2"}, `{"headers":{"X-A":"1","X-B":"2"}}`},
		{[]string{"--header", "X-A: 1", "--header", "X-A: 2"}, "--header has X-A twice"},
		{[]string{"--match", "a=1,2", "--match", "b=2"}, `{"payment_proof":{"a":"1,2","b":"2"}}`},
		{[]string{"--match", "a=1", "--match", "a=2"}, "--match has a twice"},
		{[]string{"--match", "campaign_token=1", "--campaign-token", "2"}, "--campaign-token is the same as --match campaign_token"},
	} {
		got, err := inAction(t, []string{"callbacks", "update"}, tt.args, settingsAsJSON)
		if err != nil {
			if got = err.Error(); exitCode(err, false) != exitUsage {
				t.Errorf("%q: %v is no error of usage", tt.args, err)
			}
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) || strings.Contains(got, "s3cret") {
			t.Errorf("%q: %s, want %s", tt.args, got, tt.want)
		}
	}
}

// TestListsAreGivenInParts: what takes several things with commas between takes them one by one, too.
func TestListsAreGivenInParts(t *testing.T) {
	for _, args := range [][]string{{"--roles", "api", "--roles", "worker"}, {"--roles", "worker, api"}, nil} {
		if cfg, err := inAction(t, []string{"serve"}, args, serveConfig); err != nil || !cfg.API || !cfg.Worker {
			t.Errorf("serve %q: API %t, worker %t, %v", args, cfg.API, cfg.Worker, err)
		}
	}
	if cfg, err := inAction(t, []string{"serve"}, []string{"--roles", "worker"}, serveConfig); err != nil || cfg.API || !cfg.Worker {
		t.Errorf("serve --roles worker: API %t, worker %t, %v", cfg.API, cfg.Worker, err)
	}
	for _, args := range [][]string{{"--roles", "cook", "--roles", "api"}, {"--roles="}} {
		if _, err := inAction(t, []string{"serve"}, args, serveConfig); err == nil || !strings.Contains(err.Error(), "--roles is api, worker") {
			t.Errorf("serve %q: %v", args, err)
		}
	}
	for _, args := range [][]string{{"--respond", "503", "--respond", "500,204"}, {"--respond", "503,500,204"}} {
		if r, err := inAction(t, []string{"listen"}, args, newReceiver); err != nil || !slices.Equal(r.respond, []int{503, 500, 204}) {
			t.Errorf("listen %q: %v, %v", args, r, err)
		}
	}
}

// inAction is what read makes of a command's flags.
func inAction[T any](t *testing.T, path, args []string, read func(*cli.Context) (T, error)) (got T, err error) {
	t.Helper()
	root := newCLI(strings.NewReader(""), io.Discard, io.Discard)
	command := &cli.Command{Subcommands: root.Commands}
	for _, name := range path {
		command = findCommand(command.Subcommands, name)
	}
	command.Action = func(c *cli.Context) (err error) {
		got, err = read(c)
		return err
	}
	err = root.RunContext(t.Context(), slices.Concat([]string{"ringback"}, path, args))
	return got, err
}

// settingsAsJSON are the settings that flags of callbacks update make.
func settingsAsJSON(c *cli.Context) (string, error) {
	members, err := settingsFrom(c)
	if err != nil {
		return "", err
	}
	block, err := matchBlock(c)
	if block != nil {
		members["payment_proof"] = block
	}
	doc, _ := json.Marshal(members) // plain values always encode
	return string(doc), err
}
