# Every target sets up what it needs, from nothing, inside .venv; only test-peers installs anything on the machine.
# Variables: PYTHON=python3.12, ONCE=1 DIR=… RELAY=HOST:PORT (demo), ONLY=name (bench), ROUNDS=n (soak),
# TESTS=… (test: what to run), OPENSSH=DIR (test-openssh), UPGRADE=1 (lock).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Root never runs the project: see gateway/demo/unprivileged.py.
RUN := $(BIN)/python -m gateway.demo.unprivileged $(BIN)/python -m
PYTEST := $(RUN) pytest -p no:cacheprovider

# The cache of what was downloaded lies in .venv too: nothing is written elsewhere.
export UV_CACHE_DIR ?= $(CURDIR)/$(VENV)/cache
export UV_PYTHON_DOWNLOADS := never
# As pip does: a company's own authority is in the system's store.
export UV_SYSTEM_CERTS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SAMPLES := $(abspath $(firstword $(wildcard ../*/samples)))
ifneq ($(SAMPLES),)
export TEST_SAMPLES ?= $(SAMPLES)
endif

# Compiled at once: later users may not write here (root's tests and demo run as nobody), and imports would take 5 s.
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode
COMPILE := @$(BIN)/python -m compileall -q gateway || true
PIP := $(BIN)/python -m pip install --quiet
# uv takes 5 s where pip takes 25 s, but reads other settings (proxy, mirror): where it fails, pip tries.
install = @echo 'installing $(lastword $(1)) into $(VENV)'; $(UV) $(1) || { echo "uv could not; once more with pip" >&2; $(PIP) $(1); }
HASHED := --no-build-isolation --require-hashes -r

.PHONY: setup demo test check test-peers test-openssh docs/clients.md docs/openssh.md scan soak bench lock clean

setup: $(VENV)/.runtime

$(VENV)/.runtime: pyproject.toml requirements-build.lock requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	@$(PIP) --no-cache-dir --no-compile --require-hashes -r requirements-build.lock
	$(call install,$(HASHED) requirements.lock)
	$(call install,--no-build-isolation --no-deps --editable .)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(call install,$(HASHED) requirements-dev.lock)
	@touch $@

demo: $(VENV)/.runtime
	$(COMPILE)
	$(BIN)/gateway demo $(if $(ONCE),--once) $(if $(DIR),--dir '$(DIR)') $(if $(RELAY),--relay '$(RELAY)')

# A peer that is not here is skipped by name: test-peers is where it must be.
test: export PEERS ?= optional
test: $(VENV)/.dev
	$(COMPILE)
	$(PYTEST) -n 2 --dist worksteal --ignore=tests/peers $(TESTS)

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test-peers: $(VENV)/.dev
	.ci/peers $(BIN)/python
	$(COMPILE)
	$(PYTEST) -n 2 --dist worksteal -m 'peer or postgresql'

# OpenSSH's own scripts: OPENSSH is a checkout of its sources.
test-openssh: export OPENSSH := $(abspath $(OPENSSH))
test-openssh: $(VENV)/.dev
	$(COMPILE)
	$(PYTEST) -n 2 --dist worksteal tests/peers/test_openssh_own.py

# Made of a run, and only of a whole one.
docs/clients.md: $(VENV)/.dev
	.ci/peers $(BIN)/python
	@mkdir -p $(@D)
	$(RUN) tests.peers.clients > $(VENV)/clients.md
	mv $(VENV)/clients.md $@

docs/openssh.md: $(VENV)/.dev
	$(BIN)/python -m tests.peers.openssh_table > $(VENV)/openssh.md
	mv $(VENV)/openssh.md $@

# sslyze needs an older cryptography than the gateway.
scan: $(VENV)/scan/.done $(VENV)/.dev
	$(RUN) tests.peers.scan $(VENV)/scan/bin/sslyze

$(VENV)/scan/.done: requirements-scan.lock
	$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --no-cache-dir --require-hashes -r requirements-scan.lock
	@touch $@

soak: export ROUNDS ?= 100
soak: $(VENV)/.dev
	$(COMPILE)
	$(PYTEST) -n 2 --dist worksteal -m soak $(TESTS)

bench: $(VENV)/.dev
	$(COMPILE)
	$(RUN) bench $(ONLY)

# Addresses of indexes are never written; every version and every hash is.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate $(if $(UPGRADE),--upgrade)
lock: $(VENV)/.dev
	$(LOCK) --group pyproject.toml:build -o requirements-build.lock
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --group pyproject.toml:scan -o requirements-scan.lock
	$(LOCK) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
