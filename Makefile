# Each target does all the set-up it needs: a virtual environment in .venv and the packages of one
# lock file of requirements/, hash by hash. It needs Python 3.11 or newer, pip, make and bash.
#
#   PYTHON=/path/to/python   make the environment with this interpreter (default: 3.13, then newest)
#   VENV=.venv-3.11          keep the environment elsewhere
#   FDS_PORT=8000 …          every FDS_* setting of the service, here or in the environment
#   args="…"                 more options for the command that the target runs

SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
PYTHON ?=
FDS_PORT ?= 8000
MONITOR_PORT ?= 8501
FDS_URL ?= http://127.0.0.1:$(FDS_PORT)
SESSION ?= fds
export VENV PYTHON
# Only where the running server is meant; the tests see none of it.
LIVE := run batches stats monitor monitor-ui start-all kill-session
$(LIVE): export FDS_PORT := $(FDS_PORT)
$(LIVE): export FDS_URL := $(FDS_URL)
$(LIVE): export SESSION := $(SESSION)

BIN := $(VENV)/bin
SOURCES := $(wildcard src tests scripts benchmarks)

# One stamp per lock file: nothing is installed again until the lock or pyproject.toml changes.
RUN := $(VENV)/.installed-run
LOAD := $(VENV)/.installed-load
MONITOR := $(VENV)/.installed-monitor
DEV := $(VENV)/.installed-dev

$(VENV)/.installed-%: requirements/%.txt pyproject.toml $(shell scripts/setup.sh '$(VENV)')
	@scripts/setup.sh '$(VENV)' $*

.PHONY: unfit  # what setup.sh says of an environment that has to be made anew
unfit:

##@ Use

.PHONY: run
run: $(RUN)  ## serve on http://127.0.0.1:8000 (args="--max-symbols 20", FDS_PORT=9000, …)
	@exec $(BIN)/fds serve $(args)

.PHONY: install
install: $(LOAD)  ## set up .venv with the service, fds load and the load generators; run nothing

.PHONY: shell
shell: $(LOAD)  ## a shell in which fds and python are those of .venv
	@echo "fds --help says what there is; exit leaves this shell."
	@source $(BIN)/activate; exec bash --rcfile <(cat ~/.bashrc 2>/dev/null; echo 'source "$(abspath $(BIN))/activate"')

.PHONY: batches
batches: $(LOAD)  ## load the server with batches of prices and report (args="--help")
	@$(BIN)/python scripts/test_hft_stream.py $(args)

.PHONY: stats
stats: $(LOAD)  ## load the server with requests for statistics and report (args="--help")
	@$(BIN)/python scripts/test_stats_stream.py $(args)

.PHONY: monitor
monitor: $(RUN)  ## watch the server's process, and its workers, in htop
	@command -v htop >/dev/null || { echo "make monitor needs htop: apt install htop" >&2; exit 1; }
	@pids=$$($(BIN)/python scripts/server_process.py pids) && exec htop -p "$$pids"

.PHONY: monitor-ui
monitor-ui: $(MONITOR)  ## the live page of all symbols on http://127.0.0.1:8501
	@echo "The page is http://127.0.0.1:$(MONITOR_PORT); it reads $(FDS_URL)."
	@exec $(BIN)/python -m streamlit run src/financial_data_service/monitor/page.py \
	  --server.port=$(MONITOR_PORT) $(args)

.PHONY: start-all
start-all: $(LOAD)  ## tmux session of four panes: server, stats, batches, htop
	@scripts/start_all.sh

.PHONY: kill-session
kill-session:  ## end the tmux session, the server gracefully
	@scripts/kill_session.sh

##@ Develop

.PHONY: test
test: $(DEV)  ## all tests but the long ones, a file at a time on each of two cores
	@$(BIN)/python -m pytest -m "not deep and not bench" -n 2 --dist loadfile $(args)

.PHONY: test-deep
test-deep: $(DEV)  ## the long tests, on two cores
	@$(BIN)/python -m pytest -m deep -n 2 $(args)

.PHONY: test-cov
test-cov: $(DEV)  ## tests with the lines that none of them reached
	@$(BIN)/python -m pytest -m "not deep and not bench" --cov --cov-report=term-missing $(args)

