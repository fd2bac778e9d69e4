.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Commands and tests start many processes: what each would compile anew is kept, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/installed ## make .venv with exactly what requirements.lock names

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { echo "Python 3.10 to 3.13 is needed; say which: make setup PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep -oE '^uv==[0-9.]+' requirements.lock)"
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## two weeks of Greece from a simulated API through the whole pipeline, and a picture (ROAD=v4 or v4-mix: the API's v4)
	@$(BIN)/python -m emaps_dagster.cli.demo $(if $(ROAD),--road $(ROAD))

dev: setup ## Dagster's UI on the demo's data, with a simulated API (or on yours, if EMAPS_API_TOKEN is set)
	@$(BIN)/python -m emaps_dagster.cli.demo.dev

test: lint imports ## every test that this machine can run, mypy among them (test_types.py), after lint and imports
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-long: ## make test with every variant: more engines, faults, scenarios and clicks; more than an hour on two cores
	EMAPS_TEST_LONG=1 $(MAKE) test

# The marks are given by emaps_dagster_tests/conftest.py, from a test's place and code; CONTRIBUTING.md has the rule.
NOT_FAST := jvm browser postgres databricks system process job engine
EMPTY :=
FAST := not $(subst $(EMPTY) $(EMPTY), and not ,$(NOT_FAST))

test-fast: setup ## the tests of single modules, in about a minute: no processes, jobs or tables of several rooms
	$(BIN)/python -m pytest -q --numprocesses auto --dist loadfile -m "$(FAST)" --ignore emaps_dagster_tests/system emaps_dagster_tests

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy, strict
	$(BIN)/mypy

imports: setup ## the layers of docs/architecture.md
	$(BIN)/lint-imports --config setup.cfg

lock: setup ## make requirements.lock anew from pyproject.toml, and the emulator's serverless.lock
	$(BIN)/uv pip compile --universal --python-version 3.10 --group dev --extra postgres --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --python-version 3.12 --constraint requirements.lock --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --output-file harness/databricks_emulator/serverless.lock harness/databricks_emulator/serverless.in

docs: setup ## docs/tables.md and the generated pages of docs/reference
	$(BIN)/python -m emaps_dagster.cli.tables_doc > docs/tables.md
	for page in settings checks commands forecasting metadata; do $(BIN)/python -m emaps_dagster.cli.reference_doc $$page > docs/reference/$$page.md || exit 1; done

holidays: setup ## emaps_dagster/transforms/stored_holidays.py, after an update of the package holidays or a new country
	$(BIN)/python -m emaps_dagster.cli.holidays_module > .stored_holidays
	mv .stored_holidays emaps_dagster/transforms/stored_holidays.py

screenshots: setup ## docs/images/ui/*.png, the pictures of docs/ui.md, from a demo of its own; needs Chromium
	@$(BIN)/python -m emaps_dagster_tests.support.screenshots

bench: setup ## times of ticks and backfills, into benchmarks/RESULTS.md; for a machine that does nothing else
	@$(BIN)/python -m benchmarks

.PHONY: help setup demo dev test test-long test-fast lint types imports lock docs screenshots bench
