# Everything that people and CI do here; `make help` lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE := $(or $(TRIREME_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/trireme)
UV := lab/uv.sh
RUN := $(UV) run --frozen
LAB := PYTHONPATH=lab python3 -m trireme_lab
# Tools that the lab had to bring itself come last, so that the user's own win.
export PATH := $(PATH):$(CACHE)/bin

# An environment for each engine, by the locked versions; each is made once.
TRY = UV_PROJECT_ENVIRONMENT=$(CACHE)/try-$(1) $(UV) run --frozen --quiet --no-default-groups --package trireme --extra $(1) \
	trireme run --local --filename manifests/samples/$(2).yaml

##@ Use

.PHONY: try
try: python3 ## Run the three samples on this machine, without Kubernetes
	@$(call TRY,celery,celery-add)
	@$(call TRY,dask,dask-mean)
	@if command -v java >/dev/null; then \
		[ -e $(CACHE)/try-spark ] || echo "PySpark is 456 MB: its first time takes minutes" >&2; \
		$(call TRY,spark,spark-average-age); \
	else echo "average-age: left out, because Spark needs Java 17 or newer: install it" >&2; fi

.PHONY: demo
demo: cluster-up ## Run the three samples: Dask, Celery, Spark
	@$(LAB) demo

##@ Cluster

.PHONY: cluster-up
cluster-up: python3 ## Bring up the kind cluster with the operator, or mend it
	@$(LAB) up

.PHONY: cluster-down
cluster-down: python3 ## Remove the cluster
	@$(LAB) down

.PHONY: cluster-status
cluster-status: python3 ## Say what stands of the cluster, and what is broken
	@$(LAB) status

.PHONY: cluster-policies
cluster-policies: python3 ## Let the cluster keep NetworkPolicies, where its own network does not
	@$(LAB) enforce

.PHONY: cache-clean
cache-clean: python3 ## Remove everything that was built once and kept outside the checkout
	@$(LAB) cache-clean

.PHONY: python3
python3:
	@command -v python3 >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update && apt-get install --yes --no-install-recommends python3; } \
		|| { echo "error: python3 (3.11 or newer) is missing: install it" >&2; exit 1; }

##@ Images

.PHONY: images
images: python3 ## Build the operator's and the engines' images
	@$(LAB) images

.PHONY: push
push: python3 ## Push the images to REGISTRY, for any other cluster
	@REGISTRY=$(REGISTRY) $(LAB) push

##@ Development

.PHONY: check
check: python3 ## Lint, types, generated files, unit tests; needs no cluster
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports
	$(MAKE) --no-print-directory verify
	$(RUN) pytest tests/unit --quiet --numprocesses=auto

.PHONY: test
test: check cluster-up ## Everything: check, then integration and end-to-end tests on the cluster
	$(RUN) pytest tests/integration --numprocesses=4 --maxschedchunk=1 --durations=10
	$(RUN) pytest tests/e2e -m "not alone" --numprocesses=2 --dist=loadfile --no-loadscope-reorder --durations=20
	$(RUN) pytest tests/e2e -m alone --durations=20

.PHONY: format
format: python3 ## Format the code
	$(RUN) ruff check --fix
	$(RUN) ruff format

.PHONY: generate
generate: python3 ## Write the generated files: CRDs, table of conditions, reference pages, locked requirements of the images
	$(RUN) python -m trireme_operator.crds write
	$(RUN) python -m trireme_operator.reasons write
	$(RUN) python docs/reference.py write
	$(RUN) python lab/dask_config.py write
	lab/requirements.sh write

.PHONY: verify
verify: python3 ## Tell whether the generated files are up to date
	$(RUN) python -m trireme_operator.crds check
	$(RUN) python -m trireme_operator.reasons check
	$(RUN) python docs/reference.py check
	$(RUN) python lab/dask_config.py check
	lab/requirements.sh check

.PHONY: bench
bench: cluster-up ## Measure the operator beside plain manifests and dask-kubernetes; writes bench/results
	$(RUN) python bench/reconcile.py

.PHONY: bench-autoscale
bench-autoscale: cluster-up ## Measure the autoscaler beside fixed clusters and dask-kubernetes: hours; writes bench/results
	$(RUN) --with matplotlib==3.11.2 python bench/autoscale.py

.PHONY: bench-client
bench-client: python3 ## Measure the client package: start-up, a large values file, the wheel; writes bench/results/client.md
	$(RUN) python bench/client.py

.PHONY: bench-brokers
bench-brokers: cluster-up ## Measure Celery's priorities, restarts of its brokers and workers that leave: a quarter of an hour; writes bench/results
	$(RUN) python bench/brokers.py

.PHONY: bench-memory
bench-memory: cluster-up ## Measure what spilling costs a Dask cluster: five minutes; writes bench/results/spill.md
	$(RUN) python bench/memory.py

.PHONY: bench-lab
bench-lab: python3 ## Measure the lab: cold, warm, up already, idle; writes bench/results/lab.md
	python3 bench/lab.py --cold

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
