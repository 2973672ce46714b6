# From a fresh clone to a live panel: `make lab`. To the proof of it: `make test`.
#
# Needs make and Python 3.11 or newer. Everything is installed into .venv; nothing outside the clone is touched but the
# cache of packs (and, by `make test` where it may, Chromium through apt-get). The stamp of an installation is written
# last, so one that broke off is taken up again; once it is complete, `make lab` needs no network.

PYTHON ?= python3
LAB_ARGS ?=
TEST_ARGS ?=
SEED ?= $(shell date +%s)

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
NEEDS := pyproject.toml constraints.txt

# Two processes share the tests; what is timed comes last and alone (tests/timed_last.py).
PYTEST := $(PY) -m pytest -n 2

# A .venv that does not run, lacks pip or was installed from another folder (a moved clone) counts as not installed.
RUNS := $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
ifneq ($(shell $(RUNS) && cat $(INSTALLED) 2>/dev/null),$(CURDIR))
$(shell rm -f $(INSTALLED) $(INSTALLED_TEST))
endif

.DEFAULT_GOAL := help
.PHONY: help lab test test-deep check fetch chromium constraints clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo '  PYTHON=python3.12, LAB_ARGS="--no-browser --port 8899" and TEST_ARGS="-k packs" are passed on.'

lab: $(INSTALLED) ## set up, fetch the packs, open JupyterLab
	@$(PY) -m workbench lab $(LAB_ARGS)

test: $(INSTALLED_TEST) chromium fetch ## set up, fetch the packs, run the tests: 15 minutes at most
	@$(PYTEST) --durations 20 $(TEST_ARGS)

test-deep: $(INSTALLED_TEST) chromium fetch ## the tests with many more random cases, whole benchmarks: a night
	@$(PY) -m pytest --deep $(SEED) --durations 40 $(TEST_ARGS)

check: $(INSTALLED_TEST) ## lint, types, import contracts, fast tests: under a minute
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache
	$(PYTEST) -q -m 'not slow'

fetch: $(INSTALLED) ## fetch the packs that are missing
	@$(PY) -m workbench fetch

$(INSTALLED): $(NEEDS)
	$(make_venv)
	$(PY) -m pip install --constraint constraints.txt --editable .
	@echo '$(CURDIR)' > $@

$(INSTALLED_TEST): $(NEEDS) | $(INSTALLED)
	$(PY) -m pip install --constraint constraints.txt --editable '.[test]'
	@touch $@

define make_venv
@$(RUNS) || { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& $(PYTHON) -m venv --clear $(VENV); } || { \
	echo "Finetune Workbench needs Python 3.11 or newer with venv; $(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
	echo "Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; } >&2
endef

# The browser tests drive a Chromium. Where it can't be installed from here, what to install is named.
APT_GET := $(if $(filter 0,$(shell id -u)),,sudo -n) apt-get
chromium:
	@for browser in chromium chromium-browser google-chrome; do command -v $$browser >/dev/null && exit 0; done; \
	{ $(APT_GET) update -q && $(APT_GET) install -q -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 \
	|| echo 'The browser tests need Chromium and the DejaVu fonts. Install them (Debian: chromium fonts-dejavu-core).'

constraints: ## pin what pyproject.toml resolves to now, in a fresh environment
	@$(PYTHON) -m venv --clear $(VENV)-constraints
	$(VENV)-constraints/bin/python -m pip install --editable '.[test]'
	@{ sed -n '/^#/p' constraints.txt; \
		$(VENV)-constraints/bin/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//'; } > constraints.new
	@mv constraints.new constraints.txt && rm -r $(VENV)-constraints

clean: ## remove .venv and the caches of tools; runs and packs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
