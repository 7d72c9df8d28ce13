"""`pipelines.fine_tune`, by default or with the settings of the job.

The clock stops when the network is selected: before the test images, as for the other contenders, and before the export.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from job import Job, Record

import keras_cnn as kc
from pipelines import Catalog, fine_tuning


class Validations(keras.callbacks.Callback):
    """Records the validation accuracy after each epoch, and how long the epochs took."""

    def __init__(self, record: Record, images: int):
        super().__init__()
        self._record, self._images = record, images
        self._epochs, self._start = 0, 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._epochs, self._start = 0, self._record.seconds()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._record.validated((logs or {})["val_accuracy"])
        self._epochs += 1

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._record.trained(self._epochs, self._images, self._start)


def recorded(function: Callable, record: Record, accuracy: Callable[[Any], float]) -> Callable:
    """The same function, which also records the validation accuracy of what it returns."""

    def call(*args: Any) -> Any:
        found = function(*args)
        record.validated(accuracy(found))
        return found

    return call


def main() -> None:
    """Run the job."""
    job = Job.load()
    network = kc.load_backbone("efficientnet_lite0", (job.size, job.size, 3))
    catalog = Catalog.from_csv(job.table, label="label", split="split")
    record = Record()
    validations = Validations(record, len(job.rows("train")))
    fine_tuning.fit_head_on = recorded(fine_tuning.fit_head_on, record, lambda head: head.score["accuracy"])
    fine_tuning.select = recorded(
        fine_tuning.select, record, lambda classifier: classifier.validation[classifier.selected]["accuracy"]
    )
    out = f"{job.folder}/out"
    result = fine_tuning.fine_tune(catalog, out, network, [validations], seed=job.seed, progress=False, **job.settings)
    tested = result.metrics["images"]["test"]
    if tested != len(job.rows("test")):
        raise SystemExit(f"All contenders must have the same test images. Received: {tested} that can be read.")
    record.write(job, round(result.accuracy * tested), ("keras", "tensorflow"))


if __name__ == "__main__":
    main()
