# Stagedoor. `make` alone lists the commands; CI calls the same ones.
PYTHON ?= python3
# Many tests wait for a process, a disk or a clock: three at once are what two cores are busy with.
WORKERS ?= 3
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL := requirements/install.sh $(BIN)/python
export STAGEDOOR_HOME ?= var

.DEFAULT_GOAL := help
.PHONY: help compiled run servers test check bench clean-data format lock

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(VENV)/.runtime: requirements/runtime.lock requirements/install.sh pyproject.toml deploy/install.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Stagedoor needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing what runs Stagedoor (first time only)"
	@$(INSTALL) requirements/runtime.lock
	@$(BIN)/python -m deploy.install
	@touch $@

compiled: $(VENV)/.runtime  ## compile the hot path where there is a C compiler (STAGEDOOR_PURE=1: do not)
	@$(BIN)/python -m deploy.compiling

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.lock
	@echo "installing what tests Stagedoor (first time only)"
	@$(INSTALL) requirements/dev.lock
	@touch $@

run: $(VENV)/.runtime compiled  ## start the whole system here until Ctrl-C (REAL=1: on real servers)
	@exec $(BIN)/stagedoor up $(if $(REAL),--profile real) $(ARGS)

servers: $(VENV)/.runtime  ## install and start the real servers (ARGS="kafka redis --brokers 3")
	@exec $(BIN)/stagedoor servers up $(ARGS)

test: $(VENV)/.dev compiled  ## run the whole test suite (FAST=1: only the fast ones)
	@BIN=$(BIN) FAST=$(FAST) tests/servers.sh
	@$(if $(FAST),STAGEDOOR_TEST_FAST=1) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(if $(FAST),-m "not system and not slow") $(TESTS)

fuzz: $(VENV)/.dev  ## fuzz what reads requests and answers (FOR=600 seconds; 60 without)
	@$(BIN)/python -m tests.gateway.edge.fuzz $(or $(FOR),60)

check: $(VENV)/.dev  ## format, lint, types, floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-cache

bench: $(VENV)/.dev compiled  ## measure beside peers and write bench/results.md (BENCH=gateway for one)
	@$(BIN)/python -m tests.bench $(BENCH)

clean-data:  ## remove the state directory
	@test ! -e "$(STAGEDOOR_HOME)" || test -e "$(STAGEDOOR_HOME)/run/lock" || test -e "$(STAGEDOOR_HOME)/servers/lock" || { echo "$(STAGEDOOR_HOME) is no state directory of Stagedoor: nothing was removed" >&2; exit 1; }
	@test ! -e "$(STAGEDOOR_HOME)/run/lock" || $(PYTHON) -c 'import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)' "$(STAGEDOOR_HOME)/run/lock" 2>/dev/null || { echo "a system is running in $(STAGEDOOR_HOME): stop it first" >&2; exit 1; }
	@! grep -qszxF "STAGEDOOR_SERVERS_HOME=$(realpath $(STAGEDOOR_HOME))" /proc/[0-9]*/environ || { echo "servers are running in $(STAGEDOOR_HOME): stop them first with stagedoor servers down" >&2; exit 1; }
	rm -rf -- "$(STAGEDOOR_HOME)"

format: $(VENV)/.dev  ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock:  ## rewrite requirements/*.lock
	@requirements/lock.sh
