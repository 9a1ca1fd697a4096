# The words of the project. `make help` lists them.
PYTHON ?= python3
UV_VERSION := 0.13.9
PIP_AUDIT_VERSION := 2.10.1
CYCLONEDX_VERSION := 7.5.0
VENV := .venv
BIN := $(VENV)/bin
# Copies, not links: the embedded PostgreSQL may have to be read by another user than the one who installs.
export UV_LINK_MODE := copy
# What is installed is compiled once, not at each start; and so are tests, and ourselves, while working on them.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE
# uv knows the public certificate authorities only; that of a company's proxy is in the system's store, if anywhere.
ifneq ($(wildcard /etc/ssl/cert.pem /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),)
export UV_SYSTEM_CERTS ?= 1
endif

.DEFAULT_GOAL := help
.PHONY: help install run wheel image test coverage test-quick test-slow test-pythons test-faults test-clusters test-examples test-tools test-size test-image bench bench-growth bench-trail bench-life bench-scenario screenshots lint format lock lock-bench lock-examples lock-tools audit sbom clean dump

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/installed ## make .venv from the lock file

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Mithril needs Python 3.11 or newer; set PYTHON=python3.x")'
	@echo "Installing into $(VENV) from requirements.lock ..."
# What an installation that did not reach its end has left is removed: it may lack anything, pip too.
	@test -e $@ && $(BIN)/uv --version >/dev/null 2>&1 || { test ! -e $(VENV)/pyvenv.cfg || rm -rf $(VENV); $(PYTHON) -c 'import venv; from ensurepip import version' 2>/dev/null \
	  || { echo "Python lacks venv: on Debian and Ubuntu, apt install python3-venv; elsewhere, a complete Python" >&2; exit 1; }; \
	  $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	@rm -f $@
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src/mithril
	@touch $@

run: install ## start a server with demo data on ports 4000 and 4001
	@$(BIN)/mithril serve --demo

wheel: install ## the package, and the lock files to install it with, into dist
	@mkdir -p dist && rm -f dist/*.whl dist/*.lock
	@$(BIN)/python -m hatchling build --target wheel --directory dist >/dev/null
	@$(BIN)/python release/locks.py
	@ls dist

image: wheel ## the container image localhost/mithril, by podman and mmdebstrap
	@VENV=$(VENV) release/image

test: install ## the whole suite, on the embedded PostgreSQL
	@$(BIN)/python -m pytest

coverage: install ## the quick and the slow suite, and whether they still reach as many branches of the code
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage run -m pytest -m slow $(SLOW)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-quick: install ## a part of the suite: the rules, the database, the command line; under a minute
	@$(BIN)/python -m pytest tests/rules tests/storage/test_database.py tests/storage/test_lookups.py tests/test_cli.py

test-slow: install ## the tests that take several seconds each
	@$(BIN)/python -m pytest -m slow

test-pythons: ## the whole suite on every Python from 3.11 to 3.14 that is there, each in its own .venvs/3.x
	@.ci/pythons test

test-faults: install ## what breaks under load, and long attacks: some twelve minutes; FAULTS="file ..." runs some of them
	@$(BIN)/python -m pytest -m "faults and not size" --numprocesses=1 -rP $(FAULTS)

test-size: install ## lists and migrations of large tables: some fifteen minutes
	@$(BIN)/python -m pytest -m size --numprocesses=2 -rP

test-image: install ## the container image is built and serves, where podman and mmdebstrap are installed, and the unit of systemd, as root; some four minutes
	@$(BIN)/python -m pytest -m image --numprocesses=0 -rs tests/test_image.py tests/test_systemd.py

test-clusters: install ## failovers of a real cluster, with Patroni and etcd: some fifteen minutes, as root
	@$(BIN)/python -m pytest -m clusters --numprocesses=0 -rP

test-examples: install examples/node_modules ## the programs of examples, with Node, Java and PHP; under a minute
	@$(BIN)/python -m pytest -m examples --numprocesses=0 tests/test_examples.py tests/test_move_clients.py

examples/node_modules: examples/package-lock.json
	@cd examples && npm ci --no-audit --no-fund --silent
	@touch $@

test-tools: install .tools/installed ## linters and generators of code read the descriptions, with Node, Java and Go; two minutes
	@$(BIN)/python -m pytest -m tools --numprocesses=2 --dist=load tests/test_tools.py

# What only these tests need is beside the environment, not in it.
.tools/installed: $(VENV)/installed tests/tools/requirements.lock tests/tools/package-lock.json
	@rm -rf .tools && mkdir .tools && cp tests/tools/package.json tests/tools/package-lock.json .tools
	@cd .tools && npm ci --ignore-scripts --no-audit --no-fund --silent
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target .tools/site --require-hashes -r tests/tools/requirements.lock
	@touch $@

dump: install ## write the schema of this version, with data, into tests/storage/releases
	@PYTHONPATH=tests $(BIN)/python -m support.releases

bench: benchmarks/.site/installed ## measure the speed beside others: benchmarks/RESULTS.md, some 15 minutes
	@PYTHONPATH=benchmarks/.site $(BIN)/python -m benchmarks run $(BENCH)

bench-growth: benchmarks/.site/installed ## measure the speed with up to ten million tokens, some 30 minutes
	@PYTHONPATH=benchmarks/.site $(BIN)/python -m benchmarks growth $(BENCH)

bench-trail: benchmarks/.site/installed ## ask an audit trail of a hundred million events, some 15 minutes
	@PYTHONPATH=benchmarks/.site $(BIN)/python -m benchmarks trail $(BENCH)

bench-life: benchmarks/.site/installed ## live a day, time-lapsed, and see what grows; an hour at a low load
	@PYTHONPATH=benchmarks/.site $(BIN)/python -m benchmarks life $(BENCH)

bench-scenario: benchmarks/.site/installed ## run the public performance test of the original system, by locust
	@PYTHONPATH=benchmarks/.site $(BIN)/python -m benchmarks scenario $(BENCH)

# What only the benchmark needs is beside the environment, not in it.
benchmarks/.site/installed: $(VENV)/installed benchmarks/requirements.lock
	@rm -rf benchmarks/.site
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target benchmarks/.site --require-hashes -r benchmarks/requirements.lock
	@touch $@

screenshots: install ## the pictures of docs/images, by Chromium
	@PYTHONPATH=tests $(BIN)/python docs/images/screenshots.py

lint: install ## style, types and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: install ## put the code into its one format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

lock: install ## resolve the dependencies anew into requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --upgrade --all-extras --group dev --no-header --output-file requirements.lock pyproject.toml

audit: install ## hold the lock file against the database of known weaknesses
	@.ci/audit $(PIP_AUDIT_VERSION)

sbom: wheel ## the lists of parts, as CycloneDX: of the lock file into sbom.json, of the package into dist
	@for parts in sbom.json=requirements.lock $$(echo dist/*.whl).cdx.json=dist/requirements.lock; do \
	  PYTHONWARNINGS=ignore $(BIN)/uv tool run --quiet --from cyclonedx-bom==$(CYCLONEDX_VERSION) cyclonedx-py requirements \
	  --pyproject pyproject.toml --output-reproducible --output-file $${parts%=*} $${parts#*=} && \
	  $(BIN)/python -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["components"]), "parts in", sys.argv[1])' $${parts%=*} \
	  || exit 1; done

lock-bench: install ## resolve the dependencies of the benchmark and of its peers anew
	@for folder in benchmarks benchmarks/scenario benchmarks/peers/django benchmarks/peers/fastapi_orm; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --upgrade --no-header --output-file $$folder/requirements.lock $$folder/requirements.in; done
	@cd benchmarks/peers/oidc_provider && rm -f package-lock.json && \
	  npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --silent

lock-examples: ## resolve the packages of the examples in Node anew
	@cd examples && rm -f package-lock.json && \
	  npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --silent

lock-tools: install ## resolve the linters and generators that read the descriptions anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --upgrade --no-header --output-file tests/tools/requirements.lock tests/tools/requirements.in
	@cd tests/tools && rm -f package-lock.json && \
	  npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --silent

clean: ## remove .venv and what the tools left behind
	@rm -rf benchmarks/.site benchmarks/.found benchmarks/scenario/.venv benchmarks/peers/*/.venv benchmarks/peers/*/node_modules examples/node_modules
	@rm -rf dist .tools .venv .venvs .mypy_cache .ruff_cache .hypothesis .coverage* sbom.json
