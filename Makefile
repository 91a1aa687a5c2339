# One command for each thing a developer or CI does. `make help` lists them; each target does its
# own set-up first and skips what is already there.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ROOT := $(CURDIR)
# uv and Node.js trust lists of their own; a registry inside a company is known to the system's only.
SYSTEM_CERTIFICATES := $(wildcard /etc/ssl/certs/ca-certificates.crt)
ifneq ($(SYSTEM_CERTIFICATES),)
export UV_SYSTEM_CERTS := 1
export NODE_EXTRA_CA_CERTS ?= $(SYSTEM_CERTIFICATES)
endif
export PATH := $(ROOT)/.make/bin:$(ROOT)/.venv/bin:$(PATH)
PYTHON_IN_VENV := .venv/bin/python

# Which law `make invariants` checks, all of them if empty; how many mutants `make mutation` draws.
LAWS ?=
MUTANTS ?= 130
SEED ?= 5

# The browser of `make e2e-web`; the same places as in dapp/playwright.config.ts.
CHROMIUM ?= $(firstword $(wildcard /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome))
ifneq ($(CHROMIUM),)
export CHROMIUM
endif

# How much the random tests try; `make test-python EFFORT=long` is for a machine with time.
EFFORT ?=
export EFFORT

# Arguments for the program behind a target, as in: make demo ARGS=--json
ARGS ?=

