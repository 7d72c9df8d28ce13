"""Checks that a SavedModel gives what the Keras model gave: a fresh process with TensorFlow alone runs it and compares."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_cnn.arguments import join_some
from keras_cnn.serving import inspection, model_card
from keras_cnn.serving.agreement import Agreement
from keras_cnn.serving.precisions import PRECISIONS

# By how much a version may differ from what is recorded, on its golden examples. In float32 that limits each logit, as a share
# of the largest one (or of 1, if that is more): |dp| <= (p(1 - p) + 1e-3) * 1e-4 * max(1, largest logit) for each probability
# p, because rounding is a share of the sums that logits are. A limit for dp alone is too strict for p near 0.5 where logits are
# large, and accepts another network where p is near 0 or 1. docs/benchmarks.md shows how much of it networks use: 46 % at most.
# In other precisions it limits the median of a probability: only the caller's examples show what they do to the accuracy.
LIMITS = {precision: 1e-4 if precision == "float32" else 0.25 for precision in PRECISIONS}
# In `assets.extra`, the folder of a SavedModel for files that TensorFlow does not read.
GOLDEN_EXAMPLES = Path("assets.extra") / "verification.tfrecord"
PROGRAM = Path(__file__).parent / "fresh_process.py"


class VerificationError(RuntimeError):
    """A SavedModel does not load, does not give the recorded probabilities, or may do more than compute."""


@dataclass(frozen=True)
class Verification:
    """What a fresh process found.

    Attributes:
        path: The SavedModel.
        images: Number of images compared.
        largest_difference: Largest absolute difference of a probability.
        differences: Signature -> largest absolute difference of a probability (of `features`: relative to the largest one).
        warm_up_requests: Number of warm-up requests that were replayed.
        load_seconds: Time to load it, without TensorFlow's import.
        size: Bytes of all its files.
        agreement: Fraction of the examples that get the same best class as from the Keras model or, with several labels, the
            same labels. None without examples, and so are all attributes below.
        median_difference: The median of the largest difference of a probability per example.
        percentile_99_difference: The largest of these differences without the highest 1 %, at least one of which is left out.
        accuracy: Accuracy on the examples with targets; None if there are none.
        accuracy_before: The same of the Keras model.
        mean_average_precision: With several labels per image, instead of the accuracy.
        mean_average_precision_before: The same of the Keras model.
    """

    path: str
    images: int
    largest_difference: float
    differences: dict[str, float]
    warm_up_requests: int
    load_seconds: float
    size: int
    agreement: float | None = None
    median_difference: float | None = None
    percentile_99_difference: float | None = None
    accuracy: float | None = None
    accuracy_before: float | None = None
    mean_average_precision: float | None = None
    mean_average_precision_before: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def to_model_card(self) -> dict[str, Any]:
        """The part for the model card: what is a property of the model, not of the machine or the folder."""
        others = ("path", "largest_difference", "warm_up_requests", "load_seconds", "size")
        return {name: value for name, value in self.to_dict().items() if name not in others and value is not None}


@dataclass(frozen=True)
class Examples:
    """Images of the caller to compare on, in addition to the golden examples.

    Attributes:
        recorded: `keras_cnn.serving.examples.Example`s with the probabilities of the Keras model.
        names: The names of the images, for messages.
        targets: As in `Agreement`.
        multi_label: As in `Agreement`.
    """

    recorded: Sequence[Any] = ()
    names: Sequence[str] = ()
    targets: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    multi_label: bool = False

    def agreement(self, probabilities: str) -> Agreement:
        """The agreement with the probabilities that `fresh_process.py` has found."""
        expected = np.array([one.probabilities for one in self.recorded])
        found = np.frombuffer(base64.b64decode(probabilities), "float32").reshape(expected.shape)
        return Agreement(expected, found, self.targets, self.multi_label, self.names)


NO_EXAMPLES = Examples()


def verify(path: str | Path, trust: bool = False) -> Verification:
    """Load a SavedModel that `export` wrote in a fresh process and compare it on the golden examples stored in it.

    Before that its files are read: a SavedModel is a program, and one with operations that do more than compute is not
    loaded unless it is trusted (see `keras_cnn.serving.inspect`).

    Args:
        path: A version, or the folder of versions, of which the highest is taken.
        trust: Whether to load it whatever its operations do.

    Returns:
        `Verification`, with the differences that were found.

    Raises:
        VerificationError: If it does not load; if the logit of a probability is off by more than 1e-4, or by 1e-4 of the
            largest logit where that is more (in other precisions than float32: if the median of the images' probabilities is
            off by more than 0.25); or if its network is not the file that was exported.
        FileNotFoundError: If there is no such SavedModel, or it contains no golden examples.
    """
    path = inspection.find_saved_model(path)
    if not (path / GOLDEN_EXAMPLES).is_file():
        raise FileNotFoundError(
            f"verify: `path` must be a SavedModel written by `export`. Received: {path}, without {GOLDEN_EXAMPLES}."
        )
    return compare(path, trust=trust)


def require_harmless(path: str | Path, trust: bool = False) -> inspection.Inspection:
    """What `inspect` finds, if the SavedModel at `path` does nothing but compute, or is trusted.

    Raises:
        VerificationError: If it may do more.
    """
    found = inspection.inspect(path)
    if found.suspicious and not trust:
        raise VerificationError(
            f"The SavedModel {path} may do more than compute: {join_some(found.suspicious, 5, '; ')}. It was not loaded. If "
            "you trust where it comes from, say so (trust=True, or --trust)."
        )
    return found


def compare(
    path: Path, examples: Examples = NO_EXAMPLES, max_accuracy_drop: float = 0.01, trust: bool = False
) -> Verification:
    """As `verify`, and also on `examples`."""
    about = model_card.read(path)
    precision = about.get("precision", "float32")
    content = require_harmless(path, trust)
    if content.training_operations or content.absolute_paths:
        raise VerificationError(
            f"The SavedModel {path} must contain no operation of training and no path of the machine that made it. Received: "
            f"{join_some((*content.training_operations, *content.absolute_paths))}."
        )
    found = _run(path, examples.recorded)
    agreement = examples.agreement(found["examples"]) if examples.recorded else None
    if agreement:
        _check_examples(agreement, precision, max_accuracy_drop, found)
    _check_golden(path, found, precision)
    _check_files(path, about)
    return _result(path, content, found, agreement)


def _check_golden(path: Path, found: dict[str, Any], precision: str) -> None:
    """float32 must give each recorded logit; other precisions, which other processors round differently, most probabilities."""
    exact = precision not in LIMITS or precision == "float32"
    for name, pairs in found["differences"].items():
        differences, logit_differences = np.transpose(pairs)
        if exact:
            what, which, difference = "logits", "largest", logit_differences.max()
            limit = float32_limit(0.0 if name == "features" else found["largest_logit"])
        else:
            what, which, difference, limit = "probabilities", "median", np.median(differences), LIMITS[precision]
        if not difference <= limit:
            raise VerificationError(
                f"The SavedModel {path} must give the recorded {what} within {limit:.2g}. Received: a difference of "
                f"{difference:.3g}, the {which} of {len(pairs)} images, by its signature {name}."
            )


def float32_limit(largest_logit: float) -> float:
    """By how much a logit may differ in float32."""
    return LIMITS["float32"] * max(1.0, largest_logit)


def _check_files(path: Path, about: dict[str, Any]) -> None:
    """The files of the network must be those that were written: a small change of it may not show in the probabilities."""
    present = model_card.digests(path)
    changed = [name for name, digest in about.get("sha256", {}).items() if present.get(name) != digest]
    if changed:
        raise VerificationError(
            f"The SavedModel {path} must have the files that were exported. Received: another {', '.join(changed)}, by its "
            "SHA-256. Export it again."
        )


def _check_examples(agreement: Agreement, precision: str, max_accuracy_drop: float, found: dict[str, Any]) -> None:
    """float32 must give the same logits; for other precisions see `Agreement.objection`."""
    objection = None
    if precision != "float32":
        objection = agreement.objection(precision, max_accuracy_drop)
    else:
        limit, differences = float32_limit(found["largest_logit"]), np.array(found["example_differences"])[:, 1]
        if not differences.max() <= limit:
            objection = (
                f"export: in float32 the network must give the logits of the model within {limit:.2g}. Received: a "
                f"difference of {differences.max():.3g} on {len(differences)} images; they differ most for "
                f"{agreement.format_most_different(differences)}."
            )
    if objection:
        raise VerificationError(objection)


def _run(path: Path, examples: Sequence[Any]) -> dict[str, Any]:
    """The report of the fresh process."""
    if not examples:
        return _in_fresh_process(path, os.devnull)
    from keras_cnn.serving import examples as example_files

    # In the staging folder, next to the version: the next job removes what a kill leaves there.
    more = path.parent / "more.tfrecord"
    try:
        example_files.write(more, examples)
        return _in_fresh_process(path, more)
    finally:
        more.unlink(missing_ok=True)


def _in_fresh_process(path: Path, more: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-P", str(PROGRAM), str(path), str(path / GOLDEN_EXAMPLES), str(more)]
    # On the CPU: the process that exports may hold all memory of the GPU, which rounds float32 to 10 bits, too.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if process.returncode:
        message = process.stderr.strip()[-2000:]
        raise VerificationError(f"The SavedModel {path} does not run in a fresh process: {message}")
    return json.loads(process.stdout.splitlines()[-1])


def _result(
    path: Path, content: inspection.Inspection, found: dict[str, Any], agreement: Agreement | None
) -> Verification:
    largest = {name: float(np.max(pairs, axis=0)[0]) for name, pairs in found["differences"].items()}
    probabilities = [value for name, value in largest.items() if name != "features"]
    return Verification(
        path=str(path),
        images=found["images"],
        largest_difference=float(np.max([*probabilities, *(agreement.differences if agreement else ())])),
        differences=largest,
        warm_up_requests=found["warm_up"],
        load_seconds=found["load_seconds"],
        size=content.size,
        **(agreement.metrics() if agreement else {}),
    )
