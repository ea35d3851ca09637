# Everything runs from a fresh clone: each target makes the environment it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# An index with CPU builds of torch, such as https://download.pytorch.org/whl/cpu.
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what is imported when it is; compiling all of torch and transformers takes longer.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
	--constraint constraints.txt

.PHONY: help demo test docs lint types format dist clean

help:
	@echo "make demo    show NegRefine's verdicts on the bundled pictures"
	@echo "make test    run the test suite"
	@echo "make docs    build the documentation in site/, and check its links"
	@echo "make lint    check style (ruff) and types (mypy)"
	@echo "make types   check a program that uses the installed package with mypy and pyright"
	@echo "make dist    build wheel and source distribution into dist/, and check them"
	@echo "make format  format the code"
	@echo "make clean   remove the environment and results"

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Creating $(VENV). It takes minutes, and 1.3 GB on the disk without CUDA libraries."
	@echo "Download: 0.4 GB with a CPU build of torch; 2.9 GB with the CUDA libraries that the torch of"
	@echo "PyPI brings on Linux (TORCH_INDEX=https://download.pytorch.org/whl/cpu leaves them out) ..."
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) $(addprefix --extra-index-url ,$(TORCH_INDEX)) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(INSTALL) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/negrefine demo --out demo-results

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile

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

# The program is copied, so that the checkers find the package where it is installed.
types: $(VENV)/.installed-dev
	@$(INSTALL) 'pyright>=1.1.400'
	@rm -rf build/types && mkdir -p build/types && cp tests/typing/sample.py build/types
	cd build/types && $(abspath $(BIN))/mypy --strict sample.py
	cd build/types && $(abspath $(BIN))/pyright --pythonpath $(abspath $(BIN))/python sample.py

# Built from what git has, so that nothing else of the folder gets in.
dist: $(VENV)/.installed
	@$(INSTALL) 'build>=1.2' 'twine>=6'
	@rm -rf build/dist dist && mkdir -p build/dist
	@git archive HEAD | tar -x -C build/dist
	$(BIN)/python -m build --outdir dist build/dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tools/release/check_dist.py dist

clean:
	rm -rf $(VENV) demo-results build dist site
