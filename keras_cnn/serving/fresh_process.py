"""Runs a SavedModel as a stranger would: with TensorFlow and nothing of this project. Started by `verification.py`.

    python fresh_process.py SAVED_MODEL STORED.tfrecord MORE.tfrecord

Each record holds an image file and the scores that are expected for it. The last line of the output is JSON.
"""

import base64
import json
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

BATCH = 8
FIELDS = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "scores": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
    "features": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
    "size": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
}
# Probabilities as near as this to 0 or 1 tell little of their logits: float32 keeps 1 - p to 6e-8 only.
NEAR = 1e-3
# XLA on a CPU takes long to compile a large batch, and says nothing of the GPU that it is meant for.
LARGEST_COMPILED = 1


def main(path, stored, more):
    """Run all signatures on the records, replay the warm-up file, and print what was found.

    That is for each signature the differences of each stored image, as `compare` gives them, the same of the other images,
    and the scores of these as float32 in base64.
    """
    start = time.perf_counter()
    signatures = tf.saved_model.load(path).signatures
    found = {"load_seconds": round(time.perf_counter() - start, 3)}
    serve, stored, more = signatures["serving_default"], read(stored), read(more)
    expected = np.array([record["scores"] for record in (*stored, *more)])
    answers = scores(serve, (*stored, *more))
    pairs, count = compare(answers, expected), len(stored)
    differences = compare_signatures(signatures, stored[0])
    differences["serving_default"] = [
        pair for pair, row in zip(pairs[:count], expected[:count], strict=True) if row.any() or pair[0] != 0
    ]  # a file that is no image counts only if it differs
    found |= {"images": len(expected), "differences": differences, "example_differences": pairs[count:]}
    found["largest_logit"] = largest_logit(expected)
    found["examples"] = base64.b64encode(answers[count:].tobytes()).decode()
    found["warm_up"] = replay(signatures, Path(path) / "assets.extra" / "tf_serving_warmup_requests")
    print(json.dumps(found))


def read(file):
    """The records of a file, as dicts of NumPy values."""
    records = tf.data.TFRecordDataset(file).map(lambda record: tf.io.parse_single_example(record, FIELDS))
    return list(records.as_numpy_iterator())


def scores(serve, records):
    """What the default signature gives for the files, in batches."""
    batches = [records[i : i + BATCH] for i in range(0, len(records), BATCH)]
    return np.concatenate(
        [serve(image_bytes=tf.constant([record["image"] for record in batch]))["scores"] for batch in batches]
    )


def compare(found, expected):
    """For each image the largest difference of a probability, and that of a logit, log(p / (1 - p)).

    A logit that is off by d moves its probability p by p(1 - p)d. If the inputs of a sigmoid are off by e at most, then d is
    at most e; of a softmax it is at most 2e, since the logit is the class's own input less the log-sum-exp of the others.
    """
    differences = np.abs(found - expected)
    logits = differences / (expected * (1 - expected) + NEAR)
    return np.stack([differences.max(1), logits.max(1)], 1).tolist()


def largest_logit(expected):
    """The largest absolute value of log(p / (1 - p)), of all that is an image, as far as float32 shows it.

    In a softmax of two classes it is the range of the inputs; of n classes, that range and log(n - 1) at most.
    """
    known, limits = expected[expected.any(1)], np.finfo("float32")
    logits = np.log(np.maximum(known, limits.tiny)) - np.log(np.maximum(1 - known, limits.eps))
    return float(np.abs(logits).max(initial=0.0))


def compare_signatures(signatures, record):
    """As `compare` for each signature that takes pixels, a list of one; features relative to the largest of them.

    They are compared with what the signature for files says, which is compared with the record itself: 16 bits round
    otherwise on another processor, but alike within one.
    """
    expected = scores(signatures["serving_default"], [record])
    pixels = tf.io.decode_png(record["image"], channels=3)[None]
    top, left = ((whole - side) // 2 for whole, side in zip(pixels.shape[1:3], record["size"], strict=True))
    pixels = tf.image.crop_to_bounding_box(pixels, top, left, *record["size"])
    differences = {}
    for name in sorted({"predict_images", "serving_xla"} & set(signatures)):
        differences[name] = compare(signatures[name](images=pixels)["scores"].numpy(), expected)
    if len(record["features"]):
        found = signatures["features"](images=pixels)["features"][0]
        scale = np.abs(record["features"]).max()
        differences["features"] = [[float(np.max(np.abs(found - record["features"])) / (scale or 1.0))] * 2]
    return differences


def replay(signatures, file):
    """Run the requests of a warm-up file as TF Serving does; their number."""
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
            if not np.isfinite(answer["scores"]).all():
                raise ValueError(f"A warm-up request to {name} gives scores that are no numbers.")
        count += 1
    return count


def fields(message):
    """Field number -> list of contents, of a protocol buffer whose fields all have a length."""
    found, position = {}, 0
    while position < len(message):
        tag, position = varint(message, position)
        if tag & 7 != 2:
            raise ValueError("A warm-up request holds a field that export does not write.")
        length, position = varint(message, position)
        found.setdefault(tag >> 3, []).append(message[position : position + length])
        position += length
    return found


def varint(message, position):
    """The number at a position, seven bits a byte, and the position behind it."""
    value = shift = 0
    while message[position] > 127:
        value |= (message[position] & 127) << shift
        position, shift = position + 1, shift + 7
    return value | message[position] << shift, position + 1


def tensor(content):
    """A serialized `TensorProto`."""
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
