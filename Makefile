# Everything a person does with this tree. The first target that needs it sets up .venv, once per requirements.lock.
#
#   make PYTHON=python3.13 test     another interpreter for .venv
#   make KEEP=1 demo                leaves the mesh up and says how to play with it

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

VENV := .venv
READY := $(VENV)/ready
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

# The first of these that is Python 3.11 or newer and can make a virtual environment.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)

# Branch coverage of meshnode/core below this fails `make test`.
CORE_COVERAGE_PERCENT_MIN := 100
TEST_PROCESSES ?= auto

.PHONY: help setup demo test lint types pytest bench soak lock clean

help:
	@echo 'make demo    five nodes on this machine share an incident, and go on when the hub dies (half a minute)'
	@echo 'make test    checks style and types, runs all tests, holds the coverage of the core'
	@echo 'make bench   measures spread, catch-up, writes, queries, start, rest'
	@echo 'make soak    runs partition simulations with ever new seeds, and leaves a report: make soak HOURS=8'
	@echo 'make setup   only what the others need: .venv with everything in requirements.lock'
	@echo 'make lock    resolves the dependencies of pyproject.toml anew'
	@echo 'make clean   removes .venv and what tools left behind'

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@if [ -z '$(PYTHON)' ]; then \
	  echo 'There is no Python 3.11 or newer with venv here. On Debian: apt-get install python3-venv' >&2; exit 1; fi
	@echo 'setting up $(VENV) with $(PYTHON), once; this downloads some 50 MB'
	@rm -f $(READY)
	@$(PYTHON) -m venv --clear $(VENV)
	@# --no-deps: the lock is complete. Left to resolve, the pip of Python 3.11 takes the newest release of a package that
	@# is named with an extra (pytest-cov: coverage[toml]), finds no hash for it, and refuses. pip check holds it complete.
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@# The project itself, in place: nothing is fetched for it.
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@$(PIP) check
	@touch $(READY)

demo: $(READY)
	@$(BIN)/python -m simulations.demo $(if $(KEEP),--keep)

test: lint types pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy -p meshnode -p simulations

# The examples of hypothesis are the same in every run, so that a test or the coverage fails always or never; without
# the profile, as in plain `pytest`, they are new ones each time.
pytest: $(READY)
	$(BIN)/pytest --hypothesis-profile=ci -n $(TEST_PROCESSES) --cov=meshnode --cov-branch --cov-report=
	$(BIN)/coverage report --include='meshnode/core/*' --skip-covered --fail-under=$(CORE_COVERAGE_PERCENT_MIN)

bench: $(READY)
	@$(BIN)/python -m simulations.benchmarks

soak: $(READY)
	@$(BIN)/python -m simulations soak --hours $(or $(HOURS),1)

# Names no registry: what is installed is fixed by the hashes, wherever it comes from.
lock: $(READY)
	$(BIN)/pip-compile --quiet --extra dev --generate-hashes --strip-extras --allow-unsafe --no-build-isolation \
	  --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
