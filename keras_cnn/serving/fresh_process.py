"""Runs a SavedModel as any other program would: with TensorFlow and nothing of this project. Started by `verification.py`.

    python fresh_process.py SAVED_MODEL GOLDEN.tfrecord MORE.tfrecord

Each record has an image file and the probabilities that are expected for it. The last line of the output is JSON.
"""

import base64
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

BATCH = 8
FIELDS = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "probabilities": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
    "features": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
    "size": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
}
# Probabilities this near to 0 or 1 show little of their logits: float32 keeps 1 - p only to 6e-8.
NEAR_0_OR_1 = 1e-3
# XLA takes long to compile a large batch on a CPU, and that would say nothing about the GPU that it is meant for.
LARGEST_COMPILED = 1


def main(path: str, golden_file: str, more_file: str) -> None:
    """Run all signatures on the records, replay the warm-up file, and print what was found.

    For each signature that is the differences of each golden example, as `compare` gives them; for the other images these
    differences, and their probabilities as float32 in base64.
    """
    start = time.perf_counter()
    signatures = tf.saved_model.load(path).signatures
    found: dict[str, Any] = {"load_seconds": round(time.perf_counter() - start, 3)}
    golden, more = read(golden_file), read(more_file)
    expected = np.array([record["probabilities"] for record in (*golden, *more)])
    answers = probabilities(signatures["serving_default"], (*golden, *more))
    pairs, count = compare(answers, expected), len(golden)
    differences = compare_signatures(signatures, golden[0])
    differences["serving_default"] = [  # a file that is not an image counts only if there is a difference
        pair for pair, row in zip(pairs[:count], expected[:count], strict=True) if row.any() or pair[0] != 0
    ]
    found |= {"images": len(expected), "differences": differences, "example_differences": pairs[count:]}
    found["largest_logit"] = largest_logit(expected)
    found["examples"] = base64.b64encode(answers[count:].tobytes()).decode()
    found["warm_up"] = replay(signatures, Path(path) / "assets.extra" / "tf_serving_warmup_requests")
    print(json.dumps(found))


def read(file: str) -> list[dict[str, Any]]:
    """The records of a file, as dicts of NumPy values."""
    records = tf.data.TFRecordDataset(file).map(lambda record: tf.io.parse_single_example(record, FIELDS))
    return list(records.as_numpy_iterator())


def probabilities(serve: Callable, records: Sequence[dict[str, Any]]) -> np.ndarray:
    """The probabilities of all classes that the default signature gives for the files, in batches."""
    batches = [records[i : i + BATCH] for i in range(0, len(records), BATCH)]
    return np.concatenate(
        [
            serve(image_bytes=tf.constant([record["image"] for record in batch]))["all_probabilities"]
            for batch in batches
        ]
    )


def compare(found: np.ndarray, expected: np.ndarray) -> list[list[float]]:
    """For each image the largest difference of a probability, and that of a logit, log(p / (1 - p)).

    A logit that is off by d moves its probability p by p(1 - p)d. If the inputs of a sigmoid are off by at most e, then d is
    at most e; for a softmax it is at most 2e, since the logit is the input of the class minus the log-sum-exp of the others.
    """
    differences = np.abs(found - expected)
    logits = differences / (expected * (1 - expected) + NEAR_0_OR_1)
    return np.stack([differences.max(1), logits.max(1)], 1).tolist()


def largest_logit(expected: np.ndarray) -> float:
    """The largest absolute value of log(p / (1 - p)) over all images, as far as float32 shows it.

    In a softmax of two classes it is the range of the inputs; with n classes, at most that range plus log(n - 1).
    """
    known, limits = expected[expected.any(1)], np.finfo("float32")
    logits = np.log(np.maximum(known, limits.tiny)) - np.log(np.maximum(1 - known, limits.eps))
    return float(np.abs(logits).max(initial=0.0))


def compare_signatures(signatures: Mapping[str, Callable], record: dict[str, Any]) -> dict[str, list[list[float]]]:
    """As `compare` for each signature that takes pixels, a list of one; features relative to the largest of them.

    They are compared with the signature for files, which is compared with the record itself: 16 bits are rounded differently
    on another processor, but alike on the same one.
    """
    expected = probabilities(signatures["serving_default"], [record])
    pixels = tf.io.decode_png(record["image"], channels=3)[None]
    top, left = ((whole - side) // 2 for whole, side in zip(pixels.shape[1:3], record["size"], strict=True))
    pixels = tf.image.crop_to_bounding_box(pixels, top, left, *record["size"])
    differences = {}
    for name in sorted({"predict_images", "serving_xla"} & set(signatures)):
        differences[name] = compare(signatures[name](images=pixels)["all_probabilities"].numpy(), expected)
    if len(record["features"]):
        found = signatures["features"](images=pixels)["features"][0]
        scale = np.abs(record["features"]).max()
        differences["features"] = [[float(np.max(np.abs(found - record["features"])) / (scale or 1.0))] * 2]
    return differences


def replay(signatures: Mapping[str, Callable], file: Path) -> int:
    """Run the requests of a warm-up file as TF Serving does, and return their number."""
    if not file.is_file():
        return 0
    count = 0
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        request = fields(fields(fields(record)[6][0])[1][0])  # PredictionLog.predict_log, PredictLog.request
        name = fields(request[1][0])[3][0].decode()  # PredictRequest.model_spec, ModelSpec.signature_name
        entries = [fields(entry) for entry in request[2]]  # PredictRequest.inputs
        inputs = {entry[1][0].decode(): tf.make_ndarray(tensor(entry[2][0])) for entry in entries}
        if name != "serving_xla" or len(inputs["images"]) <= LARGEST_COMPILED:
            answer = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
            if not np.isfinite(answer["all_probabilities"]).all():
                raise ValueError(f"A warm-up request to {name} gives probabilities that are NaN or infinite.")
        count += 1
    return count


def fields(message: bytes) -> dict[int, list[bytes]]:
    """Field number -> list of contents, of a protocol buffer whose fields all have a length."""
    found: dict[int, list[bytes]] = {}
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        if tag & 7 != 2:
            raise ValueError("A warm-up request has a field that `export` does not write.")
        length, position = varint(message, position)
        found.setdefault(tag >> 3, []).append(message[position : position + length])
        position += length
    return found


def varint(message: bytes, position: int) -> tuple[int, int]:
    """The number at a position, seven bits per byte, and the position after it."""
    value = shift = 0
    while message[position] > 127:
        value |= (message[position] & 127) << shift
        position, shift = position + 1, shift + 7
    return value | message[position] << shift, position + 1


def tensor(content: bytes) -> Any:
    """A serialized `TensorProto`."""
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
