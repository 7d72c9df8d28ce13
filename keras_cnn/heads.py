"""What sits on a backbone: each function here returns a head, a function of the last feature map.

Layer names are the same for every network: `pool`, `dropout`, `logits`, and `probabilities` (or `outputs`), so that
tools find the logits of any model built here. Heads compute in float32 under every dtype policy: half precision rounds
means and probabilities, and the rounding would end up in exported models.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from keras_cnn import arguments

__all__ = ["classification", "dense_prediction", "features", "multi_label", "regression"]


def __dir__() -> list[str]:
    return __all__


def classification(classes: int, dropout: float = 0.0) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """One label per image: average pooling, dropout, Dense, softmax.

    Args:
        classes: Number of classes, at least 2.
        dropout: Float in [0, 1). Fraction of the pooled features that is set to zero during training.

    Returns:
        A function `(batch, height, width, channels) -> (batch, classes)`: probabilities that sum to 1, in float32.
        Parameters: (channels + 1) · classes.

    Raises:
        ValueError: If `classes` or `dropout` is out of range.

    Example:
        >>> inputs = keras.Input((7, 7, 32))
        >>> classification(10, dropout=0.2)(inputs).shape
        (None, 10)
    """
    return _pooled_head("classification", _count("classification", "classes", classes, 2), dropout, "softmax")


def multi_label(classes: int, dropout: float = 0.0) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """Any number of labels per image: as `classification`, with a sigmoid for each class.

    Args:
        classes: Number of classes, at least 1.
        dropout: As in `classification`.

    Returns:
        A function `(batch, height, width, channels) -> (batch, classes)`: independent probabilities, in float32.

    Raises:
        ValueError: If `classes` or `dropout` is out of range.
    """
    return _pooled_head("multi_label", _count("multi_label", "classes", classes), dropout, "sigmoid")


def regression(units: int = 1, dropout: float = 0.0) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """Numbers instead of classes: average pooling, dropout, Dense.

    Args:
        units: How many numbers per image, at least 1.
        dropout: As in `classification`.

    Returns:
        A function `(batch, height, width, channels) -> (batch, units)`: unbounded, in float32. The last layer is named
        `outputs`.

    Raises:
        ValueError: If `units` or `dropout` is out of range.
    """
    return _pooled_head("regression", _count("regression", "units", units), dropout, None)


def features() -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """The pooled feature vector, for search and for heads that are trained elsewhere.

    Returns:
        A function `(batch, height, width, channels) -> (batch, channels)`: the mean over all positions, in float32.
    """
    return _pool


def dense_prediction(classes: int) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """One label per position (segmentation): 1 x 1 convolution and softmax over channels.

    Long et al., 2015, *Fully Convolutional Networks for Semantic Segmentation*, arXiv:1411.4038, section 3.1: the
    classifier as a convolution. The result has the size of the map. `kc.blocks.upsample` before this head brings the
    map to the size of the image.

    Args:
        classes: Number of classes, the background included, at least 2.

    Returns:
        A function `(batch, height, width, channels) -> (batch, height, width, classes)`: probabilities that sum to 1
        at each position, in float32. Parameters: (channels + 1) · classes.

    Raises:
        ValueError: If `classes` is out of range.
    """
    classes = _count("dense_prediction", "classes", classes, 2)

    def head(x: keras.KerasTensor) -> keras.KerasTensor:
        x = keras.layers.Conv2D(classes, 1, name="logits", dtype="float32")(x)
        axis = 1 if keras.config.image_data_format() == "channels_first" else -1
        return keras.layers.Softmax(axis=axis, name="probabilities", dtype="float32")(x)

    return head


def _count(owner: str, name: str, value: int, minimum: int = 1) -> int:
    if isinstance(value, keras.KerasTensor):
        raise TypeError(
            f"{owner}: `{name}` must be an integer. Received: a tensor. Make the head first: heads.{owner}(10)."
        )
    return arguments.integer(owner, name, value, minimum)


def _pooled_head(
    owner: str, units: int, dropout: float, activation: str | None
) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    rate = arguments.fraction(owner, "dropout", dropout)

    def head(x: keras.KerasTensor) -> keras.KerasTensor:
        x = _pool(x)
        if rate:
            x = keras.layers.Dropout(rate, name="dropout", dtype="float32")(x)
        if activation is None:
            return keras.layers.Dense(units, name="outputs", dtype="float32")(x)
        x = keras.layers.Dense(units, name="logits", dtype="float32")(x)
        return keras.layers.Activation(activation, name="probabilities", dtype="float32")(x)

    return head


def _pool(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
