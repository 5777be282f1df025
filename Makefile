# SPDX-License-Identifier: MIT
# Every target makes what it needs; what is there already is not made again and needs no network.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Set PYTHON=... to choose one; otherwise the first of these that is new enough.
PYTHONS := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11
RUN_OPTIONS ?=
TEST_OPTIONS ?=

CORE := $(wildcard qemu_plugin/native/src/*.[ch] qemu_plugin/native/*.cdef qemu_plugin/attribution/plugin/*.[ch]) \
	qemu_plugin/native/build_core.py
C_FLAGS := -std=gnu11 -O2 -Wall -Wextra -Werror
CORE_C := $(wildcard qemu_plugin/native/src/*.c)
PLUGIN_C := $(wildcard qemu_plugin/attribution/plugin/*.c)
AGENT_C := $(wildcard guest_images/agent/*.c)

.PHONY: help setup install run test test-wheel check bench clean distclean

help: ## print this
	@echo "luscope, an oscilloscope for Linux PCI live update"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: install ## install everything and make QEMU and the guest's kernels ready (about six minutes, once)
	@$(BIN)/luscope setup

run: setup ## run the shipped experiment (RUN_OPTIONS="...")
	@$(BIN)/luscope run $(RUN_OPTIONS)

test: setup ## run all tests, with real guests (TEST_OPTIONS="-k ...")
	@$(BIN)/python -m pytest $(TEST_OPTIONS)

# Against what a user installs: nothing of the checkout but the tests is within reach.
test-wheel: setup ## build the wheel, install it into an environment of its own, run the tests against it
	@rm -rf build/wheel
	mkdir -p build/wheel/tree
	echo "building the wheel ..."
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . > build/wheel/build.log 2>&1 || { tail -20 build/wheel/build.log; exit 1; }
	$(BIN)/python -m venv build/wheel/venv
	for wheel in build/wheel/*.whl; do build/wheel/venv/bin/python -m pip install --quiet "$$wheel[test]"; done
	cp -r tests README.md pyproject.toml build/wheel/tree
	cd build/wheel/tree
	../venv/bin/pytest $(TEST_OPTIONS)

check: install ## look for mistakes without running anything: style, types, layers, C warnings
	@echo "ruff, mypy, import-linter, C warnings ..."
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases tests
	$(BIN)/lint-imports
	for source in $(CORE_C); do gcc $(C_FLAGS) -D_GNU_SOURCE -c -o /dev/null "$$source"; done
	for source in $(PLUGIN_C); do gcc $(C_FLAGS) -D_GNU_SOURCE -Iqemu_plugin/native/src -c -o /dev/null "$$source"; done
	for source in $(AGENT_C); do gcc $(C_FLAGS) -c -o /dev/null "$$source"; done

bench: setup ## print figures
	@$(BIN)/python -m bench

clean: ## remove build products and the virtual environment, not what was fetched or built for guests
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf qemu_plugin/native/_core.c qemu_plugin/native/*.so qemu_plugin/attribution/*.so
	find guest_images pydev qemu_plugin tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	find qemu_plugin -name '*.o' -delete

distclean: clean ## also remove the cache: QEMU, kernels, sources
	@cache="$${LUSCOPE_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/luscope}"
	for kind in apt busybox initramfs kernel locks logs objects plugin qemu symbols tree; do rm -rf "$$cache/$$kind"; done
	rmdir --ignore-fail-on-non-empty "$$cache" 2>/dev/null || true

# ---- the virtual environment: one stamp for each step, older than what it was made from when it must be made again ----

install: $(VENV)/installed $(VENV)/core

$(VENV)/made:
	@chosen=""
	for python in $(PYTHONS); do
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then chosen="$$python"; break; fi
	done
	if [ -z "$$chosen" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 python3-venv python3-dev
	  if python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then chosen=python3; fi
	fi
	if [ -z "$$chosen" ]; then
	  echo "luscope: Python 3.11 or newer is needed: install python3, python3-venv and python3-dev, or set PYTHON" >&2
	  exit 1
	fi
	"$$chosen" -m guest_images.prerequisites
	echo "making $(VENV) with $$("$$chosen" --version) ..."
	rm -rf $(VENV)
	"$$chosen" -m venv $(VENV)
	touch $@

# What pyproject.toml asks for building goes into the environment too, so that the C parts can be compiled again offline.
$(VENV)/installed: $(VENV)/made pyproject.toml setup.py
	@echo "installing luscope and its tools into $(VENV) ..."
	read='import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))'
	$(BIN)/python -c "$$read" > $(VENV)/build-requires.txt
	$(BIN)/python -m pip install --quiet -r $(VENV)/build-requires.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[dev]'
	touch $@ $(VENV)/core

$(VENV)/core: $(VENV)/installed $(CORE)
	@echo "compiling the C core and the plugin ..."
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .
	touch $@
