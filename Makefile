# `make` alone prints help. Every target sets up what it needs in .venv, on a machine with Python >= 3.11.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DEV    := $(VENV)/.ready-dev
EDITORS := $(VENV)/.ready-editors
PYTEST := $(BIN)/python -P -m pytest

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-backends check lint type fmt bench chaos clean

help: ## this text
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(STAMP): pyproject.toml client/jobclient/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jobbroker needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo '"$(PYTHON) -m venv" failed: install it (Debian, Ubuntu: apt install python3-venv), or: make PYTHON=...' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(DEV): $(STAMP)
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

$(EDITORS): $(DEV)
	$(BIN)/python -m pip install --quiet --group editors
	touch $@

run: $(STAMP) ## run a real job through a real broker: live output, exit code, list
	@JOBCTL=$(BIN)/jobctl sh docs/first-run.sh

test: $(DEV) ## the quick suite: pure tests by the thousand, then real daemons and real children
	$(PYTEST) -m 'not slow' --numprocesses auto --maxprocesses 8 --dist loadfile

test-slow: $(EDITORS) ## the slow tests: long chaos, ten thousand jobs, real editors (.ci/run installs them)
	$(PYTEST) -m slow

test-backends: $(DEV) ## real backends behind the broker: codex, tool servers, language servers; installs them
	$(PYTEST) tests/real/test_codex_backend.py tests/real/test_backends.py

lint: $(DEV) ## ruff: lint and format, as errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(DEV) ## mypy and pyright, both strict
	$(BIN)/mypy
	$(BIN)/pyright

fmt: $(DEV) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint type test ## all that a commit must pass

bench: $(DEV) ## measure, and print ratios against limits taken in the same run
	PYTHONPATH=tests $(BIN)/python -P -m bench.run $(WHAT)

chaos: $(DEV) ## 500 jobs of mixed ends while broker and fork server are killed again and again
	PYTHONPATH=tests $(BIN)/python -P tests/chaos.py $(CHAOS)

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
