"""KerasHub's `ImageClassifier` as it compiles itself: all layers, Adam at 5e-5, no augmentation.

The network has the arguments of KerasHub's own Lite0, except what our weights need: epsilon 1e-3, and TensorFlow's
padding where the stride is 2. KerasHub pads both sides alike, as PyTorch does, and gives no choice within its blocks.
"""

from __future__ import annotations

import math

import keras
import keras_hub
import keras_training
import numpy as np
from job import CHECKED, MEAN, STD, Job, Record
from lite0 import for_keras_hub


def same_padding(length: int, kernel_size: int) -> tuple[int, int]:
    """What TensorFlow's "SAME" adds before and after a side, for a stride of 2."""
    total = max(0, 2 * (math.ceil(length / 2) - 1) + kernel_size - length)
    return total // 2, total - total // 2


def load_backbone(job: Job) -> keras.Model:
    """KerasHub's network with the weights of the job; stops unless it then computes the same features."""
    backbone = keras_hub.models.EfficientNetBackbone(
        input_shape=(job.size, job.size, 3),
        stackwise_width_coefficients=[1.0] * 7,
        stackwise_depth_coefficients=[1.0] * 7,
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        stackwise_squeeze_and_excite_ratios=[0] * 7,
        stackwise_block_types=["v1"] * 7,
        min_depth=None,
        use_depth_divisor_as_min_depth=True,
        cap_round_filter_decrease=True,
        dropout=0,
        activation="relu6",
        include_stem_padding=False,
        stem_conv_padding="same",
        batch_norm_epsilon=1e-3,
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D) and layer.strides == (2, 2):
            padding = backbone.get_layer(f"{layer.name}_pad")
            padding.padding = [same_padding(length, *layer.kernel_size[:1]) for length in padding.input.shape[1:3]]
    with np.load(job.weights) as arrays:
        weights = for_keras_hub(arrays)
    for layer in backbone.layers:
        for variable in layer.weights:
            variable.assign(weights.pop(f"{layer.name}/{variable.name}"))
    if weights:
        raise SystemExit(f"KerasHub's network must have all weights. Received: {len(weights)} without a place.")
    images = (job.images("test")[0][:CHECKED].astype("float32") - MEAN) / STD
    job.check_features(backbone.predict(images, verbose=0).mean((1, 2)))
    return backbone


def main() -> None:
    """Train within the seconds of the job, and test."""
    job = Job.load()
    keras.utils.set_random_seed(job.seed)
    backbone = load_backbone(job)
    converter = keras_hub.layers.EfficientNetImageConverter(
        image_size=(job.size, job.size), scale=1 / STD, offset=-MEAN / STD
    )
    preprocessor = keras_hub.models.EfficientNetImageClassifierPreprocessor(converter)
    model = keras_hub.models.EfficientNetImageClassifier(
        backbone, num_classes=len(job.classes), preprocessor=preprocessor
    )
    model.compile(metrics=["accuracy"], jit_compile=False)  # as in `fine_tune`
    record = Record()
    keras_training.fit(model, job, job.seconds, record)
    record.write(job, keras_training.count_correct(model, job), ("keras-hub", "keras", "tensorflow"))


if __name__ == "__main__":
    main()
