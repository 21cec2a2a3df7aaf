# Every command of the project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# What measures engines, or gives them all the memory, has the machine for itself.
ALONE := tests/runtime/proof tests/runtime/test_ tests/e2e
CHART_PROGRAMS := kubeconform kube-score helm-docs helm-unittest
# The variable silences the theme's notice of its end of life (CONTRIBUTING, Decisions), and nothing that --strict counts.
MKDOCS := NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs

.PHONY: help demo demo-quantized demo-scaling demo-down test campaign check format crds chart dashboards reference docs protocol lock cluster cluster-down cluster-status images release models benchmark clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: .venv/ready ## a whole Kubernetes, Tandem, a served pair and an answer (CLUSTER=current REGISTRY=host/repo: yours)
	@$(BIN)/python -m deploy.demo up $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(REGISTRY),--registry $(REGISTRY))

demo-quantized: .venv/ready ## models fetched, quantized, measured and served; one that its gate refuses
	@$(BIN)/python -m deploy.demo quantized

demo-scaling: .venv/ready ## load breaks a latency target, verifiers follow; then to zero and back, in a live view
	@$(BIN)/python -m deploy.demo scaling

demo-down: .venv/ready ## take away what `make demo` made (CLUSTER=current: from your cluster)
	@$(BIN)/python -m deploy.demo down $(if $(CLUSTER),--cluster $(CLUSTER))

test: .venv/ready .venv/docs/ready ## every test
	@$(BIN)/python -m deploy.local build --with prometheus --with krew $(CHART_PROGRAMS:%=--with %)
	@$(BIN)/python -m deploy.fixtures
	@[ "$$(id -u)" -ne 0 ] || $(BIN)/python -m deploy.images build
	@$(BIN)/python -m pytest -n 2 --durations=25 --durations-min=5 $(ALONE:%=--deselect %)
	@$(BIN)/python -m pytest --durations=25 --durations-min=5 tests/runtime --ignore=tests/runtime/artifacts
	@$(BIN)/python -m pytest --durations=25 --durations-min=5 tests/e2e

campaign: .venv/ready ## every fault, the operator killed around every write, all proofs of drafts, into benchmarks/results/; KEDA; Jobs killed in every step, a full volume; dashboards; a release
	@$(BIN)/python -m deploy.local build --with prometheus --with keda --with kubeconform --with kube-score --with kubectl-validate
	@$(BIN)/python -m pytest tests/chart/test_scanners.py --campaign
	@$(BIN)/python -m pytest tests/release/test_whole.py --campaign
	@$(BIN)/python -m pytest tests/faults --campaign
	@$(BIN)/python -m pytest tests/cluster/test_keda.py --campaign
	@$(BIN)/python -m deploy.fixtures
	@$(BIN)/python -m pytest tests/runtime/proof --campaign
	@[ "$$(id -u)" -ne 0 ] || $(BIN)/python -m deploy.images build
	@$(BIN)/python -m pytest tests/e2e/test_killed_jobs.py tests/e2e/test_cache_volume.py tests/e2e/test_dashboards.py tests/e2e/test_scaling.py --campaign

check: .venv/ready .venv/docs/ready ## format, lint, types, layers, generated files, chart, pages, tests that can be collected
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@$(BIN)/python -m deploy.crds --check
	@$(BIN)/python -m deploy.docs --check
	@$(BIN)/python -m deploy.protocol --check
	@$(BIN)/python -m deploy.grafana --check
	@$(BIN)/python -m deploy.locks --check
	@$(BIN)/zizmor --offline --quiet --persona auditor .github/workflows
	@$(BIN)/python -m deploy.chart_files --check
	@$(BIN)/python -m deploy.local helm4 lint --strict charts/tandem
	@$(MKDOCS) build --strict > .venv/docs.log 2>&1 || { cat .venv/docs.log; exit 1; }
	@$(BIN)/python -m pytest --collect-only -qq > .venv/collect.log || { cat .venv/collect.log; exit 1; }

format: .venv/ready ## rewrite the sources as `make check` wants them
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

crds: .venv/ready ## generate the CRDs from the models
	@$(BIN)/python -m deploy.crds

chart: .venv/ready ## generate the chart's README and the manifests for kustomize
	@$(BIN)/python -m deploy.chart_files

dashboards: .venv/ready ## generate the chart's dashboards and rules from deploy/grafana
	@$(BIN)/python -m deploy.grafana

reference: .venv/ready ## write docs/reference/ from the models, names, metrics and values
	@$(BIN)/python -m deploy.docs

docs: .venv/ready .venv/docs/ready ## build the documentation into build/site/
	@$(MKDOCS) build --strict

protocol: .venv/ready ## generate the messages of the draft protocol
	@$(BIN)/python -m deploy.protocol

lock: .venv/ready ## resolve the dependencies anew into requirements/*.txt
	@$(BIN)/python -m deploy.locks

cluster: .venv/ready ## start the local Kubernetes, with two fake GPU nodes beside the real one
	@$(BIN)/python -m deploy.local up --nodes 2

cluster-down: .venv/ready ## stop it and leave nothing behind
	@$(BIN)/python -m deploy.local down

cluster-status: .venv/ready ## what of it runs
	@$(BIN)/python -m deploy.local status

images: .venv/ready ## build the container images (REGISTRY=host/repo: and push them); the chart's values for them: build/images.yaml
	@$(BIN)/python -m deploy.images $(if $(REGISTRY),push $(REGISTRY),build) --values build/images.yaml

release: .venv/ready ## build chart package, plugin, SBOMs and images into build/release/VERSION (VERSION=1.2.3; IMAGES=: no images; HOME_PAGE=URL: for krew)
	@SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)}" \
		$(BIN)/python -m deploy.release $(VERSION) $(if $(HOME_PAGE),--home $(HOME_PAGE)) $(if $(filter-out undefined,$(origin IMAGES)),--images $(IMAGES))

models: .venv/ready ## train the small pair of models that demo and tests serve
	@$(BIN)/python -m deploy.fixtures

benchmark: .venv/ready ## the figures that docs/figures.md quotes, into benchmarks/results/
	@$(BIN)/python -m benchmarks.first_token
	@$(BIN)/python -m benchmarks.control_plane
	@$(BIN)/python -m benchmarks.install
	@$(BIN)/python -m benchmarks.drafting
	@$(BIN)/python -m benchmarks.drafting_lost
	@$(BIN)/python -m benchmarks.wake_gate
	@$(BIN)/python -m benchmarks.scaling_costs
	@$(BIN)/python -m benchmarks.scaling --workloads all --seeds 3 --json benchmarks/results/scaling.json

clean: ## remove what was made inside the checkout; the caches outside stay
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -m deploy.environment
	@touch $@

.venv/docs/ready: .venv/ready requirements/docs.txt
	@$(PYTHON) -m deploy.environment docs
	@touch $@
