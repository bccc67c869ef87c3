# Every target starts from a bare Debian machine with Go: it installs what it
# lacks, says so, and does nothing twice. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# Prerequisites are steps in order: first what is needed, then what needs it.
.NOTPARALLEL:

# A service manager or a CI runner may start make with next to no environment.
export PATH := $(PATH):/usr/local/go/bin
export HOME := $(or $(HOME),$(shell getent passwd "$$(id -u)" | cut -d: -f6))
# The tree may belong to another user, whom git would not trust.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

SETUP := deploy/setup
NEED := $(SETUP)/need.sh
WITH_SERVERS := $(SETUP)/with-servers.sh

MINIO := github.com/minio/minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint github.com/golangci/golangci-lint/v2 v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck golang.org/x/vuln v1.1.4

WEB := internal/console/web
DIST := internal/console/assets/dist
NPM := npm --prefix $(WEB) --no-audit --no-fund --no-update-notifier
WEB_SOURCES := $(shell find $(WEB) -name node_modules -prune -o -type f -print)

# What to measure: ingest, play, search, draw or purge; nothing means each.
WORK ?=

## help: list the targets
.PHONY: help
help:
	@sed -n 's/^## \([a-z]*\): /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target does; do \
		printf '  make %-7s %s\n' "$$target" "$$does"; done

## demo: set up, then the whole life of a recording, step by step (about 5 minutes the first time)
.PHONY: demo
demo: need-demo build
	bin/earmark demo

## up: run the service on 127.0.0.1:8080, its data below .earmark/
.PHONY: up
up: need-up build
	bin/earmark up

## test: set up, then every test against real PostgreSQL, Redis and MinIO (about 15 minutes the first time)
.PHONY: test
test: need-test build minio
	@echo '==> Testing, about 6 minutes'
	EARMARK_SERVERS_FSYNC=off $(WITH_SERVERS) env CGO_ENABLED=1 go test -race -shuffle=on -timeout=20m ./...

## check: what CI runs: lint, then test
.PHONY: check
check: lint test

## lint: gofmt, vet, staticcheck and the rest, the floors of the house among them
.PHONY: lint
lint: web
	@$(SETUP)/gotool.sh $(GOLANGCI_LINT) '2 minutes'
	.tools/bin/golangci-lint run ./...

## bench: measure against real servers, each beside its direct limit (WORK=ingest runs one)
.PHONY: bench
bench: need-bench build minio
	@mkdir -p .bench
	$(WITH_SERVERS) bin/earmark bench $(WORK)

## build: the one program, bin/earmark, front end included
.PHONY: build
build: web
	@echo '==> Building bin/earmark, about 2 minutes the first time'
	CGO_ENABLED=0 go build -trimpath -o bin/earmark ./cmd/earmark

## fmt: format the Go code
.PHONY: fmt
fmt:
	gofmt -w cmd internal migrations workers

## vuln: look for known vulnerabilities (asks vuln.go.dev)
.PHONY: vuln
vuln:
	@$(SETUP)/gotool.sh $(GOVULNCHECK) '1 minute'
	.tools/bin/govulncheck ./...

## clean: remove what was built; the data below .earmark/ stays
.PHONY: clean
clean:
	rm -rf bin $(DIST) $(WEB)/node_modules .bench .test

.PHONY: need-web
need-web:
	@$(NEED) web

.PHONY: need-up
need-up:
	@$(NEED) web run

.PHONY: need-demo
need-demo:
	@$(NEED) web run sound

.PHONY: need-bench
need-bench:
	@$(NEED) web run sound servers

.PHONY: need-test
need-test:
	@$(NEED) web run sound servers race browser

.PHONY: minio
minio:
	@$(SETUP)/gotool.sh $(MINIO) '4 minutes'

.PHONY: web
web: $(if $(wildcard $(WEB)/package.json),$(DIST)/.built)

$(DIST)/.built: $(WEB)/node_modules/.package-lock.json $(WEB_SOURCES)
	@echo '==> Building the front end, a few seconds'
	$(NPM) run build
	@touch $@

$(WEB)/node_modules/.package-lock.json: $(WEB)/package.json $(WEB)/package-lock.json | need-web
	@echo '==> Fetching the front end packages, under a minute'
	$(NPM) ci
	@touch $@
