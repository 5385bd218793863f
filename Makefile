# make demo: installs the runtime, without torch, and serves a small trained model.
# make run: installs the pipeline, runs it, and says where to look.
# make test: everything that must hold.  make test-quick: the tests that take no more than half a second each.
# CONTRIBUTING.md lists the others.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIPELINE_INSTALLED := $(VENV)/.pipeline-installed
RUNTIME_INSTALLED := $(VENV)/.runtime-installed
# The pipeline needs no tools of the tests, the demo no torch. An environment that has more than is needed serves too.
FOR_RUN := $(or $(wildcard $(INSTALLED)),$(PIPELINE_INSTALLED))
FOR_DEMO := $(or $(wildcard $(INSTALLED)),$(wildcard $(PIPELINE_INSTALLED)),$(RUNTIME_INSTALLED))
# pip shall not compile all modules to bytecode, which takes as long as to install them: Python does at the first import.
NO_BYTECODE := $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)
RIVALS := $(VENV)/rivals
TRITON := $(VENV)/triton
# The two onnxruntime wheels overwrite each other, so one is chosen: the GPU one where there is an NVIDIA GPU.
RUNTIME := $(if $(shell nvidia-smi --list-gpus 2>/dev/null),gpu,cpu)

export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo run test test-quick docs lint audit deps chaos images story triton bench bench-gpu experiments lock vendor screenshots \
  clean

demo: $(FOR_DEMO)
	@$(BIN)/volvae demo

run: $(FOR_RUN)
	@volvae check
	@python -c 'from pathlib import Path; from pipeline.runs.lock import heal; heal(Path())'
	dvc repro
	@python -m pipeline.registry.cached
	@echo
	@volvae report

# Four workers keep two cores busy, as slow tests wait for half of their time. A worker takes one gigabyte of memory.
PARALLEL := --dist loadgroup --no-loadscope-reorder
test: $(INSTALLED)
	pytest --numprocesses 4 $(PARALLEL) --durations 20 --cov

test-quick: $(INSTALLED)
	pytest --numprocesses 2 $(PARALLEL) -m "not slow"

lint: $(INSTALLED)
	ruff check .
	ruff format --check .
	mypy
	lint-imports

# Locked packages and lower bounds beside tools/advisories.json, without the internet; the tests do the same.
audit: $(INSTALLED)
	PYTHONPATH=. python tools/audit.py

# The site in build/site, without the internet; a dead link fails. make docs SERVE=1 shows it at http://127.0.0.1:8010.
docs: $(INSTALLED)
	sphinx-build --fail-on-warning --keep-going --quiet -c docs/site -d build/doctrees . build/site
	@echo "build/site/index.html"
	$(if $(SERVE),python -m http.server --bind 127.0.0.1 --directory build/site 8010)

# Writes what follows from other files: the code that each stage imports into dvc.yaml, the types of the settings into
# params.schema.json, the names of columns into the explorer, and the tutorials as notebooks.
deps: $(INSTALLED)
	PYTHONPATH=. python tools/stage_deps.py
	PYTHONPATH=. python tools/params_schema.py
	PYTHONPATH=. python tools/column_names.py
	PYTHONPATH=. python tools/notebooks.py

# The fault matrix of docs/reliability.md: three hours of a core; a part of it is in `make test`.
# Its folders lie in memory where the system has such a file system.
chaos: $(INSTALLED)
	TMPDIR=$(firstword $(wildcard /dev/shm) /tmp) python -m chaos --workers $$(nproc)

# The images of deploy/Dockerfile, and their sizes. Where their base is out of reach: make images BASE=debian, as root.
images:
	BASE=$(BASE) deploy/images.sh

# What happens to an installation by deploy/compose.yaml, from those images; needs Docker and its compose.
story: $(INSTALLED)
	pytest -m story -s tests/deploy/test_story.py

# A bundle in a real Triton; Linux on x86-64, glibc 2.35 or later.
triton: $(INSTALLED) $(TRITON)
	pytest -m triton tests/deploy/test_real_triton.py