.PHONY: test-file
test-file: .need-file $(DEV)  ## one file of tests (file=test_running_stats.py)
	@path=$$(scripts/find_test.sh '$(file)') && $(BIN)/python -m pytest -m "not deep" "$$path" $(args)

.PHONY: test-method
test-method: .need-method $(DEV)  ## one test (file=test_running_stats.py method=test_running_stats_initialization)
	@path=$$(scripts/find_test.sh '$(file)') && $(BIN)/python -m pytest "$$path::$(method)" $(args)

.PHONY: .need-file .need-method
.need-file:
	@$(if $(file),,echo "Which file? e.g. make test-file file=test_running_stats.py" >&2; exit 2)
.need-method:
	@$(if $(and $(file),$(method)),,echo "Which test? e.g. make test-method" \
	  "file=test_running_stats.py method=test_running_stats_initialization" >&2; exit 2)

.PHONY: lint
lint: $(DEV)  ## ruff check, ruff format --check, mypy --strict
	@failed=0; for tool in "ruff check" "ruff format --check" mypy; do \
	  $(BIN)/python -m $$tool $(SOURCES) || failed=1; done; exit $$failed

.PHONY: format
format: $(DEV)  ## let ruff mend and format the code
	@$(BIN)/python -m ruff check --fix $(SOURCES)
	@$(BIN)/python -m ruff format $(SOURCES)

.PHONY: bench
bench: $(DEV)  ## all benchmarks (args="--quick", args="--update docs/explanation/performance.md")
	@$(BIN)/python benchmarks $(args)

.PHONY: bench-http
bench-http: $(DEV)  ## the service over HTTP, beside nginx under wrk (args="--smoke")
	@$(BIN)/python benchmarks/http_service.py $(args)

.PHONY: bench-smoke
bench-smoke: $(DEV)  ## each benchmark once with tiny sizes, to see that it still runs
	@$(BIN)/python -m pytest -m bench -n 2 $(args) tests/project

# Material announces its end of life at every build; docs/explanation/decisions.md has the plan.
.PHONY: docs
docs: $(DEV)  ## write the generated pages, and build docs/ into site/; fails on a dead link
	@$(BIN)/python scripts/write_reference.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(args)

.PHONY: screenshots
screenshots: $(DEV)  ## make the images of the README anew (args="--seconds 30")
	@$(BIN)/python scripts/screenshots.py $(args)

# Locks hold for Python 3.11 and later on every platform. The dev lock is solved first and holds
# everything; the others take its versions, so that environments can grow into one another.
UV_LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
  --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url pyproject.toml --group build
DEV_LOCK := requirements/dev.txt

.PHONY: lock
lock: $(DEV)  ## solve pyproject.toml into requirements/*.txt (args=--upgrade for newer versions)
	@$(UV_LOCK) --all-extras --group dev --output-file $(DEV_LOCK) $(args)
	@$(UV_LOCK) --constraint $(DEV_LOCK) --output-file requirements/run.txt
	@$(UV_LOCK) --constraint $(DEV_LOCK) --extra load --extra arrow --extra files --output-file requirements/load.txt
	@$(UV_LOCK) --constraint $(DEV_LOCK) --extra monitor --output-file requirements/monitor.txt
	@git --no-pager diff --stat -- requirements 2>/dev/null || true

.PHONY: release
release: $(DEV)  ## build, check and tag the version that the code names (args=--dry-run tags nothing)
	@$(BIN)/python scripts/release.py $(args)

.PHONY: clean
clean:  ## remove what was built: environments, caches, reports; never data
	@for venv in '$(VENV)' .venv .venv-*; do if [ -f "$$venv/.made-by-make" ]; then rm -rf "$$venv"; fi; done
	@rm -rf .run .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov dist build site
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## this list
	@echo 'financial-data-service: make TARGET [args="…"]'
	@if [ -t 1 ]; then on=$$'\033[36m' off=$$'\033[0m'; fi; awk -v on="$$on" -v off="$$off" \
	  'BEGIN { FS = ":.*## *" } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*##/ { printf "  %s%-13s%s %s\n", on, $$1, off, $$2 }' $(firstword $(MAKEFILE_LIST))
