"""Proof that a SavedModel gives what the Keras model gave: a fresh process with TensorFlow alone runs it and compares."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_cnn.serving import card, inspection
from keras_cnn.serving.agreement import Agreement

# By how much a version may differ from what is on record, on the images that it holds. In float32 any logit, as a share of the
# largest one (or of 1, if that is more): |dp| <= (p(1 - p) + 1e-3) * 1e-4 * max(1, largest logit) for each probability p, since
# rounding is a share of the sums that logits are. A limit for dp alone is too strict for p near 0.5 where logits are large, and
# lets another network pass where p is near 0 or 1. docs/benchmarks.md has what networks use of the limit: 46 % at most.
# Otherwise the median of a probability; what that does to the accuracy shows on examples alone: see `Agreement.objection`.
LIMITS = {"float32": 1e-4, "bfloat16": 0.25, "float16": 0.25, "int8": 0.25}
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
        warm_up: Number of warm-up requests that were replayed.
        load_seconds: Time to load it, TensorFlow's import not counted.
        size: Bytes of all its files.
        agreement: Share of the examples whose best class, or with several labels whose set of labels, is that of the Keras
            model; None without examples, and so is all below.
        median: An example's largest difference of a score: the median.
        percentile_99: The same of all examples but one in a hundred, at least one left out.
        accuracy: Share of the examples that are classified rightly, where the right class is known; else None.
        accuracy_before: The same of the Keras model.
        mean_average_precision: With several labels an image, instead of the accuracy.
        mean_average_precision_before: The same of the Keras model.
    """

    path: str
    images: int
    difference: float
    differences: dict
    warm_up: int
    load_seconds: float
    size: int
    agreement: float | None = None
    median: float | None = None
    percentile_99: float | None = None
    accuracy: float | None = None
    accuracy_before: float | None = None
    mean_average_precision: float | None = None
    mean_average_precision_before: float | None = None

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    def measured(self) -> dict:
        """What the model card tells: of the model, not of the machine or the place."""
        others = ("path", "difference", "warm_up", "load_seconds", "size")
        return {name: value for name, value in self.to_dict().items() if name not in others and value is not None}


@dataclass(frozen=True)
class Examples:
    """Images of the caller to compare on, beside those that are stored.

    Attributes:
        samples: With the scores of the Keras model.
        names: Of the images, for messages.
        truth: As in `Agreement`.
        several: As in `Agreement`.
    """

    samples: Sequence = ()
    names: Sequence[str] = ()
    truth: np.ndarray | None = None
    several: bool = False

    def agreement(self, scores: str) -> Agreement:
        """With the scores that `fresh_process.py` has found."""
        expected = np.array([sample.scores for sample in self.samples])
        found = np.frombuffer(base64.b64decode(scores), "float32").reshape(expected.shape)
        return Agreement(expected, found, self.truth, self.several, self.names)


NO_EXAMPLES = Examples()


def verify(path, trust: bool = False) -> Verification:
    """Load a SavedModel that `export` wrote in a fresh process and compare it on the images stored with it.

    Before that its files are read: a SavedModel is a program, and one with operations that do more than compute is not
    loaded unless it is trusted (see `keras_cnn.serving.inspect`).

    Args:
        path: A version, or the folder of versions, of which the highest is taken.
        trust: Whether to load it whatever its operations do.

    Raises:
        VerificationError: If it does not load; if the logit of a probability is off by more than 1e-4, or by 1e-4 of the
            largest logit where that is more (in other precisions than float32: if the median of the images' probabilities
            is off by more than 0.25); or if its network is not the file that was exported.
        FileNotFoundError: If there is no such SavedModel, or it holds no recorded scores.
    """
    path = inspection.existing(path)
    if not (path / EXAMPLES).is_file():
        raise FileNotFoundError(
            f"verify: `path` must be a SavedModel written by `export`. Received: {path}, without {EXAMPLES}."
        )
    return compare(path, trust=trust)


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


def compare(
    path: Path, examples: Examples = NO_EXAMPLES, max_accuracy_drop: float = 0.01, trust: bool = False
) -> Verification:
    """As `verify`, on `examples` also."""
    about = card.read(path)
    precision = about.get("precision", "float32")
    content = require_harmless(path, trust)
    if content.training or content.absolute_paths:
        raise VerificationError(
            f"The SavedModel {path} must hold nothing of training and no path of the machine that made it. Received: "
            f"{', '.join((*content.training, *content.absolute_paths)[:5])}."
        )
    found = _run(path, examples.samples)
    agreement = examples.agreement(found["examples"]) if examples.samples else None
    if agreement:
        _check_examples(agreement, precision, max_accuracy_drop, found)
    _check_stored(path, found, precision)
    _check_files(path, about)
    return _result(path, content, found, agreement)


def _check_stored(path, found, precision):
    """float32 must give the logits on record, each; other precisions, which another processor rounds otherwise, most scores."""
    exact = precision not in LIMITS or precision == "float32"
    for name, pairs in found["differences"].items():
        differences, logit_differences = np.transpose(pairs)
        if exact:
            what, which, difference = "logits", "largest", logit_differences.max()
            limit = float32_limit(0.0 if name == "features" else found["largest_logit"])
        else:
            what, which, difference, limit = "scores", "median", np.median(differences), LIMITS[precision]
        if not difference <= limit:
            raise VerificationError(
                f"The SavedModel {path} must give the recorded {what} within {limit:.2g}. Received: a difference of "
                f"{difference:.3g}, the {which} of {len(pairs)} images, by its signature {name}."
            )


def float32_limit(largest_logit: float) -> float:
    """By how much a logit may differ in float32."""
    return LIMITS["float32"] * max(1.0, largest_logit)


def _check_files(path, about):
    """The files of the network must be those that were written, of which a small change of scores does not tell enough."""
    present = card.digests(path)
    changed = [name for name, digest in about.get("sha256", {}).items() if present.get(name) != digest]
    if changed:
        raise VerificationError(
            f"The SavedModel {path} must hold the files that were exported. Received: another {', '.join(changed)}, by its "
            "SHA-256. Export it again."
        )


def _check_examples(agreement, precision, max_accuracy_drop, found):
    """float32 must give the logits themselves; of other precisions see `Agreement.objection`."""
    differences, limit = np.array(found["example_differences"])[:, 1], float32_limit(found["largest_logit"])
    if precision != "float32":
        objection = agreement.objection(precision, max_accuracy_drop)
    elif differences.max() <= limit:
        objection = None
    else:
        objection = (
            f"export: in float32 the network must give the logits of the model within {limit:.2g}. Received: a difference of "
            f"{differences.max():.3g} on {len(agreement.names)} images; they differ most for {agreement.furthest(differences)}."
        )
    if objection:
        raise VerificationError(objection)


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


def _result(path, content, found, agreement):
    largest = {name: float(np.max(pairs, axis=0)[0]) for name, pairs in found["differences"].items()}
    scores = [value for name, value in largest.items() if name != "features"]
    return Verification(
        path=str(path),
        images=found["images"],
        difference=float(np.max([*scores, *(agreement.differences if agreement else ())])),
        differences=largest,
        warm_up=found["warm_up"],
        load_seconds=found["load_seconds"],
        size=content.size,
        **(agreement.measured() if agreement else {}),
    )
