# make demo: install into .venv, fine-tune the embedded network on the embedded sample, export it.
# make test: install into .venv with what the tests need, and run them.
PYTHON ?= python3
BIN := .venv/bin

JAX_TESTS := $(addprefix tests/test_,$(addsuffix .py,geometry layers convolution adjoint pooling attention regularization \
	blocks builder heads surgery folding input_channels staging freezing \
	backbones efficientnet_lite)) \
	$(addprefix tests/analysis/test_,$(addsuffix .py,convolution_matrix grad_cam effective_field))

.PHONY: demo test test-all test-jax lint clean

demo: .venv/installed
	$(BIN)/keras-cnn fit sample --out saved_models/sample

test: .venv/installed-test
	$(BIN)/python -m pytest

test-all: .venv/installed-test
	$(BIN)/python -m pytest -m "slow or not slow"

# What is not made of TensorFlow once more, with Keras on JAX: layers, blocks, analysis, surgery, freezing, backbones.
test-jax: .venv/installed-test
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[jax]"
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(JAX_TESTS)

lint: .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: setup.cfg pyproject.toml .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --editable .
	touch $@

.venv/installed-test: setup.cfg pyproject.toml .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --editable ".[test]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
