# Every target does its own set-up. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv/bin
PIP_FLAGS := --quiet --no-cache-dir --disable-pip-version-check --require-hashes

.PHONY: help demo test long revocations rotations stress fuzz clients corpus mutate bench man catalog lint lock clean setup

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/ready .cloud-venv/ready ## the main job, start to finish, on a local AWS; KEEP=1 leaves it running
	@$(VENV)/python -m deploy.demo $(if $(KEEP),--keep)

test: .venv/ready .cloud-venv/ready .clients-venv/ready tests/clients/js/ready ## the whole test suite; ARGS="-k name" picks from it
	@command -v openssl >/dev/null || { printf 'error: openssl is missing: it judges our certificates\nhint: apt-get install openssl\n' >&2; exit 1; }
	@$(VENV)/python -m pytest $(ARGS)

long: .venv/ready .cloud-venv/ready ## the long form of tests that repeat: ROUNDS=200 races and revocations, KILLS=400, and the audit log's
	@ROUNDS=$(or $(ROUNDS),200) KILLS=$(or $(KILLS),400) $(VENV)/python -m pytest --timeout=3600 -s -k "A14 or A17 or B05" \
	    tests/end_to_end/test_tickets.py tests/end_to_end/test_kill.py tests/end_to_end/test_revocation.py
	@KILLS=$(or $(KILLS),250) ARCHIVE_KILLS=$(or $(KILLS),100) FLOOD=$(or $(FLOOD),60) \
	    $(VENV)/python -m pytest --timeout=14400 -s -k "I03 or I08 or killed" tests/end_to_end/test_unrecorded.py \
	    tests/end_to_end/test_flood.py tests/end_to_end/test_archive_killed.py

revocations: .venv/ready .cloud-venv/ready ## how soon a revocation is in force, path by path: p50, p99, longest of ROUNDS=1000; 20 minutes
	@ROUNDS=$(or $(ROUNDS),1000) REVOCATION_KILLS=$(or $(KILLS),40) $(VENV)/python -m pytest --timeout=14400 -s \
	    tests/end_to_end/test_cut_off.py

rotations: .venv/ready .cloud-venv/ready ## rotations of upstream keys through random crashes, KILLS=100 of them, and kill -9 of a gateway
	@ROTATION_KILLS=$(or $(KILLS),100) $(VENV)/python -m pytest --timeout=14400 -s -k "random_crashes or kill_9" \
	    tests/gateway/flows/test_keys.py tests/end_to_end/test_upstream_keys.py

stress: .venv/ready .cloud-venv/ready ## a million requests of instances that are not polite, each answer checked; REQUESTS=1000000
	@REQUESTS=$(or $(REQUESTS),1000000) $(VENV)/python -m pytest --timeout=21600 -s -k D02 tests/end_to_end/test_mixing.py

fuzz: .venv/ready .cloud-venv/ready ## both listeners against their OpenAPI documents, EXAMPLES=200 of each operation; an hour
	@OPENAPI_EXAMPLES=$(or $(EXAMPLES),200) $(VENV)/python -m pytest --timeout=14400 -k schemathesis \
	    tests/end_to_end/test_openapi.py tests/end_to_end/test_admin_openapi.py

clients: .venv/ready .cloud-venv/ready .clients-venv/ready tests/clients/js/ready ## real clients across an expiry: 20 minutes; writes docs/clients.md
	@$(VENV)/python -m tests.clients

bench: .venv/ready .cloud-venv/ready ## how fast it is: agent, vending, policy, calls signed and carried; printed, never asserted
	@$(VENV)/python -m bench.agent
	@$(VENV)/python -m bench.vend
	@$(VENV)/python -m bench.policy
	@$(VENV)/python -m bench.proxy
	@$(VENV)/python -m bench.sign

corpus: .venv/ready ## a real request of every operation of every AWS service: routed, and signed again as botocore does; 3 minutes
	@$(VENV)/python -m tests.corpus

mutate: .venv/ready ## do the policy engine's tests notice? each mutant is a small change of its code; ARGS="matching --every 3"
	@$(VENV)/python -m tests.mutation $(ARGS)

