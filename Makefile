# All set-up and all checks. Nothing but Python 3.11+, git and make is needed; what is installed is stamped, so
# that nothing is installed twice.
#   PYTHON=python3.12 make          another interpreter
#   TORCH_INDEX_URL=URL make        an index for torch (a CPU build where PyPI's would bring CUDA)
#   MOLLM_RECORDINGS=DIR make bench  recordings to replay (default ../shared/recordings, skipped if absent)
#   BENCH_SEEDS=40 make bench       more seeds for the mixture (some hours with 10; all are from 100 on)
#   TEST_PROCESSES=4 make test      processes that run the tests (default: one a core, at most 4; 0: all in one)
#   MOLLM_HOME=DIR make demo        where everything is kept (default ~/.mollm)
#   make demo DEMO_PANEL=small      with another panel (mollm panel list)
#   make lock                       after a change of pyproject.toml or of a file in backend/mollm_backend/locks
#   make newest                     all tests with the newest of everything, in an environment of its own

PYTHON ?= python3
TORCH ?= torch==2.13.0
MOLLM_HOME ?= $(HOME)/.mollm
MOLLM_RECORDINGS ?= ../shared/recordings
BENCH_SEEDS ?= 10
TEST_PROCESSES ?= logical --maxprocesses 4
export MOLLM_HOME

VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# A process a core, with one thread each. Files go to them in order: quick tests first, the slow real parts last. Some
# images forbid Python to keep what it compiled: then each of the many commands that tests start would compile us anew.
PYTESTS := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(PYTEST) --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
QUICK := not real_llm and not label_studio and not browser and not vllm and not llama_cpp and not faults and not docker and not slow
INSTALLED := $(VENV)/.mollm-installed
LOCKS := backend/mollm_backend/locks
# Exactly the files that are locked, nothing else, nothing built; torch follows, from an index that may be another's.
LOCKED := --no-deps --require-hashes --only-binary :all: --requirement $(LOCKS)
TORCH_FROM = $(TORCH) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))

.PHONY: install lock newest demo test check format unit bench faults test-vllm test-llama-cpp test-postgres test-docker clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

$(VENV)/.mollm-made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mollm needs Python 3.11 or newer, not %d.%d: make PYTHON=..." % sys.version_info[:2])'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.mollm-locked: $(VENV)/.mollm-made $(LOCKS)/mollm.txt
	@echo "installing what mollm needs (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet $(LOCKED)/mollm.txt
	@touch $@

$(VENV)/.mollm-torch: $(VENV)/.mollm-locked
	@echo "installing $(TORCH)"
	@$(BIN)/python -m pip install --quiet $(TORCH_FROM)
	@touch $@

$(INSTALLED): $(VENV)/.mollm-torch pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@said=$$($(BIN)/python -m pip check) || { echo "$$said"; exit 1; }
	@touch $@

# The locks: exact versions with hashes for Python 3.11 to 3.13, the same whatever is released later. mollm.txt has all
# extras but vllm, whose packages cannot lie beside ours; web.txt and worker.txt have what the images need, at the same
# versions (web.in: what the web part imports). Left out is torch with its CUDA packages: which build it is depends on
# the machine. What is locked already stays as it is where it still fits; `make lock LOCK_OPTIONS=--upgrade` takes the
# newest.
UV := .venv-lock/bin/uv
EXTRAS = $(shell $(PYTHON) -c 'import tomllib; print(*sorted(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"].keys() - {"vllm"}))')
WORKER_EXTRAS := backend torch lab postgres
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(LOCK_OPTIONS)
BESIDE_TORCH := torch(audio|codec|vision)?|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+

$(UV): Makefile
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet --no-deps uv==0.13.9
	@touch $@

lock: $(UV)
	@echo '$(TORCH)' > .venv-lock/torch.txt
	@set -e; ours="pyproject.toml $(LOCKS)/build.in --constraint .venv-lock/torch.txt"; \
	lock() { echo "locking $$1"; out=$(LOCKS)/$$1.txt; shift; \
	beside=$$($(COMPILE) --no-header --no-annotate "$$@" | sed -nE 's/^($(BESIDE_TORCH))==.*/--no-emit-package \1/p'); \
	$(COMPILE) $$beside --output-file $$out "$$@" > /dev/null; }; \
	lock mollm $$ours --no-emit-package triton $(EXTRAS:%=--extra %); \
	lock web $(LOCKS)/web.in --constraint $(LOCKS)/mollm.txt; \
	lock worker $$ours --constraint $(LOCKS)/mollm.txt --no-emit-package triton $(WORKER_EXTRAS:%=--extra %); \
	lock build $(LOCKS)/build.in --constraint $(LOCKS)/mollm.txt; \
	lock label-studio $(LOCKS)/label-studio.in --constraint $(LOCKS)/build.txt; \
	lock llama-cpp $(LOCKS)/llama-cpp.in; \
	lock vllm $(LOCKS)/vllm.in --overrides .venv-lock/torch.txt; \
	$(COMPILE) --output-file tests/docker/checkers.txt tests/docker/checkers.in > /dev/null

# A new release is met here, on purpose. `make newest TORCH=torch` takes the newest torch, too.
newest:
	@$(PYTHON) -m venv --clear .venv-newest
	@.venv-newest/bin/python -m pip install --quiet $(TORCH_FROM)
	@.venv-newest/bin/python -m pip install --quiet --editable ".[$$(echo $(EXTRAS) | tr ' ' ,)]"
	@touch .venv-newest/.mollm-made .venv-newest/.mollm-locked .venv-newest/.mollm-torch .venv-newest/.mollm-installed
	@$(MAKE) test VENV=.venv-newest

