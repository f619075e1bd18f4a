# Everything that one does with this repository. `make` alone lists it.
# GNU make 3.81 or newer, Go, and Postgres binaries; nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# `go mod verify` of the nested module: it also complains of our own module there,
# which is a directory and has no checksum, so that line alone is no complaint.
VERIFY_NESTED := found=$$(go mod verify 2>&1 | grep -v '^roost v0.0.0: missing ziphash: ' || true); [ -z "$$found" ] || { echo "$$found" >&2; exit 1; }

# Another version of the linter finds other things, so only this one is used.
LINT_VERSION := 2.13.2
LINT := .cache/bin/golangci-lint-$(LINT_VERSION)

# gin's MessagePack codec, which nothing here speaks, is a quarter of a first
# build. Set for every go command, so that they share their cache.
export GOFLAGS := $(strip $(GOFLAGS) -tags=nomsgpack)

# A clone that belongs to somebody else (a container, sudo) cannot be asked for
# its commit, and go build would fail for that alone.
BUILDVCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
GO_BUILD := go build -buildvcs=$(BUILDVCS)

COMMANDS := platform owl roost

# The Terraform provider is a module of its own: nobody else needs Terraform's
# libraries. Its tests need Terraform itself.
PROVIDER := cmd/terraform-provider-roost
TERRAFORM := $(or $(TF_ACC_TERRAFORM_PATH),$(shell command -v terraform))

# One Postgres for all packages of a run, gone when the run is; each test has a
# database of its own on it.
WITHPG := go run ./models/pgtest/withpg

# The packages whose tests reach pgtest, directly or not.
PG_PACKAGES = go list -test -f '{{$$p := .ForTest}}{{range .Deps}}{{if eq . "roost/models/pgtest"}}{{$$p}}{{end}}{{end}}' ./... | sort -u | grep .

.PHONY: help run build test transcript test-containers check converged latency conformance lint fmt fmt-check

help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run everything on this machine: Postgres, Owl and Platform (roost dev)
	@$(GO_BUILD) -o bin/roost ./cmd/roost
	@exec bin/roost dev

build: ## Build bin/platform, bin/owl, bin/roost and bin/terraform-provider-roost
	$(GO_BUILD) -o bin/ $(addprefix ./cmd/,$(COMMANDS))
	cd $(PROVIDER) && $(GO_BUILD) -o ../../bin/ .

test: ## Run all tests, on a Postgres of their own
	$(WITHPG) go test ./...
	@$(MAKE) --no-print-directory test-terraform

# CI must have Terraform: a run that tests nothing would look like one that passed.
test-terraform: ## Run the tests of the Terraform provider (needs Terraform 1.11)
ifneq ($(TERRAFORM),)
	cd $(PROVIDER) && TF_ACC_TERRAFORM_PATH=$(TERRAFORM) go test $(PROVIDER_TEST_FLAGS) ./...
else ifneq ($(CI),)
	@echo "there is no terraform on PATH, and TF_ACC_TERRAFORM_PATH names none" >&2; exit 1
else
	cd $(PROVIDER) && go test $$(go list ./... | grep -v /acceptance$$)
	@echo "NOT TESTED: the Terraform provider against Terraform; there is none on PATH, and TF_ACC_TERRAFORM_PATH names none" >&2
endif

transcript: ## Write what the README shows of the command line, by running it
	$(WITHPG) go test -count=1 -p 1 -parallel 1 -run '^TestREADME' ./cmd/roost -update

test-containers: ## Run the tests that use Postgres on testcontainers (needs Docker)
	ROOST_TEST_DB=containers $(WITHPG) go test -count=1 $$($(PG_PACKAGES)$(if $(WITHOUT), | grep -vE '$(WITHOUT)'))

check: fmt-check lint ## Run everything that CI runs: format, lint, tests with -race, builds
	go vet ./... && cd $(PROVIDER) && go vet ./...
	go mod verify && cd $(PROVIDER) && $(VERIFY_NESTED)
	go mod tidy -diff && cd $(PROVIDER) && go mod tidy -diff
	$(MAKE) --no-print-directory build
	go test -tags faults,nomsgpack ./models/faultpoint
	$(WITHPG) go test -race ./...
	$(MAKE) --no-print-directory test-terraform PROVIDER_TEST_FLAGS=-race
	$(MAKE) --no-print-directory latency
	$(MAKE) --no-print-directory conformance

converged: ## Print how long it takes to converge after each fault
	@$(WITHPG) go test -count=1 -v ./cmd/internal/scenario ./cmd/internal/crash \
		| awk '/converged: /{ printf "%-90s %8s\n", $$(NF-1), $$NF } /^(FAIL|--- FAIL)/'

# Alone and without -race: it measures time on a machine that is idle.
latency:
	ROOST_TEST_IDLE=1 $(WITHPG) go test -count=1 -v -run '^TestACreateIsRunningSoonAfterItsBoot$$' ./cmd/internal/stack

# Without -race, which makes it four times as long; with it `go test ./...` makes
# 200 of the 10,000 calls. The sim syncs each machine's file: where memory can
# hold them (and the database), that costs nothing.
conformance: ## Make 10,000 creates through a lossy network, and find 10,000 machines
	if [ "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')" -gt 3000000 ] 2>/dev/null; then export TMPDIR=/dev/shm; fi; \
	ROOST_TEST_CONFORMANCE=10000 $(WITHPG) go test -count=1 -v -run '^TestEveryCreateThroughALossyNetwork' ./cmd/internal/stack

lint: $(LINT) ## Run the linters of .golangci.yml
	$(LINT) run ./...
	cd $(PROVIDER) && ../../$(LINT) run ./...

fmt: $(LINT) ## Format all Go files
	$(LINT) fmt ./...

fmt-check: $(LINT)
	@$(LINT) fmt --diff ./... || { echo "Not formatted as above; run: make fmt" >&2; exit 1; }

# The right version is taken from where it is; else it is built, once.
$(LINT):
	@mkdir -p $(@D)
	@for found in $$(command -v golangci-lint) $$(go env GOPATH)/bin/golangci-lint; do \
		if [ "$$("$$found" version --short 2>/dev/null)" = $(LINT_VERSION) ]; then cp "$$found" $@; exit 0; fi; \
	done; \
	echo "installing golangci-lint v$(LINT_VERSION) into $(@D)" >&2; \
	GOBIN=$$PWD/$(@D) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(LINT_VERSION); \
	mv $(@D)/golangci-lint $@
