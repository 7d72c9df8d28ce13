# make demo: install into .venv, fine-tune the embedded network on the embedded sample, export it.
# make test: install into .venv with what the tests need, and run them.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all test-jax test-extras lint types clean

demo: .venv/installed
	$(BIN)/keras-cnn fit sample --out saved_models/sample

test: .venv/installed-test
	$(BIN)/python -m pytest --durations=15

test-all: .venv/installed-test
	$(BIN)/python -m pytest -m "slow or not slow"

# The tests that are marked `any_backend`, with Keras on JAX.
test-jax: .venv/installed-test
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[jax]"
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m "any_backend and not slow" tests

# All tests with every optional package, so that none is skipped for the lack of one.
test-extras: .venv/installed-test
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[extras]"
	$(BIN)/python -m pytest -m "slow or not slow" --durations=15

lint: .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(BIN)/mypy

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
