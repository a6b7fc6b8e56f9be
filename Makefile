# Every target sets up what it needs: a virtual environment with the locked dependencies.
PYTHON ?= python3
.DEFAULT_GOAL := help

define venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ...")'
	@echo "Setting up $(1), once"
	@$(PYTHON) -m venv --clear $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(2)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endef

.venv/.ready: requirements/dev.txt pyproject.toml
	$(call venv,.venv,requirements/dev.txt)

.venv-previous/.ready: requirements/previous.txt pyproject.toml
	$(call venv,.venv-previous,requirements/previous.txt)

.venv-earlier/.ready: requirements/earlier.txt pyproject.toml
	$(call venv,.venv-earlier,requirements/earlier.txt)

.venv-demo/.ready: requirements/demo.txt pyproject.toml
	$(call venv,.venv-demo,requirements/demo.txt)

.venv-bench/.ready: requirements/bench.txt pyproject.toml
	$(call venv,.venv-bench,requirements/bench.txt)

.PHONY: help
help:  ## Show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

.PHONY: demo
demo: .venv-demo/.ready  ## Four processes share one account, live: first alone, then together
	@.venv-demo/bin/cross-instance demo

.PHONY: test
test: format lint types unit previous  ## Run every check: format, lint, types, tests

.PHONY: format
format: .venv/.ready
	.venv/bin/ruff format --check .

.PHONY: lint
lint: .venv/.ready
	.venv/bin/ruff check .

.PHONY: types
types: .venv/.ready
	.venv/bin/mypy

.PHONY: unit
unit: .venv/.ready
	.venv/bin/pytest

.PHONY: previous
previous: .venv-previous/.ready .venv-earlier/.ready  ## The clients' tests with earlier majors of the SDKs
	.venv-previous/bin/pytest tests/clients
	.venv-earlier/bin/pytest tests/clients/test_clients_sdks.py

.PHONY: bench
bench: .venv-bench/.ready  ## Measure everything of the target table beside floors and peers, and simulate hidden limits
	.venv-bench/bin/python -m bench
	.venv-bench/bin/python -m bench.learning

.PHONY: lock
lock:  ## Write the lock files anew (needs uv)
	requirements/lock.sh

.PHONY: clean
clean:  ## Remove the virtual environments and caches
	rm -rf .venv .venv-previous .venv-earlier .venv-demo .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
