# On a fresh machine: `make train` runs the main job, `make test` the linters and the tests, `make docs` builds the site.
PYTHON ?= python3.11
EXTRAS ?= dev
BIN := .venv/bin
INSTALLED := .venv/installed-$(EXTRAS)

.PHONY: train test lint docs wheel check-wheel clean

train: $(INSTALLED)
	$(BIN)/accelerate launch examples/train_nft.py

test: $(INSTALLED) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in docs/_build/html; tutorials are run, and a warning is an error. Needs no network.
docs: .venv/installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

wheel: $(INSTALLED)
	rm -rf build dist
	$(BIN)/python -m build --wheel

# The wheel alone, in an empty environment and an empty folder.
check-wheel: wheel
	mkdir -p build/empty
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd build/empty && PATH=$(CURDIR)/build/venv/bin:$$PATH && \
	cellfluxrl train nft --preset smoke && \
	cellfluxrl evaluate --preset smoke --model rl=runs/nft-smoke/model && \
	cellfluxrl best-of-n --preset smoke --model rl=runs/nft-smoke/model && \
	cellfluxrl generate --preset smoke --generator runs/nft-smoke/model && \
	cellfluxrl score --help && \
	printf 'def sharpness(images):\n    return images.diff(dim=-1).abs().mean((1, 2, 3))\n' > mine.py && \
	cellfluxrl train nft --preset smoke --reward sharpness=mine.py:sharpness:0.5 --output-dir runs/sharp

.venv/installed-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info docs/_build docs/api docs/cli docs/tutorials