# The compiler is installed once for each user, so the stamp is about this user's.
COMPILER := .make/compiler$(subst /,-,$(HOME))
SOLIDITY := $(shell find contracts -name '*.sol' 2>/dev/null)
ABI := sdk/tallystick/protocol/abi
# Where there is a dApp, it is built before it is served.
DAPP := $(if $(wildcard dapp/package.json),dapp/dist/index.html)
DAPP_SOURCES := $(shell find dapp -type f -not -path '*/node_modules/*' -not -path 'dapp/dist/*' 2>/dev/null)
TYPED := $(wildcard tools/*.py benchmarks/*.py benchmarks/calls/*.py examples/*.py tests/tools/*.py)

##@ Use it

demo: compiled ## Run the whole market once on this machine: a real training job, a failover, the money
	@$(PYTHON_IN_VENV) examples/demo.py $(ARGS)

up: compiled $(DAPP) ## Start a local market with its dApp and leave it running
	@.venv/bin/tallystick dev up $(ARGS)

down: setup ## Stop the local market that `make up` started
	@.venv/bin/tallystick dev down $(ARGS)

##@ Prove it

test: test-python test-solidity test-web e2e e2e-web-where-possible faults ## Run every test: Python, contracts, dApp, end to end, in a browser, and a little of every fault
	@echo "test: everything passed"

test-python: compiled ## Run the tests of protocol, SDK, backend and provider
	@echo "== Python tests"
	@.venv/bin/pytest $(or $(ARGS),--numprocesses 2 --dist loadfile)

# Side by side, for one keeps one core busy, and half of the other is the compiler.
test-solidity: compiled
	@echo "== Contract tests, with Brownie and with Foundry: what each says comes when it ends"
	@$(MAKE) --jobs=2 --output-sync=target test-contracts test-foundry

test-contracts: compiled ## Run the contract tests with Brownie on a local chain
	@echo "== Contract tests"
	@.venv/bin/brownie test tests/contracts $(ARGS)

test-foundry: setup ## Check the laws of the protocol and fuzz the money contracts with Foundry
	@echo "== Roles, edges and fuzz tests"
	@forge test --mp 'tests/foundry/{unit,fuzz}/*' $(ARGS)
	@echo "== Laws, 20,480 acts each"
	@forge test --mp 'tests/foundry/laws/*' $(ARGS) | $(PYTHON_IN_VENV) tools/foundry_reach.py

invariants: setup ## Check each law over more than a million acts; takes hours, `LAWS=L4` checks one
	@echo "== Laws $(LAWS), 1,024,000 acts each"
	@time (FOUNDRY_PROFILE=deep forge test --mp 'tests/foundry/laws/$(if $(LAWS),$(LAWS)[A-Z]*,*)' $(ARGS) | $(PYTHON_IN_VENV) tools/foundry_reach.py)

halmos: setup .make/halmos/.installed ## Prove small properties of the money for every value
	@FOUNDRY_PROFILE=symbolic .make/halmos/bin/halmos --match-contract 'Symbolic$$' \
	  --forge-build-out build/symbolic/out --solver-timeout-assertion 120000 $(ARGS)

slither: setup .make/slither/.installed ## Look for known weaknesses; every accepted finding has its reason
	@$(PYTHON_IN_VENV) tools/slither_check.py .make/slither/bin/slither

mutation: setup ## Change the money contracts in one place at a time and see whether the tests notice
	@$(PYTHON_IN_VENV) tools/mutate.py --hand
	@$(PYTHON_IN_VENV) tools/mutate.py --sample $(MUTANTS) --seed $(SEED) $(ARGS)

# The test of the roles reads from the compiled contracts which functions there are.
coverage: setup ## Measure which lines and branches of the money contracts the Foundry tests run
	@mkdir -p build
	@{ forge build contracts/*.sol && FOUNDRY_PROFILE=coverage forge coverage --ir-minimum --mp 'tests/foundry/**' \
	  --report lcov --report-file build/coverage.info $(ARGS); } >build/coverage.log 2>&1 || { tail -20 build/coverage.log; exit 1; }
	@$(PYTHON_IN_VENV) tools/coverage_floor.py build/coverage.info

# Brownie is told of the local network first: two processes that find it missing would both add it.
e2e: compiled ## Run real chain, broker, backend and providers against each other
	@echo "== End-to-end tests"
	@$(PYTHON_IN_VENV) scripts/support.py >/dev/null
	@.venv/bin/pytest tests/e2e $(or $(ARGS),--numprocesses 2 --dist loadfile)

faults: compiled ## Break everything on purpose, a little: chain, database, programs, containers, requests
	@echo "== Faults on purpose, the short form"
	@$(PYTHON_IN_VENV) -m tests.faults $(ARGS)

faults-long: compiled .make/schemathesis/.installed ## The same at length: `make faults-long SEEDS=100 HOURS=4`
	@$(PYTHON_IN_VENV) -m tests.faults --full --seeds $(or $(SEEDS),25) $(if $(HOURS),--hours $(HOURS)) $(ARGS)

test-web: setup dapp/node_modules/.package-lock.json ## Run the dApp's unit tests
	@echo "== dApp"
	@npm run --silent --prefix dapp test -- $(ARGS)

# Its own target, so that a person who asks for the browser's tests is told of a missing browser by a failure.
e2e-web-where-possible:
	@if [ -n "$(CHROMIUM)" ]; then $(MAKE) e2e-web; else \
	  echo "== Browser tests: skipped, there is no Chromium on this machine"; \
	  echo "   on Debian: apt-get install chromium; or name one: make e2e-web CHROMIUM=/path/to/chrome"; fi

e2e-web: compiled $(DAPP) ## Use the dApp as people do: real Chromium, two wallets, a real market
	@echo "== Browser tests"
	@cd dapp && node_modules/.bin/playwright test --project=later $(ARGS)

screenshots: compiled $(DAPP) ## Picture every screen of the dApp, narrow and wide, light and dark, in build/screenshots
	@cd dapp && node_modules/.bin/playwright test --project=screenshots $(ARGS)

sizes-web: setup $(DAPP) ## Print what a visitor of the dApp downloads; fails above 250 kB on first load
	@npm run --silent --prefix dapp sizes

gas: compiled ## Measure gas; print it beside bar, floor, best of the field, and what moved since the snapshot
	@$(PYTHON_IN_VENV) benchmarks/gas.py $(ARGS)
	@$(PYTHON_IN_VENV) tools/gas_drift.py

bench-calls: compiled .make/peers/.installed ## Time a call through our gateway, beside the limit and two peers
	@$(PYTHON_IN_VENV) -m benchmarks.calls $(ARGS)

soak-calls: compiled ## Make 100,000 paid calls, and compare database, vouchers and chain
	@$(PYTHON_IN_VENV) -m benchmarks.calls.soak $(ARGS)

check: setup $(if $(DAPP),dapp/node_modules/.package-lock.json) ## Lint, check types, layers, formatting and generated files
	@echo "== Python, and beside it contracts, generated files and TypeScript: what each says comes when it ends"
	@$(MAKE) --jobs=2 --output-sync=target check-python check-others
	@echo "check: everything passed"

check-python: setup
	@echo "== ruff"
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@echo "== mypy"
	@.venv/bin/mypy
	@$(if $(TYPED),.venv/bin/mypy $(TYPED))
	@echo "== import layers"
	@.venv/bin/lint-imports --no-cache

check-others: compiled
	@echo "== Solidity"
	@node_modules/.bin/solhint --noPoster --max-warnings 0 'contracts/**/*.sol'
	@forge fmt --check contracts
	@echo "== generated files"
	@$(PYTHON_IN_VENV) scripts/export_abi.py >/dev/null
	@git diff --exit-code --stat -- $(ABI) || { echo "check: $(ABI) was out of date; it is rewritten, commit it"; exit 1; }
	@$(PYTHON_IN_VENV) tools/dapp_types.py --check
	@echo "== TypeScript"
	@node_modules/.bin/tsc --noEmit --strict --target es2022 --module esnext --moduleResolution bundler dapp/src/generated/*.ts
	@node_modules/.bin/tsc --noEmit -p embed
	@$(if $(DAPP),npm run --silent --prefix dapp check)

audit: setup .make/audit/.installed ## Ask the vulnerability services about every locked package; says so when one cannot be asked
	@$(PYTHON_IN_VENV) tools/audit.py $(ARGS)

##@ Build it

setup: .make/prerequisites .venv/.locked node_modules/.package-lock.json $(COMPILER) ## Install everything that the other targets need
	@:

contracts: compiled ## Compile the contracts

dapp: setup $(DAPP) ## Build the dApp into dapp/dist, which the backend serves
	@:

abi: compiled ## Write ABI and bytecode of the contracts into the SDK
	@$(PYTHON_IN_VENV) scripts/export_abi.py
	@$(PYTHON_IN_VENV) tools/dapp_types.py

sbom: setup .make/sbom/.installed ## Write what this release is made of (CycloneDX) into build/sbom
	@$(PYTHON_IN_VENV) tools/sbom.py $(ARGS)

lock-tools: setup ## Write the digests in tools/environments again, from what each .in file wants
	@for name in $(basename $(notdir $(wildcard tools/environments/*.in))); do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    tools/environments/$$name.in -o tools/environments/$$name.txt $(ARGS); done

openapi: setup ## Write the reference pages and tables that follow from the code
	@.venv/bin/tallystick-backend openapi -o docs/reference/openapi.json
	@$(PYTHON_IN_VENV) -m tallystick.cli.reference
	@$(PYTHON_IN_VENV) tools/doc_tables.py
	@$(PYTHON_IN_VENV) tools/dapp_types.py

dapp-types: setup ## Write what the dApp knows of contracts, errors and HTTP into dapp/src/generated
	@$(PYTHON_IN_VENV) tools/dapp_types.py

format: setup ## Rewrite Python and Solidity in the house style
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format .
	@forge fmt contracts

clean: ## Remove what was built and installed
	rm -rf .venv .uv .make node_modules dapp/node_modules dapp/dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo

.PHONY: demo up down test test-solidity test-web e2e-web e2e-web-where-possible screenshots sizes-web test-python test-contracts test-foundry invariants halmos slither mutation coverage e2e faults faults-long gas bench-calls soak-calls audit sbom lock-tools check check-python check-others setup contracts dapp abi openapi dapp-types compiled format clean help

# What stands behind the targets ------------------------------------------------------------------

compiled: setup build/contracts/.compiled

build/contracts/.compiled: brownie-config.yaml $(SOLIDITY) | setup
	@echo "compiling the contracts" >&2
	@mkdir -p build tests/contracts
	@.venv/bin/brownie compile >build/compile.log 2>&1 || { cat build/compile.log >&2; exit 1; }
	@touch $@

.make/prerequisites: tools/bootstrap
	@tools/bootstrap prerequisites
	@mkdir -p $(@D) && touch $@

.make/bin/uv: | .make/prerequisites
	@tools/bootstrap uv

.venv/.locked: pyproject.toml uv.lock | .make/bin/uv
	@tools/bootstrap python
	@touch $@

.make/node: | .make/prerequisites
	@tools/bootstrap node
	@touch $@

# Each in an environment of its own: Brownie pins what these need in other versions. Every wheel by
# its digest; `tools/environments/NAME.in` says what is wanted, `make lock-tools` writes the rest.
.make/%/.installed: tools/environments/%.txt | .make/bin/uv
	@echo "installing the locked packages of $* into .make/$*/" >&2
	@uv venv --quiet --clear --python 3.11 .make/$*
	@uv pip install --quiet --python .make/$*/bin/python --require-hashes --only-binary :all: -r $<
	@touch $@

node_modules/.package-lock.json: package.json package-lock.json | .make/node
	@tools/bootstrap packages
	@touch $@

dapp/node_modules/.package-lock.json: dapp/package.json dapp/package-lock.json | .make/node
	@echo "dapp: installing the locked Node packages into dapp/node_modules/" >&2
	@npm ci --prefix dapp --ignore-scripts --no-audit --no-fund --loglevel=error >&2
	@touch $@

# Behind the dApp: its build empties the folder.
dapp/dist/index.html: dapp/node_modules/.package-lock.json node_modules/.package-lock.json $(DAPP_SOURCES) $(wildcard embed/*)
	@echo "dapp: building into dapp/dist/" >&2
	@mkdir -p build
	@npm run --silent --prefix dapp build >build/dapp.log 2>&1 || { cat build/dapp.log >&2; exit 1; }
	@node_modules/.bin/tsc -p embed
	@touch $@

$(COMPILER): brownie-config.yaml tools/compiler.py tools/solcjs.js .venv/.locked node_modules/.package-lock.json
	@$(PYTHON_IN_VENV) tools/compiler.py >&2
	@touch $@
