"""Receptive fields against what the outputs of real networks depend on: random networks, and layers of all kinds."""

import keras
import pytest
from helpers.observed_cells import assert_as_observed, changed_cells
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import keras_cnn as kc
from keras_cnn.analysis import analyze
from keras_cnn.geometry import Field

SIDES = (90, 32)  # by rank
KERNEL = {"use_bias": False, "kernel_initializer": "ones"}
SEPARABLE = {"use_bias": False, "depthwise_initializer": "ones", "pointwise_initializer": "ones"}


@st.composite
def steps(draw, rank, kinds):
    """A function of a tensor: one layer with all-ones weights, drawn among those that keep the map large enough."""
    kind = draw(st.sampled_from(kinds))
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from(["valid", "same"]))
    amounts = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    pairs = amounts if rank == 1 else (amounts, amounts[::-1])
    axis, mode = draw(st.integers(1, rank)), draw(st.sampled_from(["reflect", "replicate", "circular"]))

    def layer(name, *args, module=layers, **options):
        return getattr(module, f"{name}{rank}D")(*args, **options)

    output_padding = draw(st.sampled_from([None, 0, stride - 1]))
    # Keras' "same" with `output_padding` has sizes that TensorFlow refuses for even kernels.
    odd = kernel + 1 if output_padding is not None and kernel % 2 == 0 else kernel
    transpose = getattr(layers, f"Conv{rank}DTranspose")
    widths = ((0, 0), *([pairs] if rank == 1 else pairs), (0, 0))
    along = (slice(None),) * axis
    make = {
        "conv": lambda: layer("Conv", 1, kernel, stride, padding, **KERNEL),
        "dilated": lambda: layer("Conv", 1, kernel, padding=padding, dilation_rate=stride, **KERNEL),
        "numeric": lambda: layer("Conv", 1, kernel, stride, pairs, module=kc.layers, **KERNEL),
        "padded with copies": lambda: layer(
            "Conv", 1, kernel, stride, pairs, padding_mode=mode, module=kc.layers, **KERNEL
        ),
        "separable": lambda: layer("SeparableConv", 1, kernel, stride, padding, **SEPARABLE),
        "pool": lambda: layer("AveragePooling", kernel, stride, padding),
        "pad": lambda: layer("ZeroPadding", pairs),
        "crop": lambda: layer("Cropping", pairs),
        "reflect": lambda: lambda x: ops.pad(x, widths, "symmetric" if mode == "circular" else "reflect"),
        "upsample": lambda: layer("UpSampling", stride),
        "transposed": lambda: transpose(1, odd, stride, padding, output_padding=output_padding, **KERNEL),
        "flip": lambda: lambda x: ops.flip(x, axis),
        "roll": lambda: lambda x: ops.roll(x, kernel - 2, axis),
        "repeat": lambda: lambda x: ops.repeat(x, stride, axis),
        "take": lambda: lambda x: ops.take(x, [0, *range(kernel, x.shape[axis]), 1], axis),
        "slice": lambda: lambda x: x[(*along, slice(kernel, None, stride))] + x[(*along, slice(0, -kernel, stride))],
        "backwards": lambda: lambda x: x[(*along, slice(-kernel, None, -1))],
        "joined": lambda: lambda x: ops.concatenate(ops.split(x, [kernel], axis)[::-1], axis),
        "ring": lambda: lambda x: ops.concatenate([x[(*along, slice(-kernel, None))], x], axis),
    }
    return make[kind]()


PLAIN = [
    "conv",
    "dilated",
    "numeric",
    "padded with copies",
    "separable",
    "pool",
    "pad",
    "crop",
    "upsample",
    "transposed",
    "conv",
]
MOVES = ["reflect", "flip", "roll", "repeat", "take", "slice", "backwards", "joined", "ring"]


def trimmed(branches):
    """The branches cut at the end to their common size."""
    sizes = [min(axis) for axis in zip(*(branch.shape[1:-1] for branch in branches), strict=True)]
    return [branch[(slice(None), *(slice(0, size) for size in sizes))] for branch in branches]


@st.composite
def networks(draw, rank, kinds, depth):
    """A network of layers, with residual and inception-like branches of equal stride."""
    side = SIDES[rank - 1]
    inputs = x = keras.Input((*(side, side - 5)[:rank], 1))
    for _ in range(draw(st.integers(1, depth))):
        if draw(st.integers(0, 2)):
            y = draw(steps(rank, kinds))(x)
        else:
            stride = draw(st.integers(1, 2))
            conv = getattr(layers, f"Conv{rank}D")
            branches = [
                conv(1, draw(st.integers(1, 4)), stride, draw(st.sampled_from(["same", "valid"])), **KERNEL)(x)
                for _ in range(draw(st.integers(1, 2)))
            ]
            branches.append(x if stride == 1 else getattr(layers, f"AveragePooling{rank}D")(2, 2, "same")(x))
            merge = draw(st.sampled_from([layers.Add(), layers.Concatenate(), layers.Average()]))
            y = merge(trimmed(branches))
        if not all(10 <= size <= 2 * side for size in y.shape[1:-1]):
            continue
        x = y
    assume(x is not inputs)
    return keras.Model(inputs, x)


