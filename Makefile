# Every target that needs .venv builds it first; the second time costs nothing.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
# Written last, so that a .venv left half-built is finished and not taken for whole.
STAMP := .venv/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-slow check fix docs bench bench-speed bench-audit bench-faults clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Build .venv with espalier and the development tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>/dev/null) || found="not found"; \
	  echo "espalier needs Python 3.11 or newer; '$(PYTHON)' is $$found." >&2; \
	  echo "try: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; \
	  exit 2; }
	@echo "Building .venv (minutes the first time, seconds after that)" >&2
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Draw a small data set, train on it and predict one image (minutes, no network)
	@$(BIN)/espalier demo --out demo

# One thread per test process: two processes with two threads each fight for the cores.
test: export OMP_NUM_THREADS := 1
test: $(STAMP) ## Run the tests, all but the slow ones
	@$(BIN)/python -m pytest -n 2 -m "not slow" --durations=10

test-slow: export OMP_NUM_THREADS := 1
test-slow: $(STAMP) ## Run the slow tests only
	@$(BIN)/python -m pytest -n 2 -m slow --durations=10

check: $(STAMP) ## Look at format, lint, types and import layers (changes nothing)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fix: $(STAMP) ## Format, and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## Write the generated pages again: commands, recipes, rules, tree, frozen options
	$(BIN)/python -m espalier.cli.reference > docs/cli.md
	$(BIN)/python -m espalier.cli.reference --options > tests/contracts/cli_options.txt
	$(BIN)/python -m espalier.recipe.reference > docs/guide/recipes.md
	$(BIN)/python -m espalier.cli.rule_pages docs/rules
	$(BIN)/python docs/tree.py

bench: $(STAMP) ## Measure speed, memory and the cost of keeping records (about an hour)
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.plan

bench-speed: $(STAMP) ## Compare with fastai, timm and a plain loop (hours; builds their environments)
	$(BIN)/python -m benchmarks.speed $(ARGS)

# One thread: figures of CPU-seconds are those of one core.
bench-audit: export OMP_NUM_THREADS := 1
bench-audit: $(STAMP) ## Plant problems among photographs and count what the audit finds (ten minutes)
	$(BIN)/python -m benchmarks.audit $(ARGS)

bench-faults: $(STAMP) ## Put faults into runs and count how often the doctor is right (about two hours)
	$(BIN)/python -m benchmarks.faults --repair --times $(ARGS)

clean: ## Remove .venv, caches and build output; runs/, demo/ and data stay
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find $(wildcard src tests benchmarks examples docs) -name __pycache__ -type d -prune -exec rm -rf {} +
	find src -name '*.egg-info' -type d -prune -exec rm -rf {} +
