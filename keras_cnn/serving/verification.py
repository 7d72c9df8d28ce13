"""Proof that a SavedModel gives what the Keras model gave: a fresh process with TensorFlow alone runs it and compares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_cnn.serving import card, inspection

# By how much a score may differ from that of the Keras model, on the images that a version holds. What a precision other
# than float32 does to the accuracy shows on examples alone: see `_check_examples`.
LIMITS = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.1, "int8": 0.2}
# In `assets.extra`, which SavedModel keeps for files that are none of TensorFlow's business.
EXAMPLES = Path("assets.extra") / "verification.tfrecord"
PROGRAM = Path(__file__).parent / "fresh_process.py"


class VerificationError(RuntimeError):
    """A SavedModel does not load, does not give the scores that were recorded, or may do more than compute."""


@dataclass(frozen=True)
class Verification:
    """What a fresh process found.

    Attributes:
        path: The SavedModel.
        images: Number of images compared.
        difference: Largest absolute difference of a score.
        differences: Signature -> largest absolute difference of a score (of `features`: relative to the largest one).
        agreement: Share of the examples whose best class is that of the Keras model; None without examples.
        accuracy: Share of the examples that are classified rightly, where the right class is known; else None.
        accuracy_before: The same of the Keras model.
        warm_up: Number of warm-up requests that were replayed.
        load_seconds: Time to load it, TensorFlow's import not counted.
        size: Bytes of all its files.
    """

    path: str
    images: int
    difference: float
    differences: dict
    agreement: float | None
    accuracy: float | None
    accuracy_before: float | None
    warm_up: int
    load_seconds: float
    size: int

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    def measured(self) -> dict:
        """What the model card tells: of the model, not of the machine or the place."""
        names = ("images", "differences", "agreement", "accuracy", "accuracy_before")
        return {name: value for name, value in self.to_dict().items() if name in names and value is not None}


def verify(path, trust: bool = False) -> Verification:
    """Load a SavedModel that `export` wrote in a fresh process and compare it on the images stored with it.

    Before that its files are read: a SavedModel is a program, and one with operations that do more than compute is not
    loaded unless it is trusted (see `keras_cnn.serving.inspect`).

    Args:
        path: A version, or the folder of versions, of which the highest is taken.
        trust: Whether to load it whatever its operations do.

    Raises:
        VerificationError: If it does not load, or a score is off by more than 1e-4 (for other precisions: `LIMITS`).
        FileNotFoundError: If there is no such SavedModel, or it holds no recorded scores.
    """
    path = inspection.existing(path)
    if not (path / EXAMPLES).is_file():
        raise FileNotFoundError(
            f"verify: `path` must be a SavedModel written by `export`. Received: {path}, without {EXAMPLES}."
        )
    return compare(path, (), trust=trust)


def require_harmless(path, trust: bool = False) -> inspection.Inspection:
    """What `inspect` finds, if the SavedModel at `path` does nothing but compute, or is trusted.

    Raises:
        VerificationError: If it may do more.
    """
    found = inspection.inspect(path)
    if found.suspicious and not trust:
        raise VerificationError(
            f"The SavedModel {path} may do more than compute: {'; '.join(found.suspicious[:5])}. It was not loaded. If you "
            "trust where it comes from, say so (trust=True, or --trust)."
        )
    return found


def compare(path: Path, examples=(), tolerance: float = 0.01, trust: bool = False) -> Verification:
    """As `verify`, with more `samples.Sample`s beside the stored ones; their accuracy may fall by `tolerance`."""
    precision = card.read(path).get("precision", "float32")
    limit = LIMITS.get(precision, LIMITS["float32"])
    content = require_harmless(path, trust)
    if content.training or content.absolute_paths:
        raise VerificationError(
            f"The SavedModel {path} must hold nothing of training and no path of the machine that made it. Received: "
            f"{', '.join((*content.training, *content.absolute_paths)[:5])}."
        )
    found = _run(path, examples)
    result = _result(path, content, found)
    for name, difference in result.differences.items():
        if not difference <= limit:
            raise VerificationError(
                f"The SavedModel {path} must give the recorded scores within {limit}. Received: a difference of "
                f"{difference:.3g} on {result.images} images, by its signature {name}."
            )
    if found["examples"]:
        _check_examples(path, found["examples"], precision, limit, tolerance)
    return result


def _run(path, examples):
    """What the fresh process says."""
    if not examples:
        return _in_fresh_process(path, os.devnull)
    from keras_cnn.serving import samples

    # Beside a version in the making: what a kill leaves there, the next job removes.
    more = path.parent / "more.tfrecord"
    try:
        samples.write(more, examples)
        return _in_fresh_process(path, more)
    finally:
        more.unlink(missing_ok=True)


def _in_fresh_process(path, more):
    command = [sys.executable, "-P", str(PROGRAM), str(path), str(path / EXAMPLES), str(more)]
    # On the CPU: the process that exports may hold all memory of the GPU, which rounds float32 to 10 bits, too.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if process.returncode:
        said = process.stderr.strip()[-2000:]
        raise VerificationError(f"The SavedModel {path} does not run in a fresh process: {said}")
    return json.loads(process.stdout.splitlines()[-1])


def _result(path, content, found):
    examples = found["examples"] or {"count": 0, "with_target": 0, "difference": 0.0}
    known = examples["with_target"]
    differences = dict(found["differences"])
    scores = [value for name, value in differences.items() if name != "features"]
    return Verification(
        path=str(path),
        images=found["images"],
        # NaN stays NaN whatever the order.
        difference=sum(scores) if any(value != value for value in scores) else max(*scores, examples["difference"]),
        differences=differences,
        agreement=examples["agreeing"] / examples["count"] if examples["count"] else None,
        accuracy=examples["right"] / known if known else None,
        accuracy_before=examples["right_before"] / known if known else None,
        warm_up=found["warm_up"],
        load_seconds=found["load_seconds"],
        size=content.size,
    )


def _check_examples(path, found, precision, limit, tolerance):
    """float32 must give the scores themselves; other precisions may lose `tolerance` of the accuracy, or one example."""
    if precision == "float32":
        if not found["difference"] <= limit:
            raise VerificationError(
                f"The SavedModel {path} must give the scores of the model within {limit}. Received: a difference of "
                f"{found['difference']:.3g} on {found['count']} examples."
            )
        return
    known = found["with_target"]
    lost = found["right_before"] - found["right"] if known else found["count"] - found["agreeing"]
    count = known or found["count"]
    if lost > max(1, tolerance * count):
        what = "classify rightly as many examples" if known else "find the best class of as many examples"
        raise VerificationError(
            f"The SavedModel {path} in {precision} must {what} as the model, but for a share of {tolerance}. Received: "
            f"{lost} fewer of {count}."
        )