# make bench PARTS="risk serving" runs these alone, make bench RECORD=1 adds the ratios to benchmarks/history.jsonl.
bench: $(INSTALLED) $(RIVALS)
	PYTHONPATH=$(RIVALS) python -m benchmarks $(PARTS) $(if $(RECORD),--record)

# What an NVIDIA GPU does, beside the CPU of the same machine.
bench-gpu: $(INSTALLED)
	python -m benchmarks.gpu

# The parameters that differ between experiments, and the metrics that fit beside them in a terminal: all but these.
LEFT_OUT := elbo_gap_.*|reconstruction_.*|opponent_.*|sample_energy_.*|active_units
experiments: $(FOR_RUN)
	@dvc exp show --no-pager --only-changed --drop '^(Created|(.*[:.])?($(LEFT_OUT)))$$'

# Tools to compare with, in a folder of their own and without their dependencies: pythae's `dataclasses` would hide that
# of Python from prefect.
$(RIVALS): Makefile
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $@ pythae==0.1.2 imageio==2.38.1 fast-vollib==0.2.4
	@touch $@

# An environment of its own: Triton's backend of Python knows numpy below 2 alone. What pytriton adds is not needed.
$(TRITON): Makefile requirements.lock
	$(BIN)/python -m venv --clear $@
	$@/bin/python -m pip install --quiet 'numpy<2' $$(sed -n '/^onnxruntime==/p' requirements.lock)
	$@/bin/python -m pip install --quiet --no-deps nvidia-pytriton==0.7.0
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  "volvae needs Python 3.11 to 3.13, not %d.%d: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)

$(RUNTIME_INSTALLED): pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing the runtime and the server, without torch: half a gigabyte, about a minute"
	@$(BIN)/python -m pip install --quiet $(NO_BYTECODE) --constraint requirements.lock --editable '.[serve,quotes,$(RUNTIME)]'
	@touch $@

$(PIPELINE_INSTALLED): pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing the pipeline and the server: 1.6 gigabytes, about a minute"
	@$(BIN)/python -m pip install --quiet $(NO_BYTECODE) --constraint requirements.lock --editable '.[pipeline,serve,$(RUNTIME)]'
	$(BIN)/python -m pip check
	@touch $@

$(INSTALLED): pyproject.toml requirements.lock | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[pipeline,schedule,serve,grpc,otel,sign,dask,docs,dev,$(RUNTIME)]'
	$(BIN)/python -m pip check
	@touch $@

# Rewrites the lock from what is installed; both runtime wheels stay in it. Then the lists with hashes of the images.
lock: $(INSTALLED)
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//; /^onnxruntime/d' > requirements.lock.new
	$(BIN)/python -m pip freeze | sed -n 's/^onnxruntime\(-gpu\)\{0,1\}==\(.*\)/onnxruntime==\2\nonnxruntime-gpu==\2/p' >> requirements.lock.new
	LC_ALL=C sort --ignore-case --field-separator== --key=1,1 requirements.lock.new > requirements.lock
	rm requirements.lock.new
	python tools/image_locks.py

# The explorer ships the onnxruntime-web that tests/javascript/package.json names.
WEB := tests/javascript/node_modules/onnxruntime-web/dist
SHIPPED := deploy/explorer/onnxruntime-web
vendor:
	cd tests/javascript && npm ci --ignore-scripts --no-audit --no-fund
	cp $(WEB)/ort.wasm.bundle.min.mjs $(SHIPPED)/
	gzip -9 --no-name --stdout $(WEB)/ort-wasm-simd-threaded.wasm > $(SHIPPED)/ort-wasm-simd-threaded.wasm.gz
	node tests/javascript/brotli.mjs $(WEB)/ort-wasm-simd-threaded.wasm $(SHIPPED)/ort-wasm-simd-threaded.wasm.br

# Pictures of the explorer in docs/; needs Chromium.
screenshots: $(INSTALLED)
	$(BIN)/python tools/screenshots.py

clean:
	rm -rf $(VENV) .checkpoints
