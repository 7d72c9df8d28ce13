"""Every public block, in every form that changes its graph: `tests/blocks/test_blocks.py` puts each through one contract."""

from functools import partial
from typing import NamedTuple

import keras

from keras_cnn import blocks
from keras_cnn.layers import SqueezeExcite

INPUT = (9, 11, 6)  # odd sizes, not square: where "same" padding and strides go wrong first


class Case(NamedTuple):
    """A block applied to a map of shape INPUT.

    Attributes:
        block: Name in `keras_cnn.blocks`.
        function: The block with its arguments, but for the tensor and `name`.
        shape: Height, width and channels of the result, by hand.
        parameters: By hand: kernels, then 4 for each channel of each batch normalisation.
    """

    block: str
    function: object
    shape: tuple
    parameters: int


def _case(block, shape, parameters, **arguments):
    return Case(block, partial(getattr(blocks, block), **arguments), shape, parameters)


def _unet_step(x, name=None):
    even = keras.layers.Cropping2D(((0, 1), (0, 1)), name=f"{name}_crop")(x)
    return blocks.upsample(keras.layers.MaxPooling2D(2, name=f"{name}_down")(even), 4, skip=even, name=name)


CASES = {
    "conv": _case("conv_norm_act", (9, 11, 8), 9 * 6 * 8 + 4 * 8, filters=8),
    "conv_plain": _case(
        "conv_norm_act",
        (5, 6, 8),
        3 * 5 * 6 * 8 + 8,
        filters=8,
        kernel_size=(3, 5),
        strides=2,
        norm=None,
        activation=None,
    ),
    "conv_options": _case(
        "conv_norm_act",
        (8, 10, 8),
        9 * 3 * 8 + 8 + 2 * 8,
        filters=8,
        padding=((0, 1), (0, 1)),
        groups=2,
        use_bias=True,
        norm=keras.layers.LayerNormalization,
        activation="silu",
    ),
    "separable": _case("depthwise_separable", (9, 11, 8), 9 * 6 + 4 * 6 + 6 * 8 + 4 * 8, filters=8),
    "separable_multiplier": _case(
        "depthwise_separable",
        (5, 6, 8),
        25 * 6 * 2 + 12 * 8 + 4 * 8,
        filters=8,
        kernel_size=5,
        strides=2,
        multiplier=2,
        intermediate=False,
    ),
    "separable_padding": _case(
        "depthwise_separable", (11, 13, 8), 9 * 6 + 6 + 6 * 8 + 8, filters=8, padding=2, norm=None, activation="tanh"
    ),
    "separable_uneven": _case(
        "depthwise_separable", (5, 11, 8), 9 * 6 + 6 + 6 * 8 + 8, filters=8, strides=(2, 1), norm=None
    ),
    "inverted": _case(
        "inverted_residual",
        (9, 11, 6),
        6 * 36 + 4 * 36 + 9 * 36 + 4 * 36 + 36 * 6 + 4 * 6,
        filters=6,
        stochastic_depth=0.2,
    ),
    "inverted_squeezed": _case(
        "inverted_residual",
        (5, 6, 8),
        9 * 6 + 4 * 6 + (6 * 3 + 3) + (3 * 6 + 6) + 6 * 8 + 4 * 8,
        filters=8,
        strides=2,
        expansion=1,
        squeeze_excite=partial(SqueezeExcite, ratio=2, activation="silu"),
    ),
    "residual": _case("residual", (9, 11, 6), 2 * (9 * 6 * 6 + 4 * 6), filters=6, stochastic_depth=0.2),
    "residual_projection": _case(
        "residual",
        (5, 6, 8),
        9 * 6 * 8 + 2 * (9 * 8 * 8) + 6 * 8 + 4 * (4 * 8),
        filters=8,
        strides=2,
        layers=3,
    ),
    "residual_reflected": _case(
        "residual",
        (5, 6, 8),
        9 * 6 * 8 + 9 * 8 * 8 + 6 * 8 + 3 * 8,
        filters=8,
        strides=2,
        padding=1,
        padding_mode="reflect",
        norm=None,
    ),
    "residual_preactivated": _case(
        "residual",
        (5, 6, 8),
        4 * 6 + 9 * 6 * 8 + 4 * 8 + (9 * 8 * 8 + 8) + (6 * 8 + 8),
        filters=8,
        strides=2,
        preactivate=True,
    ),
    "bottleneck": _case("bottleneck", (9, 11, 8), 6 * 2 + 9 * 2 * 2 + 2 * 8 + 6 * 8 + 4 * (2 + 2 + 8 + 8), filters=8),
    "bottleneck_grouped": _case(
        "bottleneck",
        (5, 6, 6),
        6 * 4 + 9 * 2 * 4 + 4 * 6 + 6 * 6 + 4 * (4 + 4 + 6 + 6),
        filters=6,
        strides=2,
        width=4,
        groups=2,
        stride_in="1x1",
    ),
    "bottleneck_preactivated": _case(
        "bottleneck",
        (9, 11, 6),
        4 * 6 + 6 * 3 + 4 * 3 + 9 * 3 * 3 + 4 * 3 + (3 * 6 + 6) + (6 * 6 + 6),
        filters=6,
        width=3,
        preactivate=True,
        shortcut="projection",
    ),
    "inception": _case(
        "inception",
        (9, 11, 2 + 4 + 3 + 2 + 6 + 5),
        (6 * 2)
        + (6 * 3 + 9 * 3 * 4)
        + (6 * 2 + 3 * 2 * 3 + 3 * 3 * 3)
        + 6 * 2
        + (9 * 6 + 6 * 5)
        + 4 * (2 + 7 + 8 + 2 + 11),
        branches=[
            [(2, 1)],
            [(3, 1), (4, 3)],
            [(2, 1), (3, (1, 3)), (3, (3, 1))],
            [("max", 3), (2, 1)],
            [("min", 3)],
            [partial(blocks.depthwise_separable, filters=5)],
        ],
    ),
    "inception_reduction": _case(
        "inception",
        (4, 5, 4 + 6),
        9 * 6 * 4 + 4,
        branches=[[(4, 3, 2)], [("mean", 3, 2)]],
        padding="valid",
        norm=None,
    ),
    "upsample": _case("upsample", (18, 22, 4), 4 * 6 * 4 + 4 * 4, filters=4),
    "upsample_resized": _case(
        "upsample", (27, 33, 4), 9 * 6 * 4 + 4, filters=4, scale=3, resize="bilinear", norm=None, activation=None
    ),
    "upsample_skip": Case("upsample", _unet_step, (8, 10, 6 + 4), 4 * 6 * 4 + 4 * 4),
}
