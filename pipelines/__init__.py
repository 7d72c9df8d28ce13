"""The jobs: from labelled images to an exported network."""

import importlib

from pipelines import onednn

onednn.switch_on()  # before TensorFlow is loaded

__all__ = [
    "Augmentation",
    "Catalog",
    "ImageBatches",
    "InputError",
    "Result",
    "Settings",
    "TrainingError",
    "fine_tune",
    "load_images",
]

_HOMES = {
    "Augmentation": "pipelines.augment",
    "Catalog": "pipelines.catalog",
    "ImageBatches": "pipelines.datasets.image_batches",
    "InputError": "pipelines.errors",
    "Result": "pipelines.fine_tuning",
    "Settings": "pipelines.settings",
    "TrainingError": "pipelines.errors",
    "fine_tune": "pipelines.fine_tuning",
    "load_images": "pipelines.datasets.image_files",
}


def __getattr__(name):
    # Found when asked for: `keras-cnn --help` and a wrong option answer at once, without the seconds TensorFlow takes.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