proof = settings(max_examples=30, derandomize=True, database=None)
ONE_AXIS, TWO_AXES = networks(1, PLAIN + MOVES, depth=6), networks(2, PLAIN * 2 + MOVES, depth=5)


@pytest.mark.slow
@proof
@given(ONE_AXIS)
def test_random_networks_of_one_axis(model):
    assert_as_observed(model)


@settings(proof, max_examples=12)
@given(TWO_AXES)
def test_random_networks_of_two_axes(model):
    assert_as_observed(model)


@pytest.mark.slow
@settings(proof, max_examples=150)
@given(ONE_AXIS)
def test_many_random_networks_of_one_axis(model):
    assert_as_observed(model)


@pytest.mark.slow
@settings(proof, max_examples=60)
@given(TWO_AXES)
def test_many_random_networks_of_two_axes(model):
    assert_as_observed(model)


def space_to_depth(x):
    _, height, width, channels = x.shape
    x = ops.transpose(ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height // 2, width // 2, 4 * channels))


def sub_pixels(x):
    """Twice as large, one map of every four."""
    _, height, width, channels = x.shape
    x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((height, width, 2, 2, channels // 4))(x))
    return layers.Reshape((height * 2, width * 2, channels // 4))(x)


def there_and_back(x):
    """Through a row of tokens, as in transformers on maps."""
    tokens = layers.Dense(2)(layers.Reshape((-1, x.shape[-1]))(x))
    return layers.Reshape((*x.shape[1:-1], 2))(tokens)


def windows(x):
    """Each unit is divided by the norm of the 4 x 4 window that it lies in."""
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height // 4, 4, width // 4, 4, channels))
    tokens = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height // 4, width // 4, 16, channels))
    mixed = layers.UnitNormalization(axis=3)(tokens)
    x = ops.transpose(ops.reshape(mixed, (-1, height // 4, width // 4, 4, 4, channels)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, channels))


def within_strips(x):
    """A convolution that does not leave its strip of 4 rows."""
    _, height, width, channels = x.shape
    x = layers.Conv3D(2, (1, 3, 1), padding="same")(ops.reshape(x, (-1, height // 4, 4, width, channels)))
    return ops.reshape(x, (-1, height, width, 2))


def adjoint(**options):
    def function(x):
        conv = kc.layers.Conv2D(2, 3, 2, **options)
        return kc.layers.ConvAdjoint2D(conv)(conv(x))

    return function


class Scaled(layers.Layer):
    """A layer of someone, with the weight on the left."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return self.scale * x[:, 2:] + 1.0


def padded_and_cropped(x):
    """As in NASNet: one branch has rows where the other has nothing but padding."""
    other = layers.Cropping2D(((1, 0), (1, 0)))(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    return layers.Concatenate()([layers.AveragePooling2D(1, 2)(x), layers.AveragePooling2D(1, 2)(other)])


# What a network is made of, after a convolution of three cells.
LAYERS = {
    "adaptive pooling": layers.AdaptiveAveragePooling2D((9, 7)),
    "adjoint": adjoint(padding=1),
    "adjoint of a ring": adjoint(padding=2, padding_mode="circular"),
    "antialiased": layers.Resizing(9, 7, antialias=True),
    "antialiased bicubic": lambda x: ops.image.resize(x, (11, 8), "bicubic", antialias=True),
    "batch norm": layers.BatchNormalization(),
    "bicubic resizing": layers.Resizing(30, 28, interpolation="bicubic"),
    "bilinear": layers.UpSampling2D(3, interpolation="bilinear"),
    "blur": kc.layers.BlurPool2D(),
    "centre crop": layers.CenterCrop(15, 14),
    "channel softmax": layers.Softmax(),
    "cropped to the ratio": layers.Resizing(10, 12, crop_to_aspect_ratio=True),
    "depth to space": lambda x: ops.depth_to_space(x, 2),
    "depthwise": layers.DepthwiseConv2D(3, strides=2),
    "depthwise on folded cells": lambda x: layers.DepthwiseConv2D(3)(space_to_depth(x)),
    "flipped": lambda x: layers.Conv2D(2, 3, 2, padding="same")(ops.flip(x, (1, 2))) + 1.0,
    "folded and unfolded": lambda x: ops.depth_to_space(layers.DepthwiseConv2D(3)(ops.space_to_depth(x, 2)), 2),
    "grouped": layers.Conv2D(4, 3, groups=2, dilation_rate=2),
    "grouped on folded cells": lambda x: layers.Conv2D(4, 3, groups=4)(space_to_depth(x)),
    "lanczos": lambda x: layers.Resizing(36, 30, interpolation="lanczos3")(x),
    "max pooling": layers.MaxPooling2D(3, 2, padding="same"),
    "min pooling": kc.layers.MinPooling2D(3, 2, padding="same"),
    "moved axis": lambda x: ops.moveaxis(layers.Conv2D(2, (4, 1))(ops.moveaxis(x, 1, 2)), 1, 2),
    "nearest resizing": layers.Resizing(31, 13, interpolation="nearest"),
    "operations": lambda x: ops.relu(ops.pad(x, ((0, 0), (2, 0), (0, 1), (0, 0))))[:, 3:-2, ::2] * 2.0 + 1.0,
    "padded and cropped": padded_and_cropped,
    "patches": lambda x: layers.Dense(3)(ops.image.extract_patches(x, (4, 3), (2, 3), padding="same")),
    "permute": lambda x: layers.Permute((2, 1, 3))(layers.Conv2D(2, (1, 5))(layers.Permute((2, 1, 3))(x))),
    "reflecting": kc.layers.Conv2D(2, 5, padding=((3, 0), (2, 4)), padding_mode="reflect"),
    "resizing": layers.Resizing(18, 33),
    "scaled": Scaled(),
    "sliced": lambda x: ops.slice(x, (0, 3, 1, 0), (1, 8, 9, 4)) if x.shape[0] == 1 else x[:, 3:11, 1:10],
    "space to depth": lambda x: layers.Conv2D(2, 3)(space_to_depth(x)),
    "squeezed": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1)[:, 4:],
    "stacked": lambda x: layers.Dense(2)(ops.stack([x, layers.Conv2D(4, 3, padding="same")(x)], axis=-1))[..., 0],
    "strips": within_strips,
    "sub-pixels": sub_pixels,
    "sub-pixels and more": lambda x: layers.Conv2D(2, 3)(sub_pixels(x)),
    "sub-pixels beside others": lambda x: layers.Add()([sub_pixels(x), layers.UpSampling2D(2)(x[..., :1])]),
    "swapped axes": lambda x: ops.swapaxes(layers.Conv2D(2, (4, 1))(ops.swapaxes(x, 1, 2)), 1, 2),
    "tiled": lambda x: layers.Conv2D(2, 3)(ops.tile(x, (1, 2, 1, 1))),
    "tokens": there_and_back,
    "unstacked": lambda x: ops.add(*ops.unstack(layers.Reshape((2, 12, 20, 4))(x), axis=1)),
    "weight standardisation": lambda x: layers.SpectralNormalization(layers.Conv2D(2, 3))(x),
    "windows": windows,
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_all_kinds(name):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((24, 20, 3))
    model = keras.Model(inputs, LAYERS[name](layers.Conv2D(4, 3, padding="same")(inputs)))
    assert not any("may see less" in note or "not known" in note for note in analyze(model).notes)
    assert_as_observed(model, changed_cells)


# A unit of these sees the whole map in addition to its own position, or nothing else.
GLOBAL = {
    "squeeze-excite": (kc.layers.SqueezeExcite(2), True),
    "group norm": (layers.GroupNormalization(2), True),
    "gates": (lambda x: x * layers.Dense(4, "sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x)), True),
    "merged gates": (lambda x: layers.Multiply()([x, layers.Dense(4, "tanh")(layers.GlobalMaxPooling2D()(x))]), True),
    "attention": (lambda x: layers.MultiHeadAttention(1, 2)(*[layers.Reshape((-1, 4))(x)] * 2), True),
    "attention on maps": (lambda x: layers.MultiHeadAttention(1, 2, attention_axes=(1, 2))(x, x), True),
    "attention of values": (lambda x: layers.Attention()([layers.Reshape((-1, 4))(x)] * 2), True),
    "additive attention": (lambda x: layers.AdditiveAttention()([layers.Reshape((-1, 4))(x)] * 2), True),
    "flatten": (lambda x: layers.Dense(2)(layers.Flatten()(x)), False),
    "mean": (lambda x: ops.mean(x, (1, 2)), False),
    "moments": (lambda x: ops.moments(x, (1, 2))[1], False),
    "recurrent": (lambda x: layers.LSTM(2)(layers.Reshape((8, 28))(x)), False),
    "recurrent cells": (
        lambda x: layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)])(layers.Reshape((8, 28))(x)),
        False,
    ),
    "state": (lambda x: layers.GRU(2, return_state=True)(layers.Reshape((8, 28))(x))[1] * 1.0, False),
    "state handed on": (
        lambda x: layers.SimpleRNN(2)(ops.zeros_like(x[:, :2, 0]), initial_state=ops.mean(x, (1, 2))[:, :2]),
        False,
    ),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_global_branches_are_separate(name):
    keras.utils.set_random_seed(2)
    function, has_local = GLOBAL[name]
    inputs = keras.Input((8, 7, 3))
    model = keras.Model(inputs, function(layers.Conv2D(4, 3, padding="same")(inputs)))
    found = analyze(model)
    row = found.rows[-1]
    assert all(changed_cells(model, axis, amount=1.0, threshold=1e-6).all() for axis in (0, 1))
    assert not found.notes
    if has_local:
        assert row.receptive_field == (Field(3, 1, 1),) * 2 and not row.sees_whole_input
        assert row.global_field == (Field(10, 0, 1), Field(9, 0, 1))
    else:
        assert (
            row.receptive_field == (Field(10, 0, 1), Field(9, 0, 1))
            and row.sees_whole_input
            and row.global_field is None
        )
