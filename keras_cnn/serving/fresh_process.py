"""Runs a SavedModel as a stranger would: with TensorFlow and nothing of this project. Started by `verification.py`.

    python fresh_process.py SAVED_MODEL TFRECORD...

Each record holds an image file and the scores that are expected for it. The last line of the output is JSON.
"""

import json
import sys
import time

import numpy as np
import tensorflow as tf

BATCH = 8
FIELDS = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "scores": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
}


def main(path, files):
    """Compare the default signature with every record of `files`, and print what was found."""
    start = time.perf_counter()
    serve = tf.saved_model.load(path).signatures["serving_default"]
    seconds = time.perf_counter() - start
    differences = []
    records = tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, FIELDS))
    for batch in records.batch(BATCH):
        found = serve(image_bytes=batch["image"])["scores"]
        differences += [np.abs(a - b).max() for a, b in zip(found.numpy(), batch["scores"].numpy(), strict=True)]
    # NumPy's maximum is NaN if any difference is, so that a broken network is not taken for an equal one.
    print(
        json.dumps(
            {"images": len(differences), "difference": float(np.max(differences)), "load_seconds": round(seconds, 3)}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
