# Everything one can do here. Set-up happens by itself, once.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
.PHONY: help setup assets demo kills run test test-all check lint types imports format bench lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with the locked packages (done once; every other target does it too)
	@bash scripts/setup.sh

assets: ## bring the scripts and styles of the pages (done once; needs npm)
	@sh scripts/assets.sh

demo: setup ## 300 shops under live shoppers, their database destroyed, every promise counted (ARGS="--how rows …")
	@sh scripts/assets.sh || echo "without npm the shops' pages are plain; the replay does not need them"
	@$(PY) -m ballast.cli demo --report demo-out/replay.html $(ARGS)

kills: setup ## 50 small replays in which whoever serves or restores is killed; goes on where it was (ARGS="--runs 5 …")
	@$(PY) -m ballast.demo.kills $(ARGS)

run: setup assets ## run the whole platform with some shops to look at; Ctrl-C stops it (ARGS="--port 9000 …")
	@$(PY) -m ballast.cli up --seed-shops 20 --seed-orders 400 $(ARGS)

# Four run side by side, since they wait much; long files first. What a busy machine has made fail must pass alone.
PYTEST := $(PY) -m pytest -q --durations=25 --durations-min=20
SIDE_BY_SIDE := -n 4 --dist loadfile --no-loadscope-reorder
test: setup assets ## run the tests (real servers, real kills; about half an hour)
	@$(PYTEST) $(SIDE_BY_SIDE) || { echo "once more, alone, what failed:"; $(PYTEST) --last-failed --last-failed-no-failures none; }

test-all: export BALLAST_KILLS ?= 56
test-all: export BALLAST_HISTORIES ?= 4
test-all: export BALLAST_SCHEMATHESIS_EXAMPLES ?= 4
test-all: setup assets ## all of it on each PostgreSQL, every variant and size, with four times the random stories and kills
	@$(PYTEST) $(SIDE_BY_SIDE) --every-version --deep

# The types are looked at beside the tests, in the time in which those wait.
check: setup assets lint imports ## what CI runs: lint, types, import rules, tests
	@$(MAKE) --no-print-directory -j2 types test

lint: setup ## ruff: rules and format
	@$(PY) -m ruff check src tests bench
	@$(PY) -m ruff format --check src tests bench

types: setup ## mypy, strict
	@$(PY) -m mypy

imports: setup ## who may import whom
	@.venv/bin/lint-imports

format: setup ## format the code
	@$(PY) -m ruff check --fix -q src tests bench || true
	@$(PY) -m ruff format src tests bench

bench: setup ## measure; prints tables, writes bench/results
	@$(PY) -m bench

lock: setup ## renew requirements.lock from pyproject.toml
	@$(PY) -m pip install -q uv
	@.venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra dev pyproject.toml -o requirements.lock

clean: ## remove .venv and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build src/*.egg-info