man: .venv/ready ## manual pages of every command, into man/; MANPATH=$$PWD/man: man trusted-gateway
	@$(VENV)/python -m gateway.cli.man man/man1

catalog: .catalog-venv/ready ## which IAM actions operations take: written anew from what is pinned in requirements/catalog.in
	@PYTHONPATH=. .catalog-venv/bin/python -m deploy.make_catalog

lint: .venv/ready ## ruff and mypy
	@$(VENV)/ruff check . && $(VENV)/ruff format --check . && $(VENV)/mypy

setup: .venv/ready .cloud-venv/ready .clients-venv/ready tests/clients/js/ready ## make the environments, and nothing else

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-find-links --no-header --no-annotate

lock: ## write the lock files anew from pyproject.toml, requirements/*.in and package.json (needs uv and npm)
	$(LOCK) --extra test pyproject.toml -o requirements/dev.txt
	$(LOCK) --extra server -c requirements/dev.txt pyproject.toml -o requirements/server.txt
	$(LOCK) -c requirements/dev.txt pyproject.toml -o requirements/agent.txt
	$(LOCK) --extra calls -c requirements/dev.txt pyproject.toml -o requirements/agent-calls.txt
	$(LOCK) requirements/cloud.in -o requirements/cloud.txt
	$(LOCK) requirements/clients.in -o requirements/clients.txt
	$(LOCK) requirements/catalog.in -o requirements/catalog.txt
	cd tests/clients/js && rm -rf package-lock.json node_modules ready && npm install --package-lock-only

clean: ## remove the environments and everything that runs leave behind
	rm -rf .venv .cloud-venv .clients-venv .catalog-venv tests/clients/js/node_modules tests/clients/js/ready .demo .aws-models dist .mypy_cache .ruff_cache .hypothesis man

.venv/locked: requirements/dev.txt
	@echo "preparing .venv (once; about a minute)" >&2
	@$(PYTHON) deploy/preflight.py
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(VENV)/python -m pip install $(PIP_FLAGS) -r requirements/dev.txt
# The AWS CLI comes as a script, not as an entry point: pip gives it a first line that fails where a path has a space.
	@printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m awscli "$$@"\n' > .venv/bin/aws
	@touch $@

# The project itself goes in without build isolation: hatchling is in the lock file, so nothing unpinned is fetched.
.venv/ready: .venv/locked pyproject.toml
	@$(VENV)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The sources of gateway/catalog, and nothing of ours.
.catalog-venv/ready: requirements/catalog.txt
	@rm -rf .catalog-venv && $(PYTHON) -m venv .catalog-venv
	@.catalog-venv/bin/python -m pip install $(PIP_FLAGS) -r requirements/catalog.txt
	@touch $@

.cloud-venv/ready: requirements/cloud.txt
	@echo "preparing .cloud-venv, the local AWS (once; some seconds)" >&2
	@$(PYTHON) deploy/preflight.py
	@rm -rf .cloud-venv && $(PYTHON) -m venv .cloud-venv
	@.cloud-venv/bin/python -m pip install $(PIP_FLAGS) -r requirements/cloud.txt
	@touch $@

# Clients that the doors are held to. What is a script there is called by its interpreter: a path may have a space.
.clients-venv/ready: requirements/clients.txt
	@echo "preparing .clients-venv, real clients (once; about a minute)" >&2
	@$(PYTHON) deploy/preflight.py
	@rm -rf .clients-venv && $(PYTHON) -m venv .clients-venv
	@.clients-venv/bin/python -m pip install $(PIP_FLAGS) -r requirements/clients.txt
	@touch $@

# Without npm the tests of this client are skipped, which .ci/run does not allow.
tests/clients/js/ready: tests/clients/js/package-lock.json tests/clients/js/.npmrc
	@if command -v npm >/dev/null; then cd tests/clients/js && npm ci --silent && touch ready; \
	else echo "no npm: the tests do without the AWS SDK for JavaScript (apt-get install npm)" >&2; fi
