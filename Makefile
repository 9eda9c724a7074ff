# Every target sets up what it needs: a bare python3 (>= 3.11) with pip is enough; uv is used when it is there.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help setup ablate test test-all lint format docs notebooks test-notebooks test-gpu test-stacks test-slurm clean
help:
	@echo "make setup        create $(VENV) with everything that the other targets need"
	@echo "make ablate       the headline suite: fusion, 5 seeds, 12 minutes on 2 CPU cores"
	@echo "make test         the test suite without what is marked slow"
	@echo "make test-all     the whole test suite"
	@echo "make lint         ruff and mypy"
	@echo "make docs         the pages of docs/ and of the API into build/docs; warnings are errors"
	@echo "make notebooks    docs/notebooks/*.ipynb, run from their sources, with what came out"
	@echo "make test-stacks  conformance, leak tests and the quick suite on jax 0.7.2 (Colab) and on the newest jax"
	@echo "make test-notebooks  the notebooks run, here and with Colab's pins (a few minutes)"
	@echo "make test-gpu     conformance, leaks, gradients and statistics on an NVIDIA GPU, within 4 minutes"
	@echo "make test-slurm   the quick suite as jobs of a real Slurm on this machine, where it can be installed"

# What installs into $(VENV).
INSTALL = $(if $(shell command -v uv),uv pip install --quiet --python $(RUN),$(RUN) -m pip install --quiet --disable-pip-version-check)

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "crossattn needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make setup PYTHON=python3.12" >&2; exit 2; }
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV) && \
	  $(INSTALL) -e '.[easy-vqa,dev]'; \
	else \
	  { $(PYTHON) -m venv $(VENV) || { $(PYTHON) -m pip install --quiet virtualenv && $(PYTHON) -m virtualenv --quiet $(VENV); }; } && \
	  $(INSTALL) -e '.[easy-vqa,dev]'; \
	fi
	@touch $@

ablate: setup
	$(RUN) -m experiments.ablate fusion

# What each worker and child imports is compiled once.
TEST := PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup
	$(TEST) -m "not slow"

test-all: setup
	$(TEST)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/.docs: $(VENV)/.ready
	@$(INSTALL) -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs
	$(RUN) -m sphinx -E -W --keep-going -q -j auto -b html docs build/docs
	@echo "build/docs/index.html"

test-notebooks: setup
	$(RUN) -m pytest -q tests/notebooks
	bash tests/stacks.sh notebooks

test-stacks:
	bash tests/stacks.sh

notebooks: setup
	$(RUN) -m tests.notebooks.execution

test-gpu: setup
	$(RUN) -m tests.gpu

test-slurm: setup
	PYTHON=$(RUN) bash tests/slurm.sh

clean:
	rm -rf $(VENV) .venv-* build/docs .pytest_cache .mypy_cache .ruff_cache .hypothesis
