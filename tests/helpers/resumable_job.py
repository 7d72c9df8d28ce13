"""A small job for `test_exact_resume.py`, with everything that `fit` changes.

python resumable_job.py DATA CHECKPOINTS KILL_AT_STEP
"""

import os
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_cnn.training import ExactResume

EXAMPLES, BATCH, EPOCHS, STEPS = 32, 6, 4, 6
IMAGES = np.random.default_rng(0).normal(size=(EXAMPLES, 6, 6, 3)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 4, EXAMPLES)


class Batches(keras.utils.PyDataset):
    """A new order in each epoch."""

    def __init__(self):
        super().__init__()
        self.epoch = 0

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        order = np.random.default_rng(self.epoch).permutation(EXAMPLES)[index * BATCH : (index + 1) * BATCH]
        return IMAGES[order], LABELS[order]

    def on_epoch_end(self):
        self.epoch += 1


def from_position(epoch, step):
    """The batches of an epoch from a step on."""
    seed, last = tf.stack([tf.constant(7, tf.int64), epoch]), tf.constant(EXAMPLES - 1, tf.int64)
    rows = tf.data.Dataset.range(step * BATCH, EXAMPLES)
    rows = rows.map(lambda row: tf.random.experimental.index_shuffle(row, tf.cast(seed, tf.int32), last))
    return rows.map(lambda row: (tf.gather(IMAGES, row), tf.gather(LABELS, row))).batch(BATCH)


def data(kind):
    """The same examples as each kind of data that `ExactResume` takes."""
    if kind == "dataset":
        return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).shuffle(EXAMPLES, seed=5).batch(BATCH)
    return Batches() if kind == "pydataset" else from_position


def model(rate=1e-2):
    """A network with batch norm and dropout; averages of its weights and a schedule in the optimizer."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    result = keras.Sequential([keras.Input((6, 6, 3)), *layers, keras.layers.Flatten(), keras.layers.Dense(4)])
    schedule = keras.optimizers.schedules.CosineDecay(rate, EPOCHS * STEPS)
    optimizer = keras.optimizers.AdamW(schedule, use_ema=True, ema_momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    result.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return result


def run(kind, checkpoints, kill_at=None, **options):
    """Train, or be killed after a step; returns the weights, the history and the state of early stopping."""
    network, early = model(**options), keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    resume = ExactResume(checkpoints, seconds=0, callbacks=[early])
    seen = []

    def after_step(batch, logs):
        seen.append(batch)
        if len(seen) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    killer = keras.callbacks.LambdaCallback(on_train_batch_end=after_step)
    validation = (IMAGES, LABELS)
    history = network.fit(
        resume.data(data(kind)),
        epochs=EPOCHS,
        shuffle=False,  # Keras warns that it does not shuffle a tf.data.Dataset
        callbacks=[resume, early, killer],
        validation_data=validation,
        verbose=0,
    )
    return network.get_weights(), history.history, (early.best, early.wait, early.best_epoch)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
