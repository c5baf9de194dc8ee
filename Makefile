# Two commands on a fresh machine with Python, make and git: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSIDE := $(BIN)/python -m exposure_scan.lab.namespace --
# What is installed is what these files name, each file held to its hash. `make LOCK=` takes the newest versions instead.
LOCK := requirements-build.lock requirements-ci.lock
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test lint check types tests tests-a-to-h tests-i-to-z bench matrix fuzz package-check lock lowest audit licences schema \
	pcaps accept what-we-send pictures clean help

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /: /'

demo: $(VENV)/ready ## Scan the practice site and write its reports to demo/
	@$(BIN)/exposure-scan demo --out demo

test: lint types tests package-check ## All checks and all tests

$(VENV)/ready: pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(LOCK),)
	@echo "No lock: the newest versions that pyproject.toml allows, without hashes."
	@$(PIP) install --editable '.[test]'
else
	@{ $(PIP) install --require-hashes --only-binary :all: --requirement requirements-build.lock && \
	$(PIP) install --require-hashes --no-build-isolation --use-pep517 --requirement requirements-ci.lock && \
	$(PIP) install --no-deps --no-build-isolation --editable . && $(PIP) check; } || { \
	echo "The locked versions could not be installed. If a hash differs, find out why before you go on."; \
	echo "On a Python other than 3.11 to 3.13, \`make LOCK= ...\` takes the newest versions, without hashes."; exit 1; }
endif
	@touch $@

lint: $(VENV)/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/ready
	@$(BIN)/mypy

tests: $(VENV)/ready ## The tests alone, in two private networks that lead nowhere, both at once
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target tests-a-to-h tests-i-to-z

tests-a-to-h tests-i-to-z: tests-%: $(VENV)/ready
	@$(INSIDE) $(BIN)/python -m pytest $(wildcard tests/test_[$(subst -to-,-,$*)]*.py)

package-check: $(VENV)/ready ## Wheel and source archive built, looked into, and used alone in fresh environments
	@BIN=$(BIN) LOCK="$(LOCK)" sh tests/package_check.sh

bench: $(VENV)/ready ## One host and many beside nmap, masscan and svmap: a table and a chart in bench/
	@$(INSIDE) $(BIN)/python bench/bench.py
	@$(INSIDE) $(BIN)/python bench/sweep.py
	@$(BIN)/python bench/fleet.py

SECONDS ?= 60
fuzz: $(VENV)/ready ## Damage guided by coverage, SECONDS for each target; TARGETS="sites nmap" for some, KEEP=--keep keeps more
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@$(INSIDE) $(BIN)/python tests/fuzz.py --seconds $(SECONDS) $(KEEP) $(TARGETS)

matrix: $(VENV)/ready ## Every scenario with every fault of the line, what chance decides twenty times (needs /dev/net/tun)
	@$(INSIDE) $(BIN)/python tests/fault_matrix.py --repeat 20

lock: ## Write the lock files anew with the newest versions that pyproject.toml allows
	@PYTHON=$(PYTHON) sh tests/make_lock.sh

lowest: ## The tests with the oldest versions that pyproject.toml allows
	@$(PYTHON) -m venv build/lowest
	@build/lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	@build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct --editable '.[test]'
	@build/lowest/bin/python -m exposure_scan.lab.namespace -- build/lowest/bin/python -m pytest --ignore tests/test_supply_chain.py

audit: ## Ask PyPI for known weaknesses in what the lock files name; what cannot be asked is a failure
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@build/audit/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off $(LOCK:%=--requirement %)

licences: $(VENV)/ready ## Write the tables of docs/licences.md anew from the installed packages
	@PYTHONPATH=tests $(BIN)/python docs/make_licences.py

schema: $(VENV)/ready ## Write docs/scan.schema.json anew from the types
	@$(BIN)/python -c 'from exposure_scan.report import schema_json; print(schema_json(), end="")' > docs/scan.schema.json

pcaps: $(VENV)/ready ## Rebuild the captures from their recipes, and make those of the practice site anew
	@$(BIN)/python pcaps/build.py
	@$(INSIDE) $(BIN)/python pcaps/lab/recipe.py

accept: $(VENV)/ready ## Take the reports of three practice sites, as they are made now, for right
	@$(BIN)/python tests/accept.py

what-we-send: $(VENV)/ready ## Write the made parts of docs/what-we-send.md anew
	@PYTHONPATH=tests $(BIN)/python docs/make_what_we_send.py

pictures: demo ## Make the README's pictures from the demo (needs Chromium)
	@PYTHONPATH=tests $(INSIDE) $(BIN)/python docs/make_pictures.py demo

clean:
	rm -rf $(VENV) build dist demo
