# Everything is installed into .venv. `make` alone lists what can be made.
#
#   PYTHON           the interpreter .venv is made with                               (python3)
#   TORCH_INDEX_URL  where torch alone is taken from; empty is pip's ordinary index   (empty)
#   HOST, PORT       where `make run` serves; docs/settings.md has the defaults       (empty)
#   ARGS             more arguments for the command that is run                       (empty)

PYTHON ?= python3
TORCH_INDEX_URL ?=
HOST :=
PORT :=
ARGS :=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
PINS := pyproject.toml constraints.txt
EXTRAS := [dev,bench]

.DEFAULT_GOAL := help
.PHONY: help run test test-gpu test-ray test-image test-abuse soak fuzz test-web screenshots setup check audit format bench bench-looks bench-page bench-ray bench-gpu constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## Set up what is needed and serve on http://127.0.0.1:8000
	$(BIN)/gpu-kmeans serve $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) $(ARGS)

test: $(VENV)/.full ## Set everything up and run every test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

test-gpu: $(VENV)/.full ## Run the tests of the kernels on the GPU; `make test` interprets them
	@$(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' \
		|| { echo "torch sees no GPU here; make test runs the same tests without one"; exit 1; } >&2
	$(BIN)/python -m pytest tests/test_cuda.py tests/test_cuda_host.py tests/test_cuda_compiled.py tests/test_backends.py $(ARGS)

test-image: ## Build the container image, run it hardened, and test what it promises; needs root on Debian
	$(PYTHON) tests/image

test-web: $(VENV)/.full ## Run the tests of the page in headless Chromium
	@command -v chromium >/dev/null \
		|| { echo "chromium is missing; on Debian: apt-get install chromium"; exit 1; } >&2
	$(BIN)/python -m pytest tests/web $(ARGS)

test-ray: $(VENV)/.ray ## Run the tests of the service and of counting on a Ray cluster
	RAY_USAGE_STATS_ENABLED=0 $(BIN)/python -m pytest -W default tests/cluster $(ARGS)

screenshots: $(VENV)/.full ## Draw the pictures of the page in docs/images/
	$(BIN)/python docs/make_screenshots.py

test-abuse: $(VENV)/.full ## Attack a real server for some minutes and write docs/abuse.md
	$(BIN)/python tests/abuse

soak: $(VENV)/.full ## Send 20,000 requests; compare the memory after with that after 1,000
	$(BIN)/python tests/abuse/soak.py $(ARGS)

fuzz: $(VENV)/.full ## Look for ten minutes for bytes that break the decoder
	$(PIP) install --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python tests/abuse/fuzz_decoder.py -max_total_time=600 $(ARGS)

setup: $(VENV)/.full ## Set everything up: runtime, development and benchmark packages

check: $(VENV)/.full ## Check format, lint, types, Dockerfile, compose file and known holes of packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PIP) check
	$(BIN)/python .ci/audit.py
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

audit: $(VENV)/.full ## Ask osv.dev which pinned packages have known holes; fail if it cannot be asked
	$(BIN)/python .ci/audit.py --strict

format: $(VENV)/.full ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.full ## Measure on the CPU, into benchmarks/results/
	@set -e; for file in benchmarks/bench_*.py; do \
		name=$$(basename $$file .py); case $$name in bench_gpu|bench_looks|bench_page|bench_ray) continue;; esac; $(BIN)/python -m benchmarks.$$name $(ARGS); \
	done

bench-looks: $(VENV)/.full ## Measure looks against bytes, beside pngquant: ARGS='--images FOLDER'
	$(BIN)/python -m benchmarks.bench_looks $(ARGS)

bench-page: $(VENV)/.full ## Measure the page in Chromium, from the drop to the result on screen
	$(BIN)/python -m benchmarks.bench_page $(ARGS)

bench-ray: $(VENV)/.ray ## Measure Ray Serve beside plain serving, into benchmarks/results/
	$(BIN)/python -m benchmarks.bench_ray $(ARGS)

bench-gpu: ## Measure on CUDA from the source tree, with the torch that PYTHON has
	$(PYTHON) -m benchmarks.bench_gpu $(ARGS)

constraints: $(VENV)/.full ## Pin what .venv holds in constraints.txt
	$(BIN)/pip freeze --all --exclude pip --exclude-editable | sed 's/+[a-z0-9.]*$$//' > constraints.txt

clean: ## Remove .venv and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: nothing is installed again until pyproject.toml or constraints.txt changes.

define install
$(if $(TORCH_INDEX_URL),$(PIP) install --no-deps --index-url "$(TORCH_INDEX_URL)" --constraint constraints.txt torch)
$(PIP) install --constraint constraints.txt --editable '.$(1)'
endef

$(VENV)/.runtime: $(PINS) | $(VENV)/.created
	@echo "installing the runtime into $(VENV); the first time takes minutes"
	$(call install)
	@touch $@

$(VENV)/.full: $(PINS) | $(VENV)/.created
	@echo "installing everything into $(VENV); the first time takes minutes"
	$(call install,$(EXTRAS))
	@touch $@ $(VENV)/.runtime

$(VENV)/.ray: $(VENV)/.full
	$(PIP) install --constraint constraints.txt --editable '.[ray]'
	@touch $@

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null \
		|| { echo "$(PYTHON) is missing; on Debian: apt-get install python3 python3-venv"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)
	@touch $@
