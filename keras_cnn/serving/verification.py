"""Proof that a SavedModel gives what the Keras model gave: a fresh process with TensorFlow alone runs it and compares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

TOLERANCE = 1e-4
# In `assets.extra`, which SavedModel keeps for files that are none of TensorFlow's business.
EXAMPLES = Path("assets.extra") / "verification.tfrecord"
PROGRAM = Path(__file__).parent / "fresh_process.py"


class VerificationError(RuntimeError):
    """A SavedModel does not load, or does not give the scores that were recorded."""


@dataclass(frozen=True)
class Verification:
    """What a fresh process found.

    Attributes:
        path: The SavedModel.
        images: Number of images compared.
        difference: Largest absolute difference of a score.
        load_seconds: Time to load it, TensorFlow's import not counted.
        size: Bytes of all its files.
    """

    path: str
    images: int
    difference: float
    load_seconds: float
    size: int

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def verify(path) -> Verification:
    """Load a SavedModel that `export` wrote in a fresh process and compare it on the images stored with it.

    Raises:
        VerificationError: If it does not load, or a score is off by more than 1e-4.
        FileNotFoundError: If there is no such SavedModel, or it holds no recorded scores.
    """
    path = Path(path)
    for file in (path / "saved_model.pb", path / EXAMPLES):
        if not file.is_file():
            raise FileNotFoundError(
                f"verify: `path` must be a SavedModel written by `export`. Received: {path}, without {file.name}."
            )
    return compare(path, [])


def compare(path: Path, examples) -> Verification:
    """As `verify`, with more examples `(content, scores)` beside the stored ones."""
    with tempfile.TemporaryDirectory() as folder:
        more = Path(folder) / "more.tfrecord"
        _write_examples(more, examples)
        command = [sys.executable, "-P", str(PROGRAM), str(path), str(path / EXAMPLES), str(more)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if process.returncode:
        raise VerificationError(
            f"The SavedModel {path} does not run in a fresh process: {process.stderr.strip()[-2000:]}"
        )
    found = json.loads(process.stdout.splitlines()[-1])
    result = Verification(str(path), found["images"], found["difference"], found["load_seconds"], _size(path))
    if not result.difference <= TOLERANCE:
        raise VerificationError(
            f"The SavedModel {path} must give the recorded scores within {TOLERANCE}. Received: a difference of "
            f"{result.difference:.3g} on {result.images} images."
        )
    return result


def record(model, preprocessing, path: Path) -> None:
    """Store made-up images and the model's scores for them inside the SavedModel at `path`."""
    (path / EXAMPLES).parent.mkdir(exist_ok=True)
    _write_examples(path / EXAMPLES, expected_scores(model, preprocessing, _made_up_images()))


def expected_scores(model, preprocessing, contents) -> list[tuple[bytes, np.ndarray]]:
    """Each content with the scores of the Keras model; an unreadable one with zeros."""
    import tensorflow as tf

    from keras_cnn import images

    found = []
    for content in contents:
        try:
            scores = model(images.prepare(content, preprocessing)[None], training=False)[0]
        except tf.errors.InvalidArgumentError:
            scores = np.zeros(model.output_shape[-1])
        found.append((content, np.asarray(scores, "float32")))
    return found


def _made_up_images():
    """Colour as JPEG, gray as JPEG, transparency as PNG, a single pixel, and a file that is no image."""
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), "uint8").repeat(40, 0).repeat(40, 1)
    encoded = [
        tf.io.encode_jpeg(pixels[..., :3]),
        tf.io.encode_jpeg(pixels[..., :1]),
        tf.io.encode_png(pixels),
        tf.io.encode_png(pixels[:1, :1, :3]),
    ]
    return [image.numpy() for image in encoded] + [b"no image"]


def _write_examples(file, examples):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(file)) as writer:
        for content, scores in examples:
            image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
            numbers = tf.train.Feature(float_list=tf.train.FloatList(value=scores))
            feature = {"image": image, "scores": numbers}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def _size(path):
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
