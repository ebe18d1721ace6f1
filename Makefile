# What a newcomer needs: make serve | test | check | bench (each does its own set-up), make install.
# Variables: SCALE (compose-up), MODEL, CANARY, SHADOW (compose-promote), HOST, PORT (serve), PYTHON (3.11 or newer), JOBS (processes of test and test-all), ARGS
# (extra options for serve, bench and the tests).

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
SCALE ?= 2
MODEL ?=
CANARY ?=
SHADOW ?=
JOBS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# What "make test" runs in: serving's packages and the test tools alone, so that no test of it can need torch.
TEST_VENV := .venv-test
# Into the environment that the rule's stamp lies in.
PIP = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
NO_PIP := || { echo "Installing failed. It needs a package index: is the network there, and do http_proxy and https_proxy lead somewhere?"; exit 1; }
# Serving needs torch (5.5 GB) only on machines with an NVIDIA GPU.
SERVE_EXTRA := $(shell nvidia-smi -L >/dev/null 2>&1 && echo '[torch]')

.DEFAULT_GOAL := help
.PHONY: help install serve test test-all torture check bench bench-peers bench-compose compose-up compose-roll compose-promote compose-down audit format figures clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/serve.stamp  ## Create .venv with what serving needs
	@$(BIN)/mobilenet-service models pull

serve: install  ## Serve on http://HOST:PORT (127.0.0.1:8000)
	@exec $(BIN)/mobilenet-service serve --host $(HOST) --port $(PORT) $(ARGS)

test: $(TEST_VENV)/test.stamp  ## Run the tests that need no torch, Docker or browser: two minutes
	@$(TEST_VENV)/bin/mobilenet-service models pull
	$(TEST_VENV)/bin/python -m pytest --numprocesses $(JOBS) -m 'not (browser or client or container or extra or slow or torture)' $(ARGS)

test-all: $(VENV)/dev.stamp  ## Run every test: installs torch, needs Docker, Chromium and HTTP clients, a quarter of an hour
	@$(BIN)/mobilenet-service models pull
	$(BIN)/python -m pytest --numprocesses $(JOBS) $(ARGS)

torture: $(VENV)/fuzz.stamp  ## Run the tests that take minutes: floods, fuzzing, faults, rounds of hostile files
	@$(BIN)/mobilenet-service models pull
	$(BIN)/python -m pytest -m torture $(ARGS)

check: $(VENV)/dev.stamp  ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/bench.stamp install  ## Compare the service with bare loops on this machine
	$(BIN)/python -m benchmarks.bench $(ARGS)

bench-peers: $(VENV)/bench.stamp install  ## Compare the service with other servers; installs them into .cache/peers, 7 GB
	$(BIN)/python -m benchmarks.peers_bench $(ARGS)

bench-compose: $(VENV)/bench.stamp install  ## Measure one and several replicas behind the balancer, with Docker
	$(BIN)/python -m benchmarks.balanced $(ARGS)

compose-up:  ## Build and start SCALE replicas (2) behind a balancer, with Docker
	@SCALE=$(SCALE) deploy/compose/up.sh $(ARGS)

compose-roll:  ## Replace the replicas one by one, without failed requests
	@deploy/compose/roll.sh

compose-promote:  ## Serve the version MODEL (name/2), or make it a canary (CANARY=10) or shadow (SHADOW=0.1), replica by replica
	@MODEL='$(MODEL)' CANARY='$(CANARY)' SHADOW='$(SHADOW)' deploy/compose/promote.sh $(ARGS)

compose-down:  ## Stop and remove what compose-up started
	@docker compose --profile '*' down --remove-orphans

audit:  ## Look every pinned package up in the advisory services; needs the internet
	@test -x .cache/audit/bin/pip-audit || { $(PYTHON) -m venv .cache/audit && .cache/audit/bin/pip install -q pip-audit; }
	@.cache/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt || \
		{ echo "Advisories were found, or no advisory service could be asked: a mirror of the package index is none."; exit 1; }

format: $(VENV)/dev.stamp  ## Format and fix with ruff
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

figures: $(VENV)/dev.stamp  ## Redraw the pictures of docs/
	@$(BIN)/mobilenet-service models pull
	$(BIN)/python docs/draw_figures.py

clean:  ## Remove .venv, .venv-test and caches; pulled weights stay
	rm -rf $(VENV) $(TEST_VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python $(TEST_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(@:/bin/python=) || \
		{ rm -rf $(@:/bin/python=); echo "Python's venv module is needed (Debian and Ubuntu: apt-get install python3-venv)."; exit 1; }

# A stamp is written last, so that an interrupted installation is taken up again.
$(VENV)/serve.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing what serving needs into $(VENV) …"
	@$(PIP) --editable '.$(SERVE_EXTRA)' $(NO_PIP)
	@touch $@

$(VENV)/bench.stamp: $(VENV)/serve.stamp
	@$(PIP) --editable '.[bench]' $(NO_PIP)
	@touch $@

$(TEST_VENV)/test.stamp: pyproject.toml constraints.txt | $(TEST_VENV)/bin/python
	@echo "Installing what serving and its tests need into $(TEST_VENV) …"
	@$(PIP) --editable '.[test]' $(NO_PIP)
	@! $(TEST_VENV)/bin/python -c 'import torch' 2>/dev/null || { echo "Something brought torch into $(TEST_VENV)."; exit 1; }
	@touch $@

$(VENV)/fuzz.stamp: $(VENV)/dev.stamp
	@$(PIP) --editable '.[fuzz,ray,libraries]' $(NO_PIP)
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing what all tests need into $(VENV), torch among it: some GB the first time …"
	@$(PIP) --editable '.[dev]' $(NO_PIP)
	@touch $@ $(VENV)/serve.stamp $(VENV)/bench.stamp
