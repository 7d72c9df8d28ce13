"""The jobs: from labelled images to an exported network."""

import importlib

__all__ = ["Catalog", "InputError", "Result", "fine_tune"]

_HOMES = {
    "Catalog": "pipelines.catalog",
    "InputError": "pipelines.errors",
    "Result": "pipelines.fine_tuning",
    "fine_tune": "pipelines.fine_tuning",
}


def __getattr__(name):
    # Found when asked for: `keras-cnn --help` and a wrong option answer at once, without the seconds TensorFlow takes.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
