# Every target sets up what it needs in a virtual environment of its own: a machine with Python 3.10-3.13 and g++ will do.
#
#   make demo       trains, evaluates and exports a small DCNv2 detector on synthetic images (10 minutes on 2 cores)
#   make test       the test suite
#   make test-all   the test suite with the tests that take minutes
#   make test-matrix  the tests of ops and layers with every TensorFlow that is supported (gigabytes of downloads)
#   make test-aarch64  the C++ tests as a 64-bit ARM executes them, under QEMU (2 minutes)
#   make test-bazel    the C++ tests and a wheel as Bazel builds them, and the ops' values with that wheel (3 minutes)
#   make sanitize   the C++ tests with the address, undefined behaviour and thread sanitizers (minutes)
#   make mutate     plants faults in the package and lists those that no test notices (a minute or more for each)
#   make bench      measures the ops on this machine and judges them (10 minutes on 2 cores); results in runs/benchmark
#   make docs       the documentation site in build/site, without network; open build/site/index.html
#   make lint       ruff, mypy and clang-format
#   make install    only the virtual environment with the package in it
#
# Variables: PYTHON (the interpreter to start from), VENV (where the environment goes), OUTPUT (of the demo), JOBS (how
# many processes run tests), BENCH and MUTATE (arguments, such as BENCH='--sections conv --threads 1' and
# MUTATE='--count 200 --seed 1').

PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= runs/demo
JOBS ?= 2

BIN := $(VENV)/bin
# Processes that have run out of tests take some of the others'.
PARALLEL := --numprocesses $(JOBS) --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Kept equal to build-system.requires in pyproject.toml by tests/test_package.py. Installed first, with TensorFlow, so
# that building the ops uses the environment's own instead of downloading another into an isolated build environment.
BUILD_REQUIREMENTS := 'setuptools>=77' wheel
# The release that Model Garden needs, kept equal to its own by tests/test_package.py.
TENSORFLOW := 'tensorflow>=2.20,<2.21'
# All that ops and layers work with; kept equal to tools/tensorflow_release.py by tests/test_package.py.
TENSORFLOW_RELEASES := 2.16 2.17 2.18 2.19 2.20 2.21
# The one that comes with Python 3.10 tries releases of Model Garden's dependencies for an hour.
PIP_RELEASE := pip>=23.1
# Dependencies of Model Garden that are published as source only. They are built before the package, in environments with
# what their own builds need, because the package's install gives no isolated ones; pip has to be told where there is wheel.
SOURCE_ONLY_REQUIREMENTS := seqeval
OP_SOURCES := setup.py $(addprefix tools/,toolchain.py tensorflow_flags.py tensorflow_release.py cuda_toolkit.py native_choice.py) \
  $(shell find cc/kernels cc/lib cc/ops -name '*.cc' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)

.PHONY: install demo test test-all test-matrix test-aarch64 test-bazel test-headers sanitize mutate bench docs lint format clean
.DELETE_ON_ERROR:

install: $(VENV)/.installed

demo: install
	$(BIN)/tf-dcnv2 demo --output $(OUTPUT)

test: install test-headers
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m pytest $(PARALLEL)

test-all: install test-headers
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m pytest $(PARALLEL) -m ''

test-matrix: $(TENSORFLOW_RELEASES:%=test-tensorflow-%)

# In a copy of the source, where the op library of this TensorFlow replaces no other, and with no CUDA kernels.
test-tensorflow-%:
	@echo "Ops and layers with TensorFlow $*, in build/tensorflow-$*"
	@mkdir -p build/tensorflow-$*
	@cp -rpu bazel cc tests tf_dcnv2 tf_dcnv2_cli tools setup.py pyproject.toml README.md LICENSE Makefile build/tensorflow-$*/
	@rm -f build/tensorflow-$*/tf_dcnv2/ops/*.so
	@cd build/tensorflow-$* && $(PYTHON) -m venv .venv && \
	  .venv/bin/python -m pip install --quiet --disable-pip-version-check $(BUILD_REQUIREMENTS) 'tensorflow==$*.*' \
	    'pytest>=8' 'hypothesis>=6' && \
	  DCNV2_CUDA=0 .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e . && \
	  TF_CPP_MIN_LOG_LEVEL=2 .venv/bin/python -m pytest tests/ops tests/layers

test-aarch64: install test-headers
	$(BIN)/python tools/aarch64.py

# The wheel is put in front of the checkout, whose own package stays as it is. JOBS processes compile.
test-bazel: export PYTHON_BIN_PATH := $(abspath $(BIN))/python
test-bazel: export DCNV2_CUDA := 0
test-bazel: install
	rm -rf build/bazel-wheel build/bazel-package
	bazel test --jobs=$(JOBS) //...
	bazel run --jobs=$(JOBS) //:pip_package -- build/bazel-wheel
	$(PIP) install --quiet --no-deps --target build/bazel-package build/bazel-wheel/*.whl
	PYTHONPATH=build/bazel-package TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/pytest --quiet -o pythonpath=tools \
	  tests/ops/test_deform_conv2d_values.py tests/ops/test_deform_roi_pool_values.py

# Where it fails, the C++ tests are skipped with what to do, and fail in continuous integration.
test-headers: install
	@-$(BIN)/python tools/doctest_headers.py

sanitize: install test-headers
	$(BIN)/python tools/sanitize.py

mutate: install
	$(BIN)/python tools/mutate.py $(MUTATE)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.cpu $(BENCH)

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files '*.cc' '*.h' '*.cu' '*.cuh' | xargs --no-run-if-empty $(BIN)/clang-format --dry-run --Werror

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.cc' '*.h' '*.cu' '*.cuh' | xargs --no-run-if-empty $(BIN)/clang-format -i

clean:
	rm -rf $(VENV) build dist *.egg-info tf_dcnv2/ops/*.so

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 10) <= v < (3, 14))' || \
	  { echo "tf-dcnv2 needs Python 3.10 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Choose another: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null || \
	  { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; } || \
	  { rm -rf $(VENV); echo "No virtual environment: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.requirements: $(VENV)/.created
	@echo "Installing TensorFlow into $(VENV), once; this takes a few minutes"
	@$(PIP) install --quiet '$(PIP_RELEASE)'
	@$(PIP) install --quiet --use-pep517 $(BUILD_REQUIREMENTS) $(TENSORFLOW) $(SOURCE_ONLY_REQUIREMENTS)
	@touch $@

$(VENV)/.installed: $(VENV)/.requirements pyproject.toml $(OP_SOURCES)
	@echo "Compiling the ops and installing tf-dcnv2 with its requirements into $(VENV)"
	@$(PIP) install --quiet --no-build-isolation -e '.[detection,test,dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	@echo "Installing what the benchmark compares with into $(VENV)"
	@$(PIP) install --quiet --no-build-isolation -e '.[detection,bench]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	@echo "Installing what the documentation site is built with into $(VENV)"
	@$(PIP) install --quiet --no-build-isolation -e '.[docs]'
	@touch $@
