"""The recipe of https://keras.io/guides/transfer_learning: the head on a frozen network, then all layers at 1e-5.

Flips and rotations, dropout, Adam; batch normalisation infers in both parts. Each part has half of the seconds, because
the guide does not say how long to train. The guide reads images by `image_dataset_from_directory`, which squashes them to
one size, and caches them; here they come from memory as well.
"""

from __future__ import annotations

import keras
import keras_training
from job import CHECKED, Job, Record

import keras_cnn as kc

HEAD_RATE, RATE = 1e-3, 1e-5  # of the two parts


def build(base: keras.Model, classes: int) -> keras.Model:
    """Images 0..255 -> logits."""
    inputs = keras.Input(base.input_shape[1:])
    x = keras.layers.RandomRotation(0.1)(keras.layers.RandomFlip("horizontal")(inputs))
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Dropout(0.2)(x)))


def main() -> None:
    """Train within the seconds of the job, and test."""
    job = Job.load()
    keras.utils.set_random_seed(job.seed)
    base = kc.load_backbone("efficientnet_lite0", (job.size, job.size, 3)).model
    job.check_features(base.predict(job.images("test")[0][:CHECKED], verbose=0).mean((1, 2)))
    model = build(base, len(job.classes))
    record = Record()
    for trainable, rate, share in ((False, HEAD_RATE, 1 / 2), (True, RATE, 1)):
        base.trainable = trainable
        model.compile(
            keras.optimizers.Adam(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,  # as in `fine_tune`: on a processor a compiled step is slower
        )
        keras_training.fit(model, job, share * job.seconds, record)
    record.write(job, keras_training.count_correct(model, job), ("keras", "tensorflow"))


if __name__ == "__main__":
    main()
