# The few verbs. `make run` and `make test` need nothing but Python 3.11, a C compiler and this folder.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
BUILD_NEEDS := "setuptools>=77" wheel "cython>=3.1" "numpy>=2.0"
EXT_SOURCES := setup.py $(wildcard ext/*.pyx ext/*.pxd ext/*.h)

# What distinguishes one kind of binary from another; a change of it rebuilds everything.
KIND := $(if $(filter 1,$(EXT_DEBUG)),debug,release)$(if $(filter 1,$(ANYTICK_NATIVE)),-native)
KIND := $(KIND)$(if $(EXT_SANITIZE),-sanitize)
BUILT := build/.built-$(KIND)
export EXT_DEBUG EXT_SANITIZE ANYTICK_NATIVE

.PHONY: help run test nightly build debug lint format types bench check clean
.DEFAULT_GOAL := help

help: ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 14

run: $(BUILT) ## Set up, then run the main job: five years of ticks, walk-forward, a report. ARGS="--years 1"
	@$(BIN)/anytick run $(ARGS)

test: $(BUILT) ## Set up, then run the tests. ARGS="-k book"
	@$(BIN)/python -m pytest $(ARGS)

nightly: $(BUILT) ## The tests that take minutes: long differential runs, many mutants.
	@HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -m nightly $(ARGS)

build: $(BUILT) ## Set up and build the extensions.

debug: ## Build the extensions with assertions and bounds checks.
	@$(MAKE) --no-print-directory build EXT_DEBUG=1

lint: $(BUILT) ## Check style: Python and Cython.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo 'run: make format' >&2; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint ext

format: $(BUILT) ## Put Python sources into their one form.
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

types: $(BUILT) ## Check types, and the stubs of the extensions against what was built.
	@$(BIN)/mypy
	@$(BIN)/stubtest --allowlist tests/ext/stubtest_allowlist.txt --ignore-unused-allowlist --ignore-disjoint-bases \
	  $(subst /,.,$(basename $(wildcard ext/*.pyx)))

bench: $(BUILT) ## Measure; ARGS="--list" shows what.
	@$(BIN)/anytick bench $(ARGS)

check: lint types test ## Everything that must hold before a change goes in.

clean: ## Remove what was built; the environment goes with it, recordings and results stay.
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@rm -f ext/*.so

# The environment, with what builds extensions: the install below needs no second, isolated one.
.venv/.ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "anytick needs Python 3.11 or newer, was $$($(PYTHON) -V 2>/dev/null || echo no $(PYTHON)); try: make PYTHON=python3.12" >&2; \
	  exit 2; }
	@echo "making an environment in .venv"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@$(PIP) install $(BUILD_NEEDS)
	@touch $@

# The project itself, editable. setup.py compiles everything anew, see there.
$(BUILT): .venv/.ready pyproject.toml $(EXT_SOURCES)
	@$(CC) --version >/dev/null 2>&1 || { \
	  echo "anytick needs a C compiler, $(CC) was not found; on Debian and Ubuntu: apt install gcc" >&2; exit 2; }
	@echo "installing dependencies and compiling the extensions ($(KIND)); a minute or two"
	@rm -rf build/.built-* ext/*.so
	@$(PIP) install --no-build-isolation --editable '.[dev]'
	@mkdir -p build && touch $@
