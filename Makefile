# These commands set everything up on a machine with Python 3.11 and make:
#   make demo   the main job on the embedded testbed, with a report at the end
#   make real   the same on a small real model and public knowledge
#   make test   the tests that take seconds each; make test-all runs every one
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
OUT ?= runs/demo

# One thread a process: several threads on shared cores make each other wait.
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1
# Organisms that do not come with the package are grown once and kept here.
export TITER_CACHE ?= $(HOME)/.cache/titer

.PHONY: demo real test test-all lint types contracts docs check clean

demo: $(VENV)/.ready
	$(BIN)/titer demo --out $(OUT)

# SmolLM2 (92 MB to fetch, 540 MB on disk), three defences, six attacks; the same again resumes.
real: $(VENV)/.ready-real
	$(BIN)/titer demo --real --out runs/real

PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup

test: $(VENV)/.ready-dev
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/.ready-dev
	$(PYTEST) $(ARGS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check src tests benchmarks examples studies docs/*.py
	$(BIN)/ruff format --check src tests benchmarks examples studies docs/*.py

types: $(VENV)/.ready-dev
	$(BIN)/pyright

contracts: $(VENV)/.ready-dev
	$(BIN)/lint-imports

# Warnings are errors, and a link or a heading that is not there is a warning. No network is used.
docs: $(VENV)/.ready-docs
	$(BIN)/python docs/commands.py
	$(BIN)/python docs/glossary.py
	$(BIN)/python docs/sets.py
	$(BIN)/python docs/verdict.py
	$(BIN)/python docs/rows.py
	$(BIN)/python docs/cheats.py
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs . runs/docs
	@echo "runs/docs/docs/index.html"

check: lint types contracts docs

# torch comes first and pinned: a later, unpinned request would bring several gigabytes of CUDA.
$(VENV)/.ready: requirements/lock.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' requirements/lock.txt)"
	$(PIP) -r requirements/lock.txt
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements/dev.txt
	$(PIP) -r requirements/dev.txt
	touch $@

$(VENV)/.ready-docs: $(VENV)/.ready requirements/docs.txt
	$(PIP) -r requirements/docs.txt
	touch $@

$(VENV)/.ready-real: $(VENV)/.ready requirements/real.txt
	$(PIP) --no-deps -r requirements/real.txt
	touch $@

clean:
	rm -rf $(VENV) runs
