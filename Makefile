# Needs python3 >= 3.11 and make; everything else is fetched, pinned by hash, and kept.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := requirements/dev.txt pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench lock clean

help: ## Show what can be made.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

setup: $(STAMP) ## Set up the virtual environment (done by the others where needed).

$(STAMP): $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is `$(PYTHON) --version`"; exit 1; }
	@echo "setting up $(VENV) (once; about half a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
		--no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: setup ## Run the main job as a story, on a real Kafka.
	@$(BIN)/billing-stream demo

test: setup ## Run all tests, on a real Kafka and a real PostgreSQL.
	@$(BIN)/python -m pytest $(ARGS)

lint: setup ## Check format, style, types and the direction of imports.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Format the code and mend what can be mended.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure throughput, recovery and latency against the goals.
	@$(BIN)/python -m bench $(ARGS)

lock: ## Pin all dependencies anew, by hash (needs uv).
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
		--custom-compile-command "make lock" pyproject.toml -o requirements/base.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
		--custom-compile-command "make lock" --extra dev pyproject.toml -o requirements/dev.txt

clean: ## Stop the servers of `dev up`; delete the environment and the data in .data.
	@test ! -x $(BIN)/billing-stream || $(BIN)/billing-stream dev down --delete
	rm -rf $(VENV) .data
