"""What `benchmarks/peers.py` hands to every contender, and what every contender hands back.

A contender is a script of this folder that runs in a process of its own, with the path of a JSON file. This module needs
NumPy and nothing of this project. Seconds are processor seconds of all threads, which other programs hardly change.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

BATCH_SIZE = 32
# RGB from 0 to 255 becomes (x - MEAN) / STD, as in pretraining.
MEAN, STD = 127, 128
CHECKED = 16  # images whose features are compared
TOLERANCE = 1e-4  # of the largest feature


@dataclass(frozen=True)
class Job:
    """The same data, weights and seconds for all.

    Attributes:
        classes: Names of the classes, in the order of their numbers.
        paths: The image files.
        labels: Their class numbers.
        splits: "train", "validation" or "test" for each of them.
        table: A CSV file with the columns path, label and split, which says the same.
        arrays: An `.npy` file, uint8 `(images, size, size, 3)`: all images, resized and cropped in the same way.
        weights: The `.npz` file of EfficientNet-Lite0, with entries `layer/weight`.
        features: An `.npy` file: the pooled features that `keras_cnn` computes of the first `CHECKED` test images.
        folder: Where the contender may write.
        size: Height and width in pixels.
        seconds: Processor seconds for training and validation; None for `ours.py`, whose settings say how long it trains.
        seed: Of all that is random.
        settings: Settings of `fine_tune`, for `ours.py`.
    """

    classes: list[str]
    paths: list[str]
    labels: list[int]
    splits: list[str]
    table: str
    arrays: str
    weights: str
    features: str
    folder: str
    size: int
    seconds: float | None
    seed: int
    settings: dict[str, Any]

    @classmethod
    def load(cls) -> Job:
        """The job in the JSON file that this process was started with."""
        return cls(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))

    def save(self) -> Path:
        """Write it into its folder; returns the path."""
        path = Path(self.folder) / "job.json"
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    def rows(self, split: str) -> list[int]:
        """The indices of the images of a split."""
        return [index for index, own in enumerate(self.splits) if own == split]

    def images(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images, uint8 `(images, size, size, 3)`, and class numbers of a split."""
        rows = self.rows(split)
        return np.load(self.arrays, mmap_mode="r")[rows], np.array(self.labels)[rows]

    def check_features(self, features: np.ndarray) -> None:
        """Stop unless a network computes what `keras_cnn` does.

        Args:
            features: Its pooled features of the first `CHECKED` test images, `(images, 1280)`.
        """
        expected = np.load(self.features)
        difference = float(abs(np.asarray(features) - expected).max() / abs(expected).max())
        print(f"The largest difference of a feature is {difference:.1e} of the largest feature.", flush=True)
        if not difference < TOLERANCE:
            raise SystemExit(
                f"The features must be those of keras_cnn, within {TOLERANCE:g} of the largest one. "
                f"Received: a difference of {difference:.2g}. Correct how the weights are converted."
            )


class Record:
    """The seconds and accuracies of one contender. The clock starts when the record is made."""

    def __init__(self) -> None:
        self._processor, self._elapsed = time.process_time(), time.perf_counter()
        self._curve: list[tuple[float, float]] = []
        self._until_validated = 0.0
        self._epochs, self._images, self._training = 0, 0, 0.0

    def seconds(self) -> float:
        """Processor seconds since the clock started."""
        return time.process_time() - self._processor

    def validated(self, accuracy: float) -> None:
        """Record a validation accuracy at this second. The last one is that of the network that is tested."""
        self._curve.append((self.seconds(), float(accuracy)))
        self._until_validated = time.perf_counter() - self._elapsed

    def trained(self, epochs: int, images: int, start: float) -> None:
        """Record epochs that end now.

        Args:
            epochs: Their number.
            images: Training images in each of them.
            start: The second at which they began.
        """
        self._epochs += epochs
        self._images += epochs * images
        self._training += self.seconds() - start

    def write(self, job: Job, correct: int, libraries: Sequence[str]) -> None:
        """Write the result into the folder of the job.

        Args:
            job: The job.
            correct: Number of test images that are classified correctly.
            libraries: Names of packages whose versions are recorded.
        """
        result = {
            "correct": correct,
            "test_images": len(job.rows("test")),
            "validation": self._curve[-1][1],
            "curve": self._curve,
            "epochs": self._epochs,
            "seconds": self._curve[-1][0],
            "elapsed": self._until_validated,
            "images_per_second": self._images / self._training if self._images else None,
            "versions": {name: version(name) for name in libraries},
        }
        (Path(job.folder) / "result.json").write_text(json.dumps(result), encoding="utf-8")


def epochs_within(seconds: float, seconds_per_epoch: float) -> int:
    """How many epochs fit, at least one."""
    return max(1, int(seconds / seconds_per_epoch))
