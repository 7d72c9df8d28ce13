"""What sits on a backbone: each function here returns a head, a function of the last feature map.

Layer names are the same for every network: `pool`, `dropout`, `logits`, and `probabilities` (or `outputs`), so that
tools find the logits of any model built here. Heads compute in float32 whatever the dtype policy: half precision
rounds means and probabilities, and the rounding would end up in exported models.
"""

from __future__ import annotations

import keras

from keras_cnn import arguments


def classification(classes: int, dropout: float = 0.0):
    """One label an image: average pooling, dropout, Dense, softmax.

    Args:
        classes: Number of classes, at least 2.
        dropout: Float in [0, 1). Share of the pooled features set to zero during training.

    Returns:
        A function `(batch, height, width, channels) -> (batch, classes)`, probabilities that sum to 1, float32.
        Parameters: (channels + 1) · classes.
    """
    return _pooled("classification", _count("classification", "classes", classes, 2), dropout, "softmax")


def multi_label(classes: int, dropout: float = 0.0):
    """Any number of labels an image: as `classification`, with a sigmoid for each class.

    Args:
        classes: Number of classes, at least 1.
        dropout: As in `classification`.

    Returns:
        A function `(batch, height, width, channels) -> (batch, classes)`, independent probabilities, float32.
    """
    return _pooled("multi_label", _count("multi_label", "classes", classes), dropout, "sigmoid")


def regression(units: int = 1, dropout: float = 0.0):
    """Numbers instead of classes: average pooling, dropout, Dense.

    Args:
        units: How many numbers an image, at least 1.
        dropout: As in `classification`.

    Returns:
        A function `(batch, height, width, channels) -> (batch, units)`, unbounded, float32; the layer is `outputs`.
    """
    return _pooled("regression", _count("regression", "units", units), dropout, None)


def features():
    """The pooled feature vector, for search and for heads that are trained elsewhere.

    Returns:
        A function `(batch, height, width, channels) -> (batch, channels)`, the mean over all positions, float32.
    """
    return _pool


def dense_prediction(classes: int):
    """One label a position (segmentation): 1 x 1 convolution and softmax over channels.

    Long et al., 2015, *Fully Convolutional Networks for Semantic Segmentation*, arXiv:1411.4038, section 3.1: the
    classifier as a convolution. The result has the size of the map; `kc.blocks.upsample` before it brings that to the
    image's.

    Args:
        classes: Number of classes, background among them, at least 2.

    Returns:
        A function `(batch, height, width, channels) -> (batch, height, width, classes)`, probabilities that sum to 1
        at each position, float32. Parameters: (channels + 1) · classes.
    """
    classes = _count("dense_prediction", "classes", classes, 2)

    def head(x):
        x = keras.layers.Conv2D(classes, 1, name="logits", dtype="float32")(x)
        axis = 1 if keras.config.image_data_format() == "channels_first" else -1
        return keras.layers.Softmax(axis=axis, name="probabilities", dtype="float32")(x)

    return head


def _count(owner, name, value, minimum=1):
    if isinstance(value, keras.KerasTensor):
        raise TypeError(f"{owner}: got a tensor; call it to make a head: heads.{owner}(10).")
    return arguments.integer(owner, name, value, minimum)


def _pooled(owner, units, dropout, activation):
    rate = arguments.fraction(owner, "dropout", dropout)

    def head(x):
        x = _pool(x)
        if rate:
            x = keras.layers.Dropout(rate, name="dropout", dtype="float32")(x)
        if activation is None:
            return keras.layers.Dense(units, name="outputs", dtype="float32")(x)
        x = keras.layers.Dense(units, name="logits", dtype="float32")(x)
        return keras.layers.Activation(activation, name="probabilities", dtype="float32")(x)

    return head


def _pool(x):
    return keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
