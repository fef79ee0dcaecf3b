# make demo | test | test-full | test-reliability | fuzz | interop-tools | lint | sanitize | rig | docs | clean
#
# The targets use the active virtual environment, or make one in .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON3 ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),$(CURDIR)/.venv)
PYTHON := $(VENV)/bin/python
# Folder with a ready mmcv wheel; without it the tests of the mmdet3d bridge skip.
WHEELS ?= ../shared/wheels
# Processes that run tests at once.
TEST_PROCESSES ?= 2
# Folder of a COLMAP scene for `make demo`; empty takes the one that travels with the repository.
SCENE ?=

PIP := $(PYTHON) -m pip --disable-pip-version-check -qq
CORE := $(VENV)/.mmcity-core
TESTING := $(VENV)/.mmcity-testing
# The versions are pinned for the Python that they were tried with; others resolve freely.
CONSTRAINTS = $(shell $(PYTHON) -c 'import sys; print("-c requirements/constraints-cpu-py311.txt" if sys.version_info[:2] == (3, 11) else "")' 2>/dev/null)

.PHONY: help install demo test test-only test-full test-reliability fuzz interop-tools lint check-cuda sanitize sanitize-short rig rig-quick rig-mutate docs clean

help:
	@sed -n '1,3p' Makefile

$(PYTHON):
	@echo "== virtual environment in $(VENV)"
	$(PYTHON3) -m venv $(VENV)

$(CORE): requirements/runtime.txt requirements/constraints-cpu-py311.txt setup.py setup.cfg | $(PYTHON)
	@echo "== core requirements"
	$(PIP) install -U pip
	$(PIP) install $(CONSTRAINTS) -r requirements/runtime.txt wheel
	$(PIP) install -e . --no-build-isolation --no-deps
	@touch $@

