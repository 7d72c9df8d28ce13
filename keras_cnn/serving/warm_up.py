"""Requests that TF Serving replays when it loads a version, so that the first user does not wait.

The file holds TFRecords of `PredictionLog`, a message of TF Serving. Its few fields are encoded by hand here, which avoids the
dependency on `tensorflow-serving-api`: each is a tag (field number · 8 + 2), a length and the bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_cnn.serving.server_files import BATCH_SIZES

FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def write(path: Path, image: bytes, size: tuple[int, int], xla: bool) -> None:
    """Write the warm-up file of the SavedModel at `path`.

    Args:
        path: The SavedModel.
        image: The content of an image file for the default signature, sent alone and in a batch of eight.
        size: `(height, width)` of the network's images.
        xla: Whether to compile `serving_xla` for each of its batch sizes as well.
    """
    batches = [[image], [image] * 8]
    requests = [_request("serving_default", "image_bytes", tf.make_tensor_proto(batch)) for batch in batches]
    for batch_size in BATCH_SIZES if xla else ():
        # One number stands for all pixels.
        black = tf.make_tensor_proto(0, tf.uint8, (batch_size, *size, 3))
        requests.append(_request("serving_xla", "images", black))
    (path / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / FILE)) as writer:
        for request in requests:
            writer.write(request)


def _request(signature: str, name: str, tensor: Any) -> bytes:
    """A `PredictionLog` with one `PredictRequest` of a `TensorProto`. TF Serving's .proto files give the field numbers."""
    model_spec = _field(3, signature.encode())  # ModelSpec.signature_name
    entry = _field(1, name.encode()) + _field(2, tensor.SerializeToString())  # a map's key and value
    predict_request = _field(1, model_spec) + _field(2, entry)  # PredictRequest.model_spec, .inputs
    return _field(6, _field(1, predict_request))  # PredictionLog.predict_log, PredictLog.request


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits per byte, the lowest first; the eighth bit says that more follow."""
    found = []
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
