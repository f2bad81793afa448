# Every target makes its own virtual environment in .venv; a later run installs again only after
# pyproject.toml or constraints.txt has changed. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
INPUTS := pyproject.toml constraints.txt

# Processes that run tests side by side; each takes up to 2 GB of memory.
TEST_PROCESSES ?= 2

# One thread: for models as small as those of the tests and the demo, more are slower.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help demo test test-all supply lint clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-demo ## Watch a small policy learn to search, refine and answer (10 minutes)
	$(BIN)/refine-env demo

test: $(VENV)/.stamp-test lint ## Lint, types and the tests that take seconds
	$(BIN)/python -m pytest -m "not slow" -n $(TEST_PROCESSES) --dist loadfile

test-all: $(VENV)/.stamp-all lint ## All of that and the slow tests, with Lucene and Ray as well
	$(BIN)/python -m pytest

supply: $(VENV)/.stamp-all ## Lowest and newest dependencies, wheel and sdist, audit, licences (an hour)
	rm -rf build/supply
	$(BIN)/python -m tests.supply all --folder build/supply

lint: $(VENV)/.stamp-test ## Style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## Remove the virtual environment and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-demo: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV) (torch is large: this takes some minutes the first time) ..."
	$(INSTALL) -e '.[train,wandb]'
	@touch $@

$(VENV)/.stamp-test: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV) (torch is large: this takes some minutes the first time) ..."
	$(INSTALL) -e '.[train,hf,chat,dense,serve,wandb,dev]'
	@touch $@ $(VENV)/.stamp-demo

$(VENV)/.stamp-all: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV), with everything optional ..."
	$(INSTALL) -e '.[all]'
	@touch $@ $(VENV)/.stamp-test $(VENV)/.stamp-demo
