"""Fine-tune a TF Hub module with Keras 3, save it whole, and continue in another process, where the module is not.

    python examples/fine_tune_a_hub_module.py --out model.keras

Half a minute on two cores, no network: the module is made here, as one would make it for others, out of TensorFlow
alone. Any other handle will do in its place, such as HubLayer("google/resnet-v2/tensorFlow2/50-feature-vector/2").
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import keras_cnn as kc
from pipelines.sample import DIRECTORY

SIZE, CHANNELS, MOMENTUM = 64, (3, 32, 64, 128), 0.9


class Features(tf.Module):
    """Convolutions with stride 2, each with batch norm; what makes it reusable is all that it shows to the outside:
    `__call__` with a switch for training, its variables, and `regularization_losses`."""

    def __init__(self):
        super().__init__()
        self.layers = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(CHANNELS), 1):
            kernel = tf.random.stateless_normal((3, 3, inputs, outputs), (number, 0), stddev=(2 / 9 / inputs) ** 0.5)
            self.layers.append(
                {
                    "kernel": tf.Variable(kernel, name=f"conv_{number}/kernel"),
                    "gamma": tf.Variable(tf.ones(outputs), name=f"bn_{number}/gamma"),
                    "beta": tf.Variable(tf.zeros(outputs), name=f"bn_{number}/beta"),
                    "mean": tf.Variable(tf.zeros(outputs), trainable=False, name=f"bn_{number}/mean"),
                    "variance": tf.Variable(tf.ones(outputs), trainable=False, name=f"bn_{number}/variance"),
                }
            )
        self.regularization_losses = [self.weight_decay]

    @tf.function(input_signature=[])
    def weight_decay(self):
        return 1e-4 * tf.add_n([tf.nn.l2_loss(layer["kernel"]) for layer in self.layers])

    @tf.function
    def __call__(self, images, training=False):
        x = images / 127.5 - 1
        for layer in self.layers:
            x = tf.nn.conv2d(x, layer["kernel"], 2, "SAME")
            moments = (layer["mean"], layer["variance"])
            if training:
                averages, moments = moments, tf.nn.moments(x, (0, 1, 2))
                for average, moment in zip(averages, moments, strict=True):
                    average.assign(MOMENTUM * average + (1 - MOMENTUM) * moment)
            x = tf.nn.relu(tf.nn.batch_normalization(x, *moments, layer["beta"], layer["gamma"], 1e-3))
        return tf.reduce_mean(x, (1, 2))


def save_module(directory) -> None:
    module = Features()
    for training in (False, True):  # what is not traced is not saved
        module.__call__.get_concrete_function(tf.TensorSpec((None, None, None, 3)), training=training)
    tf.saved_model.save(module, directory)


def sample() -> tuple:
    """Images 0..255 and labels of the drawings: every fifth for validation, the rest for training."""
    paths = sorted(DIRECTORY.glob("*/*.png"))
    preprocessing = kc.Preprocessing((SIZE, SIZE), resize="fit")
    images = np.stack([kc.images.prepare(path.read_bytes(), preprocessing) for path in paths])
    labels = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    validation = np.arange(len(paths)) % 5 == 0
    return (images[~validation], labels[~validation]), (images[validation], labels[validation])


def begin(path, epochs) -> None:
    train, validation = sample()
    with tempfile.TemporaryDirectory() as directory:
        save_module(directory)
        layer = kc.layers.HubLayer(directory, trainable=True)
    print(f"A module of {len(layer.weights)} weights, {len(layer.trainable_weights)} of them trained.")
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layer, keras.layers.Dense(7, activation="softmax")])
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*train, epochs=epochs, verbose=0)
    print(f"After {epochs} epochs: validation accuracy {model.evaluate(*validation, verbose=0)[1]:.3f}.")
    model.save(path)
    print(f"Saved to {path}, the module within; its folder is gone.", flush=True)


def go_on(path, epochs) -> None:
    train, validation = sample()
    model = keras.models.load_model(path, safe_mode=False)  # it holds a program, which is our own
    print(f"Loaded in another process: validation accuracy {model.evaluate(*validation, verbose=0)[1]:.3f}.")
    model.fit(*train, epochs=epochs, verbose=0)
    print(f"After {epochs} more epochs: validation accuracy {model.evaluate(*validation, verbose=0)[1]:.3f}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="model.keras", help="file to save to (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="before saving, and again after (default: %(default)s)")
    parser.add_argument("--go-on", action="store_true", help="load the file and train on, instead of beginning")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    if options.go_on:
        go_on(options.out, options.epochs)
    else:
        begin(options.out, options.epochs)
        subprocess.run([sys.executable, *sys.argv, "--go-on"], check=True)


if __name__ == "__main__":
    main()
