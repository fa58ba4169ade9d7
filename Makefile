# On a fresh machine: `make train` runs the main job, `make test` the linters and the tests, `make docs` builds the site.
PYTHON ?= python3.11
EXTRAS ?= dev
TESTS ?= tests/algorithms/losses tests/algorithms/test_cli.py tests/algorithms/recipes/test_nft.py tests/cellenv/test_env.py
BIN := .venv/bin
INSTALLED := .venv/installed-$(EXTRAS)

.PHONY: train test lint docs check-docs package check-package test-lowest test-newest clean

train: $(INSTALLED)
	$(BIN)/accelerate launch examples/train_nft.py --eval.contexts 64
	$(BIN)/accelerate launch examples/train_distil.py

test: $(INSTALLED) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in docs/_build/html; tutorials are run, and a warning is an error. Needs no network.
docs: .venv/installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --jobs auto --fail-on-warning --keep-going --quiet docs docs/_build/html

# Every page of the site in a browser. Needs EXTRAS=dev,browser and a Chromium of the system; skipped without.
check-docs: $(INSTALLED) docs
	SITE=docs/_build/html $(BIN)/python -m pytest tests/docs/test_site_in_browser.py

# dist/: the sdist, and the wheel that is built from it; the version is that of the last tag.
package: $(INSTALLED)
	rm -rf build dist
	$(BIN)/python -m build

# The wheel alone, in an empty environment and an empty folder.
check-package: package
	mkdir -p build/empty
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd build/empty && PATH=$(CURDIR)/build/venv/bin:$$PATH && \
	cellfluxrl train nft --preset smoke && \
	cellfluxrl train distil --preset smoke && \
	cellfluxrl evaluate --preset smoke --model rl=runs/nft-smoke/model && \
	cellfluxrl best-of-n --preset smoke --model rl=runs/nft-smoke/model && \
	cellfluxrl generate --preset smoke --generator runs/nft-smoke/model && \
	cellfluxrl score --help && \
	printf 'def sharpness(images):\n    return images.diff(dim=-1).abs().mean((1, 2, 3))\n' > mine.py && \
	cellfluxrl train nft --preset smoke --reward sharpness=mine.py:sharpness:0.5 --output-dir runs/sharp

# Part of the tests with the oldest versions that pyproject.toml allows, and with the newest of today.
test-lowest: build/lowest.txt
test-lowest test-newest: test-%:
	rm -rf build/$*
	$(PYTHON) -m venv build/$*
	build/$*/bin/python -m pip install --quiet $(if $<,--constraint $<) --editable '.[dev]'
	OMP_NUM_THREADS=1 build/$*/bin/python -m pytest -W default $(TESTS)

build/lowest.txt: pyproject.toml
	mkdir -p build
	sed -nE 's/.*"([a-z_0-9-]+)>=([0-9.]+).*/\1==\2/p' $< | grep -vE 'setuptools|cellpose==4' > $@

.venv/installed-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 13) or print("Python 3.13 has no Cellpose 3.1: --segmenter", \
	"cellpose needs Cellpose 4, EXTRAS=$(EXTRAS),cellpose4")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info docs/_build docs/api docs/cli docs/tutorials