demo: $(INSTALLED)
	@exec $(BIN)/mollm up --demo $(if $(DEMO_PANEL),--panel $(DEMO_PANEL)) $(DEMO_OPTIONS)

# Label Studio and the models are installed beside the quick tests; the tests that need them come last and wait.
test: $(INSTALLED)
	@mkdir -p "$(MOLLM_HOME)"; chmod 700 "$(MOLLM_HOME)"; \
	$(BIN)/mollm prepare > "$(MOLLM_HOME)/prepare.log" 2>&1 & prepare=$$!; \
	trap 'kill $$prepare 2>/dev/null; wait $$prepare; exit 130' INT TERM HUP; \
	MOLLM_TEST_PREPARE=1 $(PYTESTS) --ignore=tests/faults -m "not vllm and not llama_cpp and not docker" $(PYTEST_OPTIONS); code=$$?; \
	kill $$prepare 2>/dev/null; wait $$prepare 2>/dev/null; exit $$code

check: $(INSTALLED)
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(PYTESTS) -q -m "$(QUICK)" $(PYTEST_OPTIONS)

format: $(INSTALLED)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

unit: $(INSTALLED)
	@$(PYTESTS) -q -m "$(QUICK)" $(PYTEST_OPTIONS)

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
	"--human-per-round 50" "--annotate mixture --classifier top"; do \
	echo "== trec: ten rounds, $$how"; \
	$(BIN)/mollm replay loop "$(MOLLM_RECORDINGS)/trec" --strategy discrepancy $$how --seeds 3 --first-seed 100 || exit 1; done

# What happens when parts are killed, flooded, lied to and attacked, on real parts (some hours; the figures come last).
#   MOLLM_FAULT_TASKS, MOLLM_FAULT_ANNOTATIONS, MOLLM_MANY_TASKS, MOLLM_ROLLBACK_TASKS, MOLLM_STORM_SECONDS,
#   MOLLM_FUZZ_BODIES               smaller sizes for a quick look
faults: $(INSTALLED)
	@MOLLM_BARS=1 MOLLM_TEST_PREPARE=1 $(PYTEST) -v -m "faults and not vllm" $(PYTEST_OPTIONS)

# vLLM's CPU build in an environment of its own (3.5 GB), then the tests that talk to it.
# torchaudio, torchcodec and torchvision, which it asks for and we do not need, are left out of its lock.
#   make test-vllm VLLM=DIR         an environment that has vLLM already is used as it is
VLLM ?= $(MOLLM_HOME)/vllm
$(VLLM)/.mollm-installed:
	@if "$(VLLM)/bin/python" -c 'import vllm' 2>/dev/null; then echo "using the vLLM in $(VLLM)"; else \
	echo "installing vLLM into $(VLLM) (3.5 GB)"; mkdir -p "$(VLLM)" && $(PYTHON) -m venv --clear "$(VLLM)" && \
	"$(VLLM)/bin/python" -m pip install --quiet $(LOCKED)/vllm.txt && \
	"$(VLLM)/bin/python" -m pip install --quiet $(TORCH_FROM) --no-warn-conflicts; fi
	@touch $@

test-vllm: $(INSTALLED) $(VLLM)/.mollm-installed
	@MOLLM_VLLM="$(VLLM)" $(PYTEST) tests/vllm -m vllm $(PYTEST_OPTIONS)

# llama.cpp's own server and a small model, installed as `mollm up` does it (160 MB), then the tests that talk to it.
test-llama-cpp: $(INSTALLED)
	@$(BIN)/mollm prepare --models-only --panel tests/llama_cpp/panel.toml
	@MOLLM_LLAMA_CPP="$(MOLLM_HOME)" $(PYTEST) tests/llama_cpp -m llama_cpp $(PYTEST_OPTIONS)

# What runs on PostgreSQL, too, where it is installed (Debian's package; the tests start it), is in all test runs. Here
# it is on a server of yours: each test makes a database of its own there and drops it.
#   make test-postgres [POSTGRES=postgresql+psycopg://user:password@host/postgres]
test-postgres: $(INSTALLED)
	@MOLLM_TEST_POSTGRES="$(POSTGRES)" $(PYTEST) tests -k postgresql -m "$(QUICK)" $(PYTEST_OPTIONS)

# The images by docker, podman or buildah, whichever is there; see docker/images.sh for what can be set.
#   make images [IMAGES="web worker worker-cuda"] [TORCH_INDEX_URL=URL] [BASE=IMAGE] [TAG=TAG] [BUILD_OPTIONS=...]
# Where no image registry can be reached, docker/debian-base.sh makes the base first.
IMAGES ?= web worker
.PHONY: images
images:
	@docker/images.sh $(IMAGES)

# The images are built (by buildah, as root: no engine need run) and started from their roots on a real Redis,
# PostgreSQL and Label Studio; the compose file and the Kubernetes manifest are read by their own parsers.
test-docker: export ENGINE = buildah
test-docker: $(INSTALLED) images
	@$(PYTEST) tests/docker -m "docker or not docker" $(PYTEST_OPTIONS)

clean:
	rm -rf .venv .venv-lock .venv-newest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
