# The two commands: `make demo` and `make test`. Both set up a virtual environment first.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed

.PHONY: demo test lint docs clean

demo: $(READY)
	mkdir -p out
	$(BIN)/arspec check-causality pixelcnn
	$(BIN)/arspec build examples/digits.yaml -o out/digits.py
	$(BIN)/python examples/digits.py --picture out/digits.png

test: $(READY)
	$(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -c 'from arspec.diagnostics import errors_page; print(errors_page(), end="")' \
	    > docs/errors.md

# Installed once, and again only when what is to be installed has changed.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("arspec needs Python 3.11 or newer: make PYTHON=python3.11" \
	    if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv out build dist
