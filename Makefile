# make quickstart   a first answer, on photographs that come with an installed dependency
# make test         the whole suite
# make check        lint, format, types
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
QUICKSTART ?=

.PHONY: quickstart test check format clean

quickstart: .venv/installed
	@$(BIN)/python experiments/quickstart/run.py $(QUICKSTART)

test: .venv/installed-dev
	$(BIN)/python -m pytest --quiet --numprocesses 2 --dist loadfile

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv .pytest_cache .ruff_cache

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing into .venv (about 7 GB, a few minutes) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(PIP) --editable '.[dev]'
	@touch $@
