# The verbs of the project. `make help` lists them. Everything is set up in .venv from the hashed lock file.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
PORT ?= 3000
export GX_ANALYTICS_ENABLED := false
export DAGSTER_DISABLE_TELEMETRY := yes

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test test-long simulations lint format docs bench-stats bench-scoring bench-sides lock clean

help:  ## List the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Set everything up in .venv (done by the other verbs too)

$(STAMP): requirements.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/setup.sh
	@touch $@

demo: $(STAMP)  ## Run the whole pipeline on the sample drops, in data/demo
	@$(BIN)/modpipe demo

ui: $(STAMP)  ## Open the Dagster UI on 127.0.0.1 (PORT=3000; MODERATION_HOME chooses the home)
	@$(BIN)/modpipe ui --port $(PORT)

test: $(STAMP)  ## Run the test suite (minutes; the long tests are apart)
	@$(BIN)/python -m pytest -m "not slow and not browser and not simulation and not outside"

test-long: $(STAMP)  ## Run the long tests: browser, real homes end to end, simulations at a tenth
	@$(BIN)/python -m pytest -m "(slow or browser or simulation) and not outside"

simulations: $(STAMP)  ## Run the simulations at full size and write docs/simulations.md (an hour)
	@SIMULATIONS=full $(BIN)/python -m pytest -m simulation

lint: $(STAMP)  ## Formatter, linter, type checker, floors, dead links in the docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python tools/floors.py
	@$(BIN)/python tools/check_docs.py

format: $(STAMP)  ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(STAMP)  ## Write docs/tables.md from the table schemas
	@$(BIN)/python tools/tables_page.py > docs/tables.md

bench-stats: $(STAMP)  ## Measure agreement and consensus at 1, 10 and 100 million votes (20 minutes, 4 GiB of disk)
	@$(BIN)/python benchmarks/stats.py

bench-scoring: $(STAMP)  ## Measure the scoring engine beside bare clients (15 minutes; TOOLS=folder adds other tools)
	@$(BIN)/python benchmarks/scoring.py $(if $(TOOLS),--tools $(TOOLS))

bench-sides: $(STAMP)  ## Measure sides by near-duplicate cluster and the search for near-twins (two minutes)
	@$(BIN)/python benchmarks/sides.py

lock: $(STAMP)  ## Write requirements.lock anew, with hashes
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --upgrade -q -o requirements.lock

clean:  ## Remove .venv, the demo and caches
	@rm -rf $(VENV) .venv-oracles data/demo .mypy_cache .ruff_cache build *.egg-info
