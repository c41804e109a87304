# Everything from nothing: only Python 3.11 or newer and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# the rooms at the repository's root must not shadow installed packages of the same names
export PYTHONSAFEPATH := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint
demo: $(VENV)/installed  ## render the toy dataset, extract, fit, match, score: ends in the summary table
	$(BIN)/dvc repro --quiet
	@cat reports/summary.md

test: $(VENV)/installed  ## the whole suite
	$(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(VENV)/installed  ## what CI checks besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch first and by itself: a bare `torch` of another package would bring gigabytes of CUDA
$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[toy,dev]'
	touch $@
