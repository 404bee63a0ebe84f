# Ringback. `make` alone lists what there is to make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Tools are run at these versions and never installed; go.mod holds only what ships.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.8.0

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME  ?= 10s
TESTFLAGS ?=
OLD       ?= 6da24ca
BENCHFLAGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## run everything on your machine: API, workers, asynq's UI, an embedded Redis
	@exec bin/ringback dev

build: ## build bin/ringback
	@[ -e bin/ringback ] || echo 'Compiling Ringback. The first time takes a minute or two; after that it takes seconds.'
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ringback ./cmd/ringback

# What partners are shown code in, as program:package. With CI=true no test may be skipped, so make test installs it, too.
EVERY_LANGUAGE := node:nodejs python3:python3 curl:curl php:php-cli ruby:ruby javac:default-jdk-headless
test: LANGUAGES := $(if $(filter true,$(CI)),$(EVERY_LANGUAGE))

# The Lua interpreter of the Redis in memory shares nothing with our code: without the race detector's eyes on it, tests of time cost a fifth less. Of a library
# that uses generics this does not hold: the program may take its copy of a generic function, where the detector does not see what is in order.
# What go vet finds is make lint's. A machine that does much else may take several times as long as one that does not: nothing ends before half an hour.
test: prepare ## run every test, under the race detector
	go test -race -gcflags='github.com/yuin/gopher-lua/...=-race=false' -vet=off -parallel 4 -shuffle=on -timeout 30m $(TESTFLAGS) ./...
	cd cmd/faults && go test -vet=off -count 1 -parallel 16 -timeout 30m $(TESTFLAGS) ./...

test-faults: prepare ## break an installation in every way we know, and write deploy/FAULTS.md (FAULTS_SEED=n repeats a run; 20 minutes)
	cd cmd/faults && FAULTS=full FAULTS_REPORT=../../deploy/FAULTS.md go test -count 1 -parallel 5 -timeout 30m -v -run '^TestFaults$$' .

test-stores: prepare ## run what talks to Redis against Redis 8 and Valkey 8 too, of Debian's next release and beside the machine's own packages (needs apt; STORES=valkey-server for one)
	registry/redistest/testdata/stores.sh $(or $(STORES_DIR),bin/stores)

test-old: prepare ## run beside a program of data model 1, built from the repository (or OLD_RINGBACK=path of its binary)
	go test -tags old -count 1 -v -run '^TestOld' ./cmd/ringback

test-sweep: ## break every command that a step of the engine sends to Redis, in every way (make test: each in one)
	RINGBACK_SWEEP=full go test -race -count 1 -v -run '^TestEveryCommandFailsOnce$$' ./dispatcher

test-pull: ## have eight senders and a partner who fetches 50,000 events run against a Redis that is killed (make test: 2,000)
	RINGBACK_PULL_EVENTS=50000 go test -count 1 -v -run '^TestFetchingUnderFire$$' ./dispatcher/ledger

test-door: LANGUAGES := $(EVERY_LANGUAGE)
test-door: prepare ## send the API what it refuses, with clients that people use, and what strangers abuse it with, and verify deliveries in each language that partners are shown (some minutes)
	RINGBACK_EVERY_LANGUAGE=1 go test -count 1 -v -run '^TestSnippets' ./dispatcher/console
	go test -tags load -count 1 -timeout 30m -v -run '^TestDoor' ./cmd/ringback

lint: ## run every check that reads the code
	go vet ./...
	go vet -tags load,pictures,old ./cmd/ringback
	go vet -tags scale ./...
	go vet -tags scale ./dispatcher
	cd cmd/faults && go vet ./...
	@fixes=$$(go fix -diff ./... || true; cd cmd/faults && go fix -diff ./... || true); if [ -n "$$fixes" ]; then echo "$$fixes"; echo 'make lint: go fix would change this; run make fmt' >&2; exit 1; fi
	go run $(GOLANGCI_LINT) run
	cd cmd/faults && go run $(GOLANGCI_LINT) run

