"""Convert an official EfficientNet-Lite checkpoint of TensorFlow 1 to a file for `keras_cnn.load_backbone`.

    curl -O https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet/lite/efficientnet-lite4.tar.gz
    tar xzf efficientnet-lite4.tar.gz
    python tools/convert_lite_checkpoint.py efficientnet-lite4/model.ckpt efficientnet_lite4

and then `load_backbone("efficientnet_lite4", weights="efficientnet_lite4.npz")`. The checkpoint numbers the layers of a block
by kind, in the order of computation; of each weight it holds a moving average too, which is the one that was published.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from keras_cnn.backbones.efficientnet_lite import VARIANTS, classifier

AVERAGE = "/ExponentialMovingAverage"


def names(model) -> dict[str, str]:
    """`layer/weight` of the Keras model -> the name in the checkpoint, without the network's."""
    found = {}
    for layer in model.layers:
        for variable in layer.weights:
            kind = "depthwise_kernel" if layer.name.endswith("depthwise_conv") else variable.name
            found[f"{layer.name}/{variable.name}"] = f"{_place(layer.name, model)}/{kind}"
    return found


def _place(layer, model):
    ends = {"stem_conv": "stem/conv2d", "top_conv": "head/conv2d", "logits": "head/dense"}
    ends |= {"stem_bn": "stem/tpu_batch_normalization", "top_bn": "head/tpu_batch_normalization"}
    if layer in ends:
        return ends[layer]
    block, part, kind = layer.split("_")
    if part == "depthwise" and kind == "conv":
        same_kind = ["depthwise"]
    else:
        same_kind = ["expand", "project"] if kind == "conv" else ["expand", "depthwise", "project"]
    made = {one.name for one in model.layers}
    number = [one for one in same_kind if f"{block}_{one}_{kind}" in made].index(part)
    name = {"conv": "depthwise_conv2d" if part == "depthwise" else "conv2d", "bn": "tpu_batch_normalization"}[kind]
    return f"blocks_{int(block.removeprefix('block')) - 1}/{name}" + (f"_{number}" if number else "")


def convert(checkpoint: str, name: str) -> dict[str, np.ndarray]:
    """The arrays of the checkpoint by `layer/weight`."""
    reader, root = tf.train.load_checkpoint(checkpoint), name.replace("_", "-")
    kept = reader.get_variable_to_shape_map()
    places = {entry: f"{root}/{place}" for entry, place in names(classifier(name, None)).items()}
    places = {entry: place + AVERAGE if place + AVERAGE in kept else place for entry, place in places.items()}
    return {entry: reader.get_tensor(place) for entry, place in places.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="such as efficientnet-lite4/model.ckpt")
    parser.add_argument("name", choices=VARIANTS)
    arguments = parser.parse_args()
    out = Path(f"{arguments.name}.npz")
    np.savez_compressed(out, **convert(arguments.checkpoint, arguments.name))
    print(f"{out}, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
