"""The folder `serving` next to the versions: files to start TF Serving with, and a README on how to query it."""

from __future__ import annotations

import re
from pathlib import Path

# Batch sizes that the server pads to, and that the XLA signature is compiled for.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

MODELS = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""
BATCHING = """\
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: 4 }}
{sizes}
"""
README = """\
# Serving {name}

Start the server in the folder that holds the versions, one above this one:

```sh
docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD":/models/{name}:ro tensorflow/serving \\
  --model_config_file=/models/{name}/serving/models.config \\
  --enable_batching --batching_parameters_file=/models/{name}/serving/batching_parameters.txt
```

It loads the highest version, and switches to a newer one as soon as that is there. With a GPU: `docker run --gpus all` and
`tensorflow/serving:latest-gpu`.

## REST (port 8501)

```sh
echo '{{"instances": [{{"b64": "'$(base64 < photo.jpg | tr -d '\\n')'"}}]}}' |
  curl --data @- http://localhost:8501/v1/models/{name}:predict
```

For each image the answer has `labels` and `probabilities`, best first, and `all_probabilities` in the order of
`assets/labels.txt`. A file that is not an image gets the label "" and probability 0.

## gRPC (port 8500)

```python
# pip install tensorflow-serving-api
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

request = predict_pb2.PredictRequest()
request.model_spec.name = "{name}"
request.model_spec.signature_name = "serving_default"
request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([open("photo.jpg", "rb").read()]))
server = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel("localhost:8500"))
answer = server.Predict(request, timeout=10)
print(tf.make_ndarray(answer.outputs["labels"]), tf.make_ndarray(answer.outputs["probabilities"]))
```

Other signatures: `predict_images` (`images`, uint8 `[batch, height, width, 3]` RGB of the network's size), `features` if the
network has them, and `serving_xla` for a GPU: as `predict_images`, compiled for each batch size of `batching_parameters.txt`
when it is first used.
"""


def name_of(directory: Path) -> str:
    """The name of a model for URLs and configuration files: that of its folder, "_" for odd characters."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", directory.resolve().name).strip("_") or "model"


def write(directory: Path, staging: Path) -> None:
    """Write the files for the model in `directory` into the new folder `staging`, from where they are moved there later."""
    name = name_of(directory)
    sizes = "\n".join(f"allowed_batch_sizes: {size}" for size in BATCH_SIZES)
    contents = {
        "models.config": MODELS.format(name=name),
        "batching_parameters.txt": BATCHING.format(largest=BATCH_SIZES[-1], sizes=sizes),
        "README.md": README.format(name=name),
    }
    staging.mkdir()
    for file, content in contents.items():
        (staging / file).write_text(content, encoding="utf-8")
