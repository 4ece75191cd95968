# `make run` and `make test` set up whatever they need first. `make help` lists everything.

VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
WEB     := app/web/dist/.built-from
PYTHON  ?= python3
WORKERS ?= 2

# The address of a package index or a proxy comes from pip's own configuration, never from here.
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup run test test-deep bench lint types format schema web check lock clean

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY) web ## Set up the virtual environment and the web pages

run: setup ## Start everything on this machine; Ctrl-C stops it
	@exec $(BIN)/laurel run

test: setup ## Run the tests
	@$(BIN)/pytest -n $(WORKERS) -m "not deep"

test-deep: setup ## Run the slow, deep tests too
	@$(BIN)/pytest -n $(WORKERS)

bench: setup ## Measure, and compare with the goals
	@$(BIN)/python -m tests.benchmarks

check: lint types test ## Lint, check types and run the tests

lint: $(READY) ## Check format, style and who imports whom
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports

types: $(READY) ## Check types
	@$(BIN)/mypy

format: $(READY) ## Put the code into its format
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

schema: $(READY) ## Write graphql_schema/schema.graphql
	@$(BIN)/python -m graphql_schema.export

web: $(READY) ## Build the web pages (does nothing when they are up to date)
	@$(BIN)/python -m app.web.build

# Needs uv on PATH. Names of index hosts stay out of the files. The second file is the part of the
# first that runs in production, for the container image.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml
lock: ## Choose the versions of all dependencies anew
	@$(COMPILE) --upgrade --extra dev -o requirements.lock
	@$(COMPILE) -c requirements.lock -o requirements-run.lock

clean: ## Remove what was built; the data in .laurel stays
	@rm -rf $(VENV) app/web/dist app/web/node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find app graphql_schema workers tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Made again when the dependencies or the package's metadata change.
$(READY): requirements.lock pyproject.toml
	@python="" ; \
	for candidate in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			python="$$candidate"; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Laurel needs Python 3.11 or newer with its venv module; set PYTHON to where it is." >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) ..."; \
	[ -x $(BIN)/python ] && $(BIN)/python -c '' >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(READY)
