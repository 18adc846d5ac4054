# Everything that is set up lands in .venv, .venv-floor and .cache; `make clean` removes it.
PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/.runtime
DEVELOPMENT := .venv/.development
FLOOR := .venv-floor/.installed
DEFINITIONS := pyproject.toml clients/python/pyproject.toml constraints.txt
PYTEST_WORKERS ?= 3
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test soak vectors lint format generate serve postgresql bench clean

help: ## Show this list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1 \t/' | expand -t 20

demo: $(RUNTIME) ## Index this machine's Python library as a workflow, on a server of its own.
	@$(BIN)/python -m interlock_server.demo

test: $(DEVELOPMENT) $(FLOOR) ## Run all tests, on every supported database.
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGUMENTS)

soak: $(DEVELOPMENT) ## Run the long forms of the fault tests.
	@$(BIN)/python -m pytest -m soak --timeout 3600 $(PYTEST_ARGUMENTS)

vectors: $(DEVELOPMENT) ## Compare all decisions with those that a peer's server was recorded to make.
	@$(BIN)/python -m tests.vectors

lint: $(DEVELOPMENT) ## Check style, types and the contract.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code

format: $(DEVELOPMENT) ## Bring the code into its form.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/buf format --write

generate: $(DEVELOPMENT) $(FLOOR) ## Make the stubs, the synchronous client, the configuration's page.
	@PATH="$(CURDIR)/.venv-floor/bin:$$PATH" .venv-floor/bin/python -W ignore tools/generate.py
	@$(BIN)/python tools/generate_sync.py
	@$(BIN)/python tools/generate_reference.py

serve: $(RUNTIME) ## Start a server on the default database.
	@$(BIN)/interlock server start

postgresql: $(DEVELOPMENT) ## Start a private PostgreSQL to try things out on; prints its URL.
	@$(BIN)/python -m tests.support.postgresql

bench: $(DEVELOPMENT) ## Measure against echo and the raw drivers; writes benchmarks/results.json.
	@$(BIN)/python -m benchmarks $(BENCH_ARGUMENTS)

clean: ## Remove what the other targets have set up.
	rm -rf .venv .venv-floor .cache .interlock-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Interlock needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "Python's venv module does not work here; on Debian: apt-get install python3-venv"; exit 1; }

$(RUNTIME): .venv/bin/python $(DEFINITIONS)
	@echo "Installing Interlock into .venv ..."
	@$(PIP) -e clients/python -e .
	@touch $@

$(DEVELOPMENT): .venv/bin/python $(DEFINITIONS)
	@echo "Installing Interlock and its tools into .venv ..."
	@$(PIP) -e clients/python -e '.[dev]'
	@touch $(RUNTIME) $@

$(FLOOR): .venv/bin/python constraints-floor.txt
	@echo "Installing the oldest supported toolchain into .venv-floor ..."
	@$(PYTHON) -m venv .venv-floor
	@.venv-floor/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-floor.txt
	@touch $@
