# demo · test · check · bench: each installs what it needs into .venv and then runs.
# PYTHON      the interpreter that makes .venv (CPython 3.11 or later)
# TORCH_INDEX a package index to take torch from, such as PyTorch's own CPU wheels (see README)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
TORCH_INDEX ?=
CHECKOV := 3.3.30
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q

.PHONY: help demo test check audit format bench install-bench second-opinion clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: .venv/lab.stamp  ## the whole lab on this machine: data to endpoint and edge device, approved
	@$(BIN)/python -m lab run --approve

test: .venv/dev.stamp  ## every test, whole flows included
	@$(BIN)/python -m pytest

check: .venv/dev.stamp  ## format, lint, types, architecture, fast tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -m "not slow and not flow"

audit: .venv/dev.stamp .venv-audit/checkov.stamp  ## cdk-nag, cfn-lint and checkov over the template, in either network
	@$(BIN)/python -m pytest -q tests/infra/test_scanners.py

format: .venv/dev.stamp  ## rewrite the sources in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

install-bench: .venv/bench.stamp  ## every exporter, runtime and server that the benchmarks compare with

bench: .venv/lab.stamp  ## the engine's own time, cold and warm (benchmarks/README.md)
	@$(BIN)/python -m lab bench flow

second-opinion: .venv/dev.stamp .venv-ministack/stamp  ## the template on ministack, an emulator that is not ours
	@$(BIN)/python -m pytest -s tests/test_second_opinion.py

clean:  ## forget every local run and build; .venv stays
	@[ ! -d .lab ] || $(BIN)/python -m lab down --quiet
	@rm -rf .lab cdk.out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "make: $(PYTHON) is %d.%d; the lab needs CPython 3.11 or later: make PYTHON=python3.12 …" % sys.version_info[:2])'
	@[ -x $(BIN)/python ] || { echo "Creating .venv"; $(PYTHON) -m venv .venv; }
	@touch $@

# torch first and by its exact pin, so that pip can take a CPU wheel where the index has one.
.venv/torch.stamp: .venv/python.stamp requirements.lock
	@echo "Installing PyTorch"
	@$(PIP) "$$(grep '^torch==' requirements.lock)" $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@touch $@

.venv/lab.stamp: .venv/torch.stamp pyproject.toml requirements.lock
	@echo "Installing the lab (the first time takes a few minutes)"
	@$(PIP) -c requirements.lock -e '.[lab]'
	@touch $@

# executorch alone: its language-model exporter requires what contradicts moto's pins; the extra names what it imports.
.venv/bench.stamp: .venv/lab.stamp
	@echo "Installing what the benchmarks compare with"
	@$(PIP) -c requirements.lock -e '.[bench]'
	@$(PIP) --no-deps "$$(grep '^executorch==' requirements.lock)"
	@touch $@

.venv/dev.stamp: .venv/lab.stamp
	@echo "Installing what the tests and notebooks use"
	@$(PIP) -c requirements.lock -e '.[lab,notebooks,dev]'
	@touch $@

# An environment of its own: it pins another boto3, which its Lambda functions import too.
.venv-ministack/stamp: Makefile
	@echo "Installing ministack"
	@[ -x .venv-ministack/bin/python ] || $(PYTHON) -m venv .venv-ministack
	@.venv-ministack/bin/python -m pip install --disable-pip-version-check -q ministack==1.5.33 boto3==1.43.106
	@touch $@

# In an environment of its own: checkov pins an older boto3 than the lab's.
.venv-audit/checkov.stamp: Makefile
	@echo "Installing checkov"
	@[ -x .venv-audit/bin/python ] || $(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip install --disable-pip-version-check -q checkov==$(CHECKOV)
	@touch $@
