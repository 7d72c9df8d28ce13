"""Forward and backward time of each layer and of the nearest Keras layer, in one run.

    python benchmarks/layers.py [--turns 40] [--only TEXT] [--json]

Both layers of a pair take turns. The ratio is the median over the turns, with its quartiles. One turn is one call of a
compiled TensorFlow function: an addition, since a layer follows other operations in a network, then the layer, and the
gradients of the sum of squares with respect to the input and all weights.
"""

import statistics

import harness
import keras
import tensorflow as tf
from keras import layers as keras_layers

from keras_cnn import layers


def padded(rank, padding, *args, **kwargs):
    """Numeric padding as Keras users write it: a layer before the convolution."""
    padding_layer = getattr(keras_layers, f"ZeroPadding{rank}D")(padding)
    return keras.Sequential([padding_layer, getattr(keras_layers, f"Conv{rank}D")(*args, **kwargs)])


def gated(channels, ratio):
    """Squeeze-and-excitation out of Keras' layers."""
    pool = keras_layers.GlobalAveragePooling2D(keepdims=True)
    reduce = keras_layers.Dense(channels // ratio, activation="relu")
    expand = keras_layers.Dense(channels, activation="sigmoid")
    return lambda x: x * expand(reduce(pool(x)))


def adjoint(shape, *args):
    conv = keras_layers.Conv2D(*args, padding="same", use_bias=False)
    conv.build((None, *shape))
    return layers.ConvAdjoint2D(conv)


def transpose(*args):
    return keras_layers.Conv2DTranspose(*args, padding="same", use_bias=False)


def pairs():
    """name -> (input shape, layer of ours, layer of Keras)."""
    ours, of_keras = layers, keras_layers
    image, wide, video, sound = (16, 56, 56, 64), (16, 112, 112, 16), (4, 16, 32, 32, 16), (32, 1024, 32)
    return {
        "conv2d 3x3, padding 1": (image, ours.Conv2D(64, 3, padding=1), padded(2, 1, 64, 3)),
        "conv2d 3x3 / 2, padding 1": (image, ours.Conv2D(64, 3, 2, padding=1), padded(2, 1, 64, 3, 2)),
        "conv2d 7x7 / 2, padding 3": ((8, 224, 224, 3), ours.Conv2D(64, 7, 2, padding=3), padded(2, 3, 64, 7, 2)),
        "conv2d 3x3, padding (0, 2)": (
            image,
            ours.Conv2D(64, 3, padding=((0, 2), (0, 2))),
            padded(2, ((0, 2), (0, 2)), 64, 3),
        ),
        "conv1d 5, padding 2": (sound, ours.Conv1D(32, 5, padding=2), padded(1, 2, 32, 5)),
        "conv1d 5, padding (4, 0)": (sound, ours.Conv1D(32, 5, padding=(4, 0)), padded(1, (4, 0), 32, 5)),
        "conv3d 3x3x3, padding 1": (video, ours.Conv3D(16, 3, padding=1), padded(3, 1, 16, 3)),
        "conv2d 3x3, padding 1 reflect": (
            image,
            ours.Conv2D(64, 3, padding=1, padding_mode="reflect"),
            padded(2, 1, 64, 3),
        ),
        "adjoint 3x3 / 2": ((16, 28, 28, 64), adjoint((56, 56, 32), 64, 3, 2), transpose(32, 3, 2)),
        "adjoint 3x3 / 2, odd size": ((16, 28, 28, 64), adjoint((55, 55, 32), 64, 3, 2), transpose(32, 3, 2)),
        "adjoint 3x3": ((16, 28, 28, 64), adjoint((28, 28, 64), 64, 3), transpose(64, 3)),
        "min pooling1d 2": (sound, ours.MinPooling1D(2), of_keras.MaxPooling1D(2)),
        "min pooling2d 2x2": (wide, ours.MinPooling2D(2), of_keras.MaxPooling2D(2)),
        "min pooling2d 3x3 / 2": (image, ours.MinPooling2D(3, 2, "same"), of_keras.MaxPooling2D(3, 2, "same")),
        "min pooling3d 2x2x2": (video, ours.MinPooling3D(2), of_keras.MaxPooling3D(2)),
        "global min pooling2d": (image, ours.GlobalMinPooling2D(), of_keras.GlobalMaxPooling2D()),
        "blur pool2d 3x3 / 2": (image, ours.BlurPool2D(), of_keras.DepthwiseConv2D(3, 2, "same", use_bias=False)),
        "squeeze-excite": (image, ours.SqueezeExcite(16), gated(64, 16)),
        "stochastic depth": (image, ours.StochasticDepth(0.2), of_keras.Dropout(0.2, noise_shape=(None, 1, 1, 1))),
    }


def step(layer, shape):
    """A function that computes the gradients and returns the milliseconds of that; it is compiled already."""
    x = tf.random.stateless_normal(shape, (0, 0))
    takes_training = isinstance(layer, (layers.StochasticDepth, keras_layers.Dropout))

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x + 1.0, training=True) if takes_training else layer(x + 1.0)
            loss = tf.reduce_sum(y * y)
        return loss, tape.gradient(loss, [x, *tape.watched_variables()])

    def compute():
        loss, found = gradients(x)
        return loss.numpy(), found

    def run():
        _, seconds = harness.timed(compute)
        return 1000 * seconds.elapsed

    layer(x)  # makes the weights
    for _ in range(3):
        run()
    return run


def measure(shape, ours, of_keras, turns):
    """Medians: milliseconds of both, and the ratio of ours to Keras' within a turn, with its quartiles."""
    times = harness.take_turns({"ours": step(ours, shape), "Keras": step(of_keras, shape)}, turns, warmup=0)
    ratios = harness.paired_ratios(times["ours"], times["Keras"])
    return {
        "ours_ms": statistics.median(times["ours"]),
        "keras_ms": statistics.median(times["Keras"]),
        "ratio": statistics.median(ratios),
        "quartiles": harness.quartiles(ratios),
    }


def main():
    parser = harness.parser(__doc__, turns=40)
    parser.add_argument("--only", default="", metavar="TEXT", help="only layers with this text in their name")
    options = parser.parse_args()
    chosen = {name: pair for name, pair in pairs().items() if options.only in name}
    rows = ({"layer": name, **measure(*pair, options.turns)} for name, pair in chosen.items())
    harness.show(harness.echo(rows), options.json)


if __name__ == "__main__":
    main()
