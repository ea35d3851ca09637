# Everything runs from a fresh clone: each target makes the environment it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what is imported when it is; compiling all of torch and transformers takes longer.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
	--constraint constraints.txt

.PHONY: help demo test docs lint format clean

help:
	@echo "make demo    run NegRefine on the bundled pictures"
	@echo "make test    run the test suite"
	@echo "make docs    build the documentation in site/, and check its links"
	@echo "make lint    check style (ruff) and types (mypy)"
	@echo "make format  format the code"
	@echo "make clean   remove the environment and results"

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Creating $(VENV) (a minute or two) ..."
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(INSTALL) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/negrefine demo --out demo-results

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build -q -E -W --keep-going -j 2 -c tools/site -d build/doctrees . site
	$(BIN)/python tools/site/check_links.py site
	@echo "Open site/index.html"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-results build dist site
