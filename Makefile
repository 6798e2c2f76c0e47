# `make demo` and `make test` are all a newcomer needs; both set everything up first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test torture torture-bodies lint clean lock

setup: .venv/.done ## .venv with the ottla command, and the servers' jars in a cache
	@$(BIN)/ottla infra fetch

.venv/.done: requirements.txt requirements-uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Ottla needs Python 3.11 or newer: call make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## real Kafka and Cassandra, 200 real conversations, a table and a page of what happened
	@$(BIN)/ottla demo

test: setup lint ## every check and every test, on real servers
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

torture: setup ## a million hostile bodies, then three long fault runs (over half an hour each), verdicts in tests/torture/REPORT.md
	@echo "# What \`make torture\` found" > tests/torture/REPORT.md
	@$(BIN)/python -m tests.torture.bodies --report tests/torture/REPORT.md
	@$(BIN)/python -m tests.torture --seed 1 --seed 2 --seed 3 --events 100000 --conversations 1000 --kills 60 --report tests/torture/REPORT.md

torture-bodies: setup ## a million generated and mutated webhook bodies
	@$(BIN)/python -m tests.torture.bodies

lint: .venv/.done
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy

lock: .venv/.done ## write the lock files again
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --extra dev pyproject.toml -o requirements.txt

clean: ## stop what runs, forget all data
	@test ! -x $(BIN)/ottla || $(BIN)/ottla infra down || true
	@rm -rf .venv .ottla .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist tests/artifacts