$(TESTING): $(wildcard requirements/*.txt) $(CORE)
	@echo "== test requirements"
	$(PIP) install $(CONSTRAINTS) -r requirements/tests.txt -r requirements/lint.txt -r requirements/mim.txt \
	    -r requirements/viewer.txt -r requirements/docs.txt -r requirements/mapping.txt
	$(PIP) install $(CONSTRAINTS) -r requirements/usd.txt \
	    || echo "usd-core cannot be installed here: the tests of USD will skip"
	$(PIP) install --no-deps -r requirements/mim-nodeps.txt -r requirements/localization.txt
	@if ls $(WHEELS)/mmcv-2.1.0-*.whl >/dev/null 2>&1 \
	    && $(PIP) install --no-deps --only-binary mmcv --find-links $(WHEELS) mmcv==2.1.0; then \
	    echo "== mmdet3d for the tests of the bridge"; \
	    $(PIP) install --no-build-isolation $(CONSTRAINTS) -r requirements/det3d.txt; \
	    $(PIP) install --no-deps -r requirements/det3d-nodeps.txt; \
	else \
	    echo "no mmcv wheel for this Python in $(WHEELS): the tests of the mmdet3d bridge will skip (docs/faq.md says how to build one)"; \
	fi
	@touch $@

install: $(CORE)

demo: $(CORE)
	$(PYTHON) demo/run.py $(if $(SCENE),--scene "$(SCENE)")

test: lint check-cuda sanitize-short rig-quick test-only

test-only: $(TESTING)
	@echo "== native operators"
	$(PYTHON) -m mmcity_ops.build
	@echo "== tests"
	PATH="$(VENV)/bin:$$PATH" OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} \
	    $(PYTHON) -m pytest -q -n $(TEST_PROCESSES) --dist worksteal -m "not slow or ci_slow" $(PYTEST_ARGS)

# Every published config on miniature data; goes on where it was killed. `test` runs one per system.
FULL_SIZE ?= $(CURDIR)/work_dirs/full_size
test-full: $(TESTING)
	$(PYTHON) -m mmcity_ops.build
	MMCITY_FULL_SIZE=$(FULL_SIZE) OMP_NUM_THREADS=1 \
	    $(PYTHON) -m pytest -q -n $(TEST_PROCESSES) --dist worksteal tests/full_size $(PYTEST_ARGS)

# Every command that writes under all faults and kills at its writes; the short form is in `test`.
test-reliability: $(TESTING)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -s tests/reliability $(PYTEST_ARGS)

# Mutated files for every reader; the short form is in `test`.
fuzz: $(TESTING)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -s tests/reliability/test_fuzz.py $(PYTEST_ARGS)

# Programs of others that tests/interop asks; the tests skip without them.
interop-tools:
	@mkdir -p .dev/interop
	cp tests/interop/package.json tests/interop/package-lock.json .dev/interop
	npm ci --ignore-scripts --prefix .dev/interop

lint: $(TESTING)
	@echo "== ruff, import-linter, mypy, codespell"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	@mkdir -p .dev && ln -sfn ../ops .dev/mmcity_ops  # where mypy finds the operators
	$(VENV)/bin/mypy
	@if [ -x $(VENV)/bin/codespell ]; then $(VENV)/bin/codespell; else echo "codespell is not installed, skipped"; fi

check-cuda: $(CORE)
	@echo "== CUDA sources (skipped without nvcc)"
	$(PYTHON) -m mmcity_ops.build --check

# The operators' C++ under address and undefined behaviour sanitizers, unoptimized. The library is
# built in one process, which ends without cleaning up since the sanitizer came too late for it,
# and tested in another that loads the sanitizer first. `sanitize` takes every instruction set and
# every test of the operators; the short form, part of `test`, takes the baseline and a selection.
SANITIZERS := -fsanitize=address,undefined
SANITIZER_FLAGS := -O0 -g1 -fno-omit-frame-pointer $(SANITIZERS),float-cast-overflow -fno-sanitize-recover=all
SANITIZER_TESTS := tests/ops tests/parity/test_ops.py tests/parity/test_ops_raster.py tests/parity/test_ops_volumes.py
# Left out of the short form: torch's own compiler and checks, differences, other processes.
SHORT_TESTS := $(SANITIZER_TESTS) -k "not (reference or compile or opcheck or instruction_set or gradcheck or differences or threads_render or real or docs or build or host or vjp or gpu_check)"
define run_sanitized
	@if [ ! -e "$$(gcc -print-file-name=libasan.so 2>/dev/null)" ]; then \
	    echo "skipped: gcc or its libasan is not installed"; \
	else \
	    export MMCITY_CXXFLAGS="$(SANITIZER_FLAGS) $(1)" MMCITY_LDFLAGS="$(SANITIZERS)"; \
	    ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 \
	        $(PYTHON) -c "import os; from mmcity_ops import _build; print(_build.build_cpu(), flush=True); os._exit(0)"; \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
	        ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=2 \
	        $(PYTHON) -m pytest -q -p no:cacheprovider -m "not slow and not gpu" $(2) $(PYTEST_ARGS); \
	fi
endef
sanitize: $(TESTING)
	$(call run_sanitized,,$(SANITIZER_TESTS) --ignore=tests/ops/test_build.py --ignore=tests/ops/test_cuda_build.py)
sanitize-short: $(TESTING)
	@echo "== operators under sanitizers"
	$(call run_sanitized,-DMMC_BASELINE_ONLY,$(SHORT_TESTS))

# The CUDA path without a GPU (tests/rig/README.md). `rig` takes every setting of the device and every
# system, `rig-quick`, part of `test`, all kernels and one training.
RIG_ARGS ?=
rig: $(TESTING)
	TEST_PROCESSES=$(TEST_PROCESSES) $(PYTHON) tests/rig/run.py full $(RIG_ARGS)
rig-quick: $(TESTING)
	@echo "== CUDA operators and one training on the virtual device"
	TEST_PROCESSES=$(TEST_PROCESSES) $(PYTHON) tests/rig/run.py quick
# Faults planted in the kernels, each of which has to be caught. SEED draws others.
SEED ?= 0
rig-mutate: $(TESTING)
	@echo "== faults in CUDA kernels, seed $(SEED)"
	$(PYTHON) tests/rig/mutate.py --seed $(SEED)

docs: $(CORE)
	$(PIP) install -r requirements/docs.txt
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf .venv build dist *.egg-info mmcity/.mim docs/_build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
