# Two commands on a fresh machine: `make train` runs the main job, `make test` passes the tests.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: train test lint wheel check-wheel clean

train: .venv/installed
	$(BIN)/accelerate launch examples/train_nft.py

test: .venv/installed lint
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: .venv/installed
	$(BIN)/python -m build --wheel

# The wheel alone, in an empty environment, away from the checkout.
check-wheel: wheel
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd / && $(CURDIR)/build/empty/bin/python -c \
		'from cellenv import load_embedded; from rewards import cellflux_rewards; load_embedded(); print(cellflux_rewards())'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