fmt: ## format the code and bring it up to date
	go fix ./...
	go run $(GOLANGCI_LINT) fmt
	cd cmd/faults && go fix ./... && go run $(GOLANGCI_LINT) fmt

fuzz: ## run every fuzz test for a short while (FUZZTIME=10s each)
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x "$$pkg"; \
	  done; \
	done

load: prepare ## measure latency and throughput, and what kills under load lose and double (some minutes)
	go test -tags load -count 1 -timeout 50m -v -run '^TestLoad' ./cmd/ringback

scale: prepare ## measure reading, sending and repair with very much in Redis (some minutes; RINGBACK_SCALE_EVENTS=1000000 for more)
	go test -tags scale -count 1 -timeout 60m -v -run '^TestScale' ./...

bench: build prepare ## measure what this program does and costs on this machine (a minute; BENCHFLAGS='--runs 3' and the like)
	bin/ringback bench --runs 1 --short $(BENCHFLAGS)

bench-old: build prepare ## the same by turns with commit OLD (6da24ca), and compare (8 minutes; BENCHFLAGS='--scenario saturate' is quicker)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	git archive $(OLD) | tar -x -C "$$dir"; \
	(cd "$$dir" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(OLD)' -o ringback ./cmd/ringback); \
	bin/ringback bench --binary "$$dir/ringback" --binary bin/ringback $(BENCHFLAGS)

scale-names: prepare ## measure what thousands of companies without work cost (three minutes)
	go test -tags scale -count 1 -timeout 20m -v -run '^TestScale' ./dispatcher

pictures: prepare ## take the pictures in deploy/pictures anew: asynq's UI, and each page of the console and the portal (needs chromium and fonts-dejavu-core)
	go test -tags pictures -count 1 -run 'Pictures$$' ./cmd/ringback

vuln: ## look for known vulnerabilities in what the program uses
	go run $(GOVULNCHECK) ./...

clean: ## remove what was built
	rm -rf bin

# The tests start Redis servers of their own, and the race detector needs a C compiler. Where neither is there and this is root on
# Debian or a descendant, both are installed, and no service is started. Prometheus, which tries the rules and the dashboard in deploy/, and chromium,
# which goes through the pages, and nginx, which asks for client certificates, are installed along with them where that is possible; without them those tests are skipped, and with CI=true they fail.
# LANGUAGES are a target's own wishes, as program:package.
prepare:
	@need=''; wish=''; \
	command -v redis-server >/dev/null || command -v valkey-server >/dev/null || need='redis-server'; \
	command -v "$$(go env CC)" >/dev/null || need="$$need gcc libc6-dev"; \
	{ command -v prometheus && command -v promtool; } >/dev/null || wish='prometheus'; \
	command -v chromium >/dev/null || wish="$$wish chromium fonts-dejavu-core"; \
	command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || wish="$$wish nginx-light"; \
	for each in $(LANGUAGES); do command -v "$${each%%:*}" >/dev/null || wish="$$wish $${each#*:}"; done; \
	if [ -z "$$need$$wish" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  if [ -z "$$need" ]; then exit 0; fi; \
	  echo "make test needs $$need: install it and run make test again" >&2; exit 1; \
	fi; \
	policy=/usr/sbin/policy-rc.d; made=''; \
	if [ ! -e $$policy ]; then made=yes; printf '#!/bin/sh\nexit 101\n' > $$policy; chmod 755 $$policy; fi; \
	trap 'if [ -n "$$made" ]; then rm -f $$policy; fi' EXIT; \
	install() { DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$$@" >/dev/null; }; \
	apt-get update -qq || [ -z "$$need" ]; \
	if [ -n "$$need" ]; then install $$need; fi; \
	for each in $$wish; do install $$each || echo "make test goes on without $$each: what is tried with it is skipped" >&2; done

.PHONY: help run build test test-faults test-sweep test-pull test-door test-old lint fmt fuzz load scale bench bench-old pictures vuln clean prepare scale-names test-stores
