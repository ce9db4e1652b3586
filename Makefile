# blocksnap's commands. `make` lists them; each one sets up what it needs first.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
CODE := blocksnapd blocksnapctl tests packaging/man packaging/schemas.py \
  packaging/deb/bundle.py systemd/system-generators/blocksnap-cow-generator
# Under make a missing lab is a failure, not a skipped test.
export BLOCKSNAP_LAB_REQUIRED := 1
# What other tests and the demo stand on is typed as strictly as the program.
TYPED_TESTS := tests/conftest.py tests/tidy.py tests/lab/machine.py tests/lab/guest/kit.py \
  packaging/man/make.py packaging/deb/bundle.py systemd/system-generators/blocksnap-cow-generator
# For the tests to choose: make test ARGS='-k extents'
ARGS ?=
# Tests that run at once, one more than there are processors: many wait for the kernel of a guest, which
# takes up to 1 GiB each.
JOBS ?= $(shell nproc | awk '{ print $$1 < 7 ? $$1 + 1 : 8 }')
AT_ONCE = -n $(JOBS) --dist load --maxschedchunk 1

.PHONY: help setup deb demo test test-long bench man completion schemas lint format clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
	  while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: ## install what is missing: Debian packages (as root), .venv with the project in it
	@packaging/dev/setup

demo: setup ## the whole story on a real kernel, in a user-mode Linux guest; HERE=1: on this host
	@$(PYTHON) -m tests.demo $(if $(HERE),--here)

test: lint ## lint, then every test, also those in the lab; ARGS='...' goes to pytest
	@packaging/dev/setup chromium
	@$(PYTHON) -m pytest -m 'not long' $(AT_ONCE) $(ARGS)

test-long: lint ## every test there is, also the long ones
	@packaging/dev/setup chromium debootstrap
	@$(PYTHON) -m pip install -q --disable-pip-version-check --root-user-action ignore -e '.[dev,fuzz]'
	@$(PYTHON) -m pytest $(AT_ONCE) $(ARGS)

bench: ## measure, beside other tools, and print ratios; ARGS=bench_store for one of them
	@packaging/dev/setup zstd borgbackup restic
	@$(PYTHON) -m tests.bench $(ARGS)

man: setup ## the manual pages, into build/man
	@$(PYTHON) packaging/man/make.py --all build/man

deb: ## the Debian package, for 12 and 13, into dist/; what lintian says of it
	@packaging/dev/setup git debhelper dpkg-dev lintian
	@packaging/deb/build
	@lintian --fail-on error,warning dist/blocksnap_*.deb

completion: setup ## the shells' completion scripts, into build/completion
	@mkdir -p build/completion
	@for shell in bash zsh fish; do \
	  .venv/bin/blocksnapctl completion $$shell > build/completion/blocksnapctl.$$shell; done

schemas: setup ## the JSON Schemas of what --json prints, into packaging/schemas
	@$(PYTHON) packaging/schemas.py

lint: setup ## ruff (rules, layout), mypy --strict
	@$(PYTHON) -m ruff check $(CODE)
	@$(PYTHON) -m ruff format --check $(CODE)
	@$(PYTHON) -m mypy
	@$(PYTHON) -m mypy $(TYPED_TESTS)

format: setup ## lay the code out, mend what ruff can mend
	@$(PYTHON) -m ruff check --fix $(CODE)
	@$(PYTHON) -m ruff format $(CODE)

clean: ## remove everything that was made here
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
