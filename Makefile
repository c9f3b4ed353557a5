# Trimtab: `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
FEED_REPLAY ?=
SEED ?= 1
BATCHES ?= 200
FAULTS ?= 320
MINUTES ?= inf
CASES ?= 100000
COMPOSE ?= docker compose --profile demo
SECONDS ?= 120
WITHOUT ?=
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo run test coverage lint format rights bench faults fuzz fuzz-guided containers audit lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: .venv/embedded ## Play a short history through the whole system (FEED_REPLAY=FOLDER: recorded answers)
	@$(BIN)/trimtab demo $(if $(FEED_REPLAY),--replay '$(FEED_REPLAY)')

run: .venv/embedded ## Run the whole system by the clock, until Ctrl-C
	@$(BIN)/trimtab up

test: .venv/dev .venv/prometheus ## Run all tests, with their servers
	@$(PYTEST)

coverage: .venv/dev .venv/prometheus ## Run all tests, and say which lines none of them runs
	@$(PYTEST) --cov --cov-report=term --cov-fail-under=90

lint: .venv/dev .venv/prometheus ## Check style, types, who imports whom, and the alert rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/shellcheck deploy/*.sh deploy/*/*.sh
	@deploy/prometheus/check.sh .venv/prometheus

format: .venv/dev ## Rewrite the code in the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

rights: .venv/dev ## Write each service's rights (shared/rights.py) into the files that containers mount
	@PYTHONPATH=. $(BIN)/python deploy/rights.py

bench: .venv/dev ## Measure the loop against a plain script
	@$(BIN)/python -m benchmarks.loop

faults: .venv/dev ## Play a history under faults (SEED, BATCHES, FAULTS, MINUTES; WITHOUT=REMEDY: see it break)
	@$(BIN)/python -m tests.faults --seed $(SEED) --batches $(BATCHES) --faults $(FAULTS) \
	    --minutes $(MINUTES) $(if $(WITHOUT),--without '$(WITHOUT)')

fuzz: .venv/dev ## Throw hostile input at every reader (SEED, CASES)
	@$(BIN)/python -m tests.fuzz --cases $(CASES) --seed $(SEED)

fuzz-guided: .venv/fuzz/done ## The same, led by the lines that are run (SEED, SECONDS for each reader)
	@PYTHONPATH=.venv/fuzz $(BIN)/python -m tests.fuzz.coverage_guided --seconds $(SECONDS) --seed $(SEED)

containers: .venv/dev ## Rehearse the compose file: kills, upgrade, restore, … (COMPOSE)
	@$(BIN)/python -m tests.containers --compose '$(COMPOSE)'

audit: .venv/audit/done .venv/embedded ## Look for known vulnerabilities, and write a bill of materials (bom.json, CycloneDX)
	@.venv/audit/bin/cyclonedx-py requirements requirements/embedded.lock --pyproject pyproject.toml \
	    --output-reproducible --validate --output-file bom.json
	@$(BIN)/python deploy/servers.py bom.json
	@echo "bom.json lists what Trimtab runs on"
	@rm -f .venv/audit/found
	@.venv/audit/bin/pip-audit --strict --require-hashes --disable-pip --output .venv/audit/found \
	    -r requirements/embedded.lock -r requirements/dev.lock -r requirements/fuzz.lock || { \
	    cat .venv/audit/found 2>/dev/null \
	    || echo 'Not audited: the vulnerability database gave no answer about what is named above'; \
	    exit 1; }

lock: ## Pin every dependency again, with hashes (needs uv)
	@$(call pin,dev,pyproject.toml --extra dev --upgrade)
	@$(call pin,embedded,pyproject.toml --extra embedded $(AS_TESTED))
	@$(foreach service,ingest drift trainer publisher notifier flower exporter, \
	    $(call pin,$(service),pyproject.toml --extra $(service) $(AS_TESTED));)
	@$(call pin,beat,pyproject.toml $(AS_TESTED))
	@$(call pin,cli,pyproject.toml --extra ingest --extra drift --extra trainer --extra cli $(AS_TESTED))
	@$(call pin,build,requirements/build.in $(AS_TESTED))
	@$(call pin,audit,requirements/audit.in --upgrade)
	@$(call pin,fuzz,requirements/fuzz.in --upgrade)

clean: ## Remove the environment and the state of demos and runs
	@rm -rf .venv .trimtab

.venv/embedded: requirements/embedded.lock pyproject.toml
	@$(call install,embedded)

.venv/dev: requirements/dev.lock pyproject.toml
	@$(call install,dev)
	@touch .venv/embedded

.venv/prometheus: # what cannot be had is said by its users
	@command -v prometheus >/dev/null || deploy/prometheus/fetch.sh $@ || true

.venv/fuzz/done: requirements/fuzz.lock .venv/dev
	@rm -rf .venv/fuzz
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	    --target .venv/fuzz -r $<
	@touch $@

.venv/audit/done: requirements/audit.lock
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

AS_TESTED := --constraint requirements/dev.lock

define pin
uv pip compile --universal --python-version 3.11 --generate-hashes --no-strip-extras \
    --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements/$(1).lock $(2)
endef

define install
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trimtab needs Python 3.11 or newer; set PYTHON=")' && \
echo "Installing the pinned dependencies ($(1)) into .venv; this takes about a minute" && \
$(PYTHON) -m venv .venv && \
$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$(1).lock && \
$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . && \
touch .venv/$(1)
endef
