"""Runs a SavedModel as a stranger would: with TensorFlow and nothing of this project. Started by `verification.py`.

    python fresh_process.py SAVED_MODEL GOLDEN.tfrecord MORE.tfrecord

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
    "probabilities": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
    "features": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
    "size": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
}
# XLA on a CPU takes long to compile a large batch, and says nothing of the GPU that it is meant for.
LARGEST_COMPILED = 1


def main(path, golden, more):
    """Run all signatures on the records, replay the warm-up file, and print what was found.

    That is for each signature the largest difference of each stored image, and the scores of the other images as float32 in
    base64.
    """
    start = time.perf_counter()
    signatures = tf.saved_model.load(path).signatures
    found = {"load_seconds": round(time.perf_counter() - start, 3)}
    serve, golden, more = signatures["serving_default"], read(golden), read(more)
    differences = compare_signatures(signatures, golden[0])
    differences["serving_default"] = compare_files(serve, golden)
    found |= {"images": len(golden) + len(more), "differences": differences}
    found["logit_range"] = logit_range(np.array([record["probabilities"] for record in (*golden, *more)]))
    found["examples"] = base64.b64encode(scores(serve, more).tobytes()).decode() if more else ""
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
        [
            serve(image_bytes=tf.constant([record["image"] for record in batch]))["all_probabilities"]
            for batch in batches
        ]
    )


def logit_range(expected):
    """By how much the logits of an image differ at most, as far as its scores `(images, classes)` show it."""
    known = np.maximum(expected[expected.any(1)], np.finfo("float32").tiny)
    return float(np.ptp(np.log(known), axis=1).max(initial=0.0))


def compare_files(serve, records):
    """The largest absolute difference of a score for each file; those that are no images count only if they differ."""
    expected = np.array([record["probabilities"] for record in records])
    differences = np.abs(scores(serve, records) - expected).max(1)
    return [float(one) for one, row in zip(differences, expected, strict=True) if row.any() or one != 0]


def compare_signatures(signatures, record):
    """The largest difference of each signature that takes pixels, a list of one; features relative to the largest of them.

    They are compared with what the signature for files says, which is compared with the record itself: 16 bits round
    otherwise on another processor, but alike within one.
    """
    expected = signatures["serving_default"](image_bytes=tf.constant([record["image"]]))["all_probabilities"][0]
    pixels = tf.io.decode_png(record["image"], channels=3)[None]
    top, left = ((whole - side) // 2 for whole, side in zip(pixels.shape[1:3], record["size"], strict=True))
    pixels = tf.image.crop_to_bounding_box(pixels, top, left, *record["size"])
    differences = {}
    for name in sorted({"predict_images", "serving_xla"} & set(signatures)):
        found = signatures[name](images=pixels)["all_probabilities"][0]
        differences[name] = [float(np.max(np.abs(found - expected)))]
    if len(record["features"]):
        found = signatures["features"](images=pixels)["features"][0]
        scale = np.abs(record["features"]).max()
        differences["features"] = [float(np.max(np.abs(found - record["features"])) / (scale or 1.0))]
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
            if not np.isfinite(answer["all_probabilities"]).all():
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
    """The number at a position, seven bits a byte, and the position after it."""
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
