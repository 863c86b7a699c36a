# make nightly   set up, make a sample shop if landing/ is empty, and run a whole night
# make test      set up, and run every check and test
# make soak      the long tests: many seeds, many kills
# make bench     speed, quality and truth, measured (long), and the book of them; RECBOLE=PYTHON
#                of an environment with RecBole measures that beside ours, CICERONE=PROGRAM the night,
#                PMIXER=model.py of SASRec.pytorch an epoch; what stands beside a peer is written with it
# make gpu       steps and lists on a GPU against their floors; skipped where there is none
# make lint      the static checks alone
# make clean     remove what was set up; landing/, truth/ and lake/ stay

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help nightly test soak bench gpu lint clean

help:
	@sed -n 's/^# //p' Makefile

$(BIN)/python:
	@bash .ci/venv "$(PYTHON)" "$(VENV)"

## torch first and pinned: a range would admit a newer build with gigabytes of GPU libraries.
$(READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

nightly: $(READY)
	@test -d landing || $(BIN)/nightrank sample
	@$(BIN)/nightrank run
	@$(BIN)/nightrank query "SELECT user_id, rank, item_id, round(score, 3) AS score, model, source, reasons.kind AS because FROM serve.current ORDER BY user_id, rank LIMIT 10"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint sql

## as Python has it by itself: dozens of processes need not compile the same modules again
test: export PYTHONDONTWRITEBYTECODE :=
test: lint
	$(BIN)/pytest -m "not soak" -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

soak: $(READY)
	$(BIN)/pytest -m soak

bench: $(READY)
	$(BIN)/python -m tests.benchmarks.night
	$(BIN)/python -m tests.benchmarks.ingest
	$(BIN)/python -m tests.benchmarks.nights
	$(BIN)/python -m tests.benchmarks.backfills
	$(BIN)/python -m tests.benchmarks.store
	$(BIN)/python -m tests.benchmarks.coat
	$(BIN)/python -m tests.benchmarks.gate_power
	$(BIN)/python -m tests.benchmarks.baselines
	$(BIN)/python -m tests.benchmarks.known_truth
	$(BIN)/python -m tests.benchmarks.growth
	$(BIN)/python -m tests.benchmarks.propensities
	$(BIN)/python -m tests.benchmarks.topk
	$(BIN)/python -m tests.benchmarks.whole_night $(if $(CICERONE),--peer $(CICERONE))
	$(BIN)/python -m tests.benchmarks.sasrec_speed $(if $(PMIXER),--peer $(PMIXER))
	$(BIN)/python -m tests.benchmarks.sasrec_quality
	$(BIN)/python -m tests.benchmarks.known_causes
	$(BIN)/python -m tests.benchmarks.causalrec_quality
	$(BIN)/python -m tests.benchmarks.causalrec_speed
	$(BIN)/python -m tests.benchmarks.recbole_speed $(if $(RECBOLE),--peer $(RECBOLE))
	$(BIN)/python -m tests.benchmarks.book

gpu: $(READY)
	$(BIN)/pytest tests/tasks/train/test_gpu.py tests/tasks/train/test_topk_cuda.py
	$(BIN)/python -m tests.benchmarks.gpu
	$(BIN)/python -m tests.benchmarks.book

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
