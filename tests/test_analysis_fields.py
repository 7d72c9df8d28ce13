"""Receptive fields: random networks against what their outputs depend on, published numbers, and every layer by hand."""

import re
from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import keras_cnn as kc
from keras_cnn.analysis import analyze, receptive_field
from keras_cnn.geometry import Field

SIDES = (160, 48)  # by rank: of one axis the networks may grow deep
KERNEL = {"use_bias": False, "kernel_initializer": "ones"}
SEPARABLE = {"use_bias": False, "depthwise_initializer": "ones", "pointwise_initializer": "ones"}


def seen_cells(model, axis):
    """(cells, *units): whether each unit depends on a slab of cells across `axis`.

    The networks here are linear and their weights positive, so the response to a slab of ones is the sum of the input
    gradient over it, of all units at once, and cannot cancel.
    """
    *sizes, channels = model.input_shape[1:]
    slabs = np.zeros((sizes[axis], *sizes, channels), "float32")
    for cell in range(sizes[axis]):
        np.moveaxis(slabs[cell], axis, 0)[cell] = 1
    return keras.ops.convert_to_numpy(model(slabs)).sum(-1) > 0


def extent(cells):
    places = np.flatnonzero(cells)
    return (int(places[0]), int(places[-1])) if len(places) else (None, None)


def assert_as_observed(model, units=2):
    """Boxes of the middle units are the extent of what they depend on; no unit depends on cells outside its box."""
    row = analyze(model).rows[-1]
    for axis, size in enumerate(model.input_shape[1:-1]):
        assume(row.field[axis].size <= size / 3)  # else the middle units see the border
        cells = seen_cells(model, axis)
        middle = [count // 2 for count in cells.shape[1:]]
        for place in range(cells.shape[axis + 1]):
            unit = (*middle[:axis], place, *middle[axis + 1 :])
            observed, said = extent(cells[(slice(None), *unit)]), row.box(unit)[axis]
            if abs(place - middle[axis]) <= units:
                assert observed == said, (axis, unit)
            elif observed[0] is not None:
                assert said[0] <= observed[0] and observed[1] <= said[1], (axis, unit)


@st.composite
def steps(draw, rank, kinds):
    """A function of a tensor: one layer with all-ones weights, drawn among those that keep the map large enough."""
    kind = draw(st.sampled_from(kinds))
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from(["valid", "same"]))
    amounts = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    pairs = amounts if rank == 1 else (amounts, amounts[::-1])

    def layer(name, *args, module=layers, **options):
        return getattr(module, f"{name}{rank}D")(*args, **options)

    output_padding = draw(st.sampled_from([None, 0, stride - 1]))
    # Kernels smaller than the stride leave gaps. Keras' "same" with `output_padding` has sizes that TensorFlow refuses
    # for even kernels.
    wide = max(kernel, stride) if rank > 1 else kernel
    wide += 1 if output_padding is not None and wide % 2 == 0 else 0
    transpose = getattr(layers, f"Conv{rank}DTranspose")
    make = {
        "conv": lambda: layer("Conv", 1, kernel, stride, padding, **KERNEL),
        "dilated": lambda: layer("Conv", 1, kernel, padding=padding, dilation_rate=stride, **KERNEL),
        "numeric": lambda: layer("Conv", 1, kernel, stride, pairs, module=kc.layers, **KERNEL),
        "separable": lambda: layer("SeparableConv", 1, kernel, stride, padding, **SEPARABLE),
        "pool": lambda: layer("AveragePooling", kernel, stride, padding),
        "pad": lambda: layer("ZeroPadding", pairs),
        "crop": lambda: layer("Cropping", pairs),
        "upsample": lambda: layer("UpSampling", stride),
        "transposed": lambda: transpose(1, wide, stride, padding, output_padding=output_padding, **KERNEL),
    }
    return make[kind]()


PLAIN = ["conv", "dilated", "numeric", "separable", "pool", "pad", "crop"]
ALL = [*PLAIN, "conv", "upsample", "transposed"]


def trimmed(branches):
    """The branches cut at the end to their common size."""
    sizes = [min(axis) for axis in zip(*(branch.shape[1:-1] for branch in branches), strict=True)]
    return [branch[(slice(None), *(slice(0, size) for size in sizes))] for branch in branches]


@st.composite
def networks(draw, rank, kinds=ALL, depth=6):
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


proof = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@proof
@given(networks(1))
def test_random_networks_of_one_axis(model):
    assert_as_observed(model)


@settings(proof, max_examples=60)
@given(networks(2, depth=4))
def test_random_networks_of_two_axes(model):
    assert_as_observed(model)


def space_to_depth(x):
    _, height, width, channels = x.shape
    x = ops.transpose(ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height // 2, width // 2, 4 * channels))


def depth_to_space(x):
    _, height, width, channels = x.shape
    x = ops.transpose(ops.reshape(x, (-1, height, width, 2, 2, channels // 4)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height * 2, width * 2, channels // 4))


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


def adjoint(x):
    conv = kc.layers.Conv2D(2, 3, 2, padding=1)
    return kc.layers.ConvAdjoint2D(conv)(conv(x))


# What a network is made of, after a convolution of three cells.
LAYERS = {
    "adjoint": adjoint,
    "adaptive pooling": layers.AdaptiveAveragePooling2D((9, 7)),
    "batch norm": layers.BatchNormalization(),
    "bilinear": layers.UpSampling2D(3, interpolation="bilinear"),
    "bicubic resizing": layers.Resizing(30, 28, interpolation="bicubic"),
    "blur": kc.layers.BlurPool2D(),
    "centre crop": layers.CenterCrop(15, 14),
    "channel softmax": layers.Softmax(),
    "depth to space": lambda x: layers.Conv2D(2, 3)(depth_to_space(x)),
    "depthwise": layers.DepthwiseConv2D(3, strides=2),
    "grouped": layers.Conv2D(4, 3, groups=2, dilation_rate=2),
    "max pooling": layers.MaxPooling2D(3, 2, padding="same"),
    "min pooling": kc.layers.MinPooling2D(3, 2, padding="same"),
    "nearest resizing": layers.Resizing(31, 13, interpolation="nearest"),
    "operations": lambda x: ops.relu(ops.pad(x, ((0, 0), (2, 0), (0, 1), (0, 0))))[:, 3:-2, ::2] * 2.0 + 1.0,
    "permute": lambda x: layers.Permute((2, 1, 3))(layers.Conv2D(2, (1, 5))(layers.Permute((2, 1, 3))(x))),
    "resizing": layers.Resizing(18, 33),
    "space to depth": lambda x: layers.Conv2D(2, 3)(space_to_depth(x)),
    "swapped axes": lambda x: ops.swapaxes(layers.Conv2D(2, (4, 1))(ops.swapaxes(x, 1, 2)), 1, 2),
    "tokens": there_and_back,
    "weight standardisation": lambda x: layers.SpectralNormalization(layers.Conv2D(2, 3))(x),
    "windows": windows,
}


def changed_cells(model, axis, amount=100.0, seed=0):
    """(cells, *units): whether each unit changes with a slab of cells across `axis`, up or down."""
    *sizes, channels = model.input_shape[1:]
    base = np.random.default_rng(seed).normal(size=(1, *sizes, channels)).astype("float32")
    slabs = np.zeros((sizes[axis], *sizes, channels), "float32")
    for cell in range(sizes[axis]):
        np.moveaxis(slabs[cell], axis, 0)[cell] = amount
    batch = np.concatenate([base, base + slabs, base - slabs])
    found = ops.convert_to_numpy(model(batch))
    changes = np.abs(found[1:] - found[:1]).max(-1) > 1e-4
    return changes[: sizes[axis]] | changes[sizes[axis] :]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_all_kinds(name):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((24, 20, 3))
    model = keras.Model(inputs, LAYERS[name](layers.Conv2D(4, 3, padding="same")(inputs)))
    found = analyze(model)
    assert not found.notes
    for axis in range(2):
        cells = changed_cells(model, axis)
        middle = [count // 2 for count in cells.shape[1:]]
        for place in range(middle[axis] - 2, middle[axis] + 3):
            unit = (*middle[:axis], place, *middle[axis + 1 :])
            assert extent(cells[(slice(None), *unit)]) == found.rows[-1].box(unit)[axis], (axis, unit)


# A unit of these sees the whole map besides its own place, or nothing else.
GLOBAL = {
    "squeeze-excite": (kc.layers.SqueezeExcite(2), True),
    "group norm": (layers.GroupNormalization(2), True),
    "gates": (lambda x: x * layers.Dense(4, "sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x)), True),
    "merged gates": (lambda x: layers.Multiply()([x, layers.Dense(4, "tanh")(layers.GlobalMaxPooling2D()(x))]), True),
    "attention": (lambda x: layers.MultiHeadAttention(1, 2)(*[layers.Reshape((-1, 4))(x)] * 2), True),
    "flatten": (lambda x: layers.Dense(2)(layers.Flatten()(x)), False),
    "mean": (lambda x: ops.mean(x, (1, 2)), False),
    "recurrent": (lambda x: layers.LSTM(2)(layers.Reshape((8, 28))(x)), False),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_global_branches_are_told_apart(name):
    keras.utils.set_random_seed(2)
    function, has_local = GLOBAL[name]
    inputs = keras.Input((8, 7, 3))
    model = keras.Model(inputs, function(layers.Conv2D(4, 3, padding="same")(inputs)))
    found = analyze(model)
    row = found.rows[-1]
    assert changed_cells(model, 0, amount=1.0).all() and changed_cells(model, 1, amount=1.0).all()
    assert not found.notes
    if has_local:
        assert row.field == (Field(3, 1, 1),) * 2 and not row.sees_all
        assert row.global_field == (Field(10, 0, 1), Field(9, 0, 1))
    else:
        assert row.field == (Field(10, 0, 1), Field(9, 0, 1)) and row.sees_all and row.global_field is None


def test_published_fields():
    """VGG-16 212 / 32 / 90 and AlexNet 195 / 32 / 64: Araujo et al., 2019, doi:10.23915/distill.00021."""
    vgg = keras.applications.VGG16(weights=None, include_top=False, input_shape=(None, None, 3))
    assert receptive_field(vgg) == (Field(212, 32, 90),) * 2
    vgg = analyze(vgg, (224, 224, 3))
    assert vgg.receptive_field == (Field(212, 32, 90),) * 2
    assert vgg.row("block5_conv3").field[0].size == 196
    pool, same = {"pool_size": 3, "strides": 2}, {"padding": "same"}
    alexnet = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            layers.Conv2D(2, 11, 4),
            layers.MaxPooling2D(**pool),
            layers.Conv2D(2, 5, **same),
            layers.MaxPooling2D(**pool),
            *[layers.Conv2D(2, 3, **same) for _ in range(3)],
            layers.MaxPooling2D(**pool),
        ]
    )
    assert receptive_field(alexnet) == (Field(195, 32, 64),) * 2


def test_dilation():
    """A 3 x 3 kernel at rate 2 spans five cells."""
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(1, 3, dilation_rate=2)])
    assert receptive_field(model) == (Field(5, 1, 0),) * 2


def test_unknown_sizes():
    """Kernel 3, stride 2: "same" pads 0 or 1 before the data, by the size."""
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, layers.Conv2D(1, 3, 2, padding="same", name="conv")(inputs))
    assert receptive_field(model) == (Field(3, 2, None),) * 2
    assert analyze(model, (8, 9, 1)).receptive_field == (Field(3, 2, 0), Field(3, 2, 1))
    found = analyze(model)
    assert (found.macs, found.memory) == (None, None) and "pass input_shape" in found.notes[0]


def test_branches_of_the_same_unknown_padding_stay_aligned():
    inputs = keras.Input((None, None, 4))
    x = layers.Conv2D(4, 3, 2, padding="same")(inputs)
    model = keras.Model(inputs, layers.Add(name="sum")([x, layers.Conv2D(4, 3, padding="same")(x)]))
    assert receptive_field(model) == (Field(7, 2, None),) * 2
    assert analyze(model).misaligned == ()


def test_fractional_strides_and_turns():
    """After nearest upsampling by 2 a 3-cell window covers two input cells, {i/2 - 1, i/2} or {(i-1)/2, (i+1)/2}."""
    inputs = keras.Input((16, 1))
    model = keras.Model(inputs, layers.Conv1D(1, 3, padding="same")(layers.UpSampling1D(2)(inputs)))
    row = analyze(model).rows[-1]
    assert row.field == (Field(2, Fraction(1, 2), 1),)
    assert [row.box((unit,)) for unit in (8, 9)] == [((3, 4),), ((4, 5),)]
    assert row.to_dict()["receptive_field"] == [{"size": 2, "stride": 0.5, "padding": 1}]


def test_a_depthwise_convolution_on_folded_cells_is_an_upper_bound():
    inputs = keras.Input((8, 8, 1))
    found = analyze(keras.Model(inputs, layers.DepthwiseConv2D(3, name="depthwise")(space_to_depth(inputs))))
    assert found.receptive_field == (Field(6, 2, 0),) * 2
    assert found.notes == ("depthwise: a unit of it may see less than is said here.",)


def test_gaps_of_a_transposed_convolution():
    inputs = keras.Input((8, 1))
    model = keras.Model(inputs, layers.Conv1DTranspose(1, 1, 3)(inputs))
    row = analyze(model).rows[-1]
    assert [row.box((unit,)) for unit in (3, 4, 5, 6)] == [((1, 1),), ((None, None),), ((None, None),), ((2, 2),)]


def test_misaligned_branches_give_the_union_box():
    """Xception at 299 px: a 1 x 1 convolution of stride 2 beside convolutions and a "same" pooling."""
    found = analyze(keras.applications.Xception(weights=None))
    assert len(found.misaligned) == 1
    inputs = keras.Input((9, 1))
    branches = [layers.Conv1D(1, 1, 2)(inputs), layers.Conv1D(1, 2, 2, padding="same")(inputs)]
    found = analyze(keras.Model(inputs, layers.Add(name="sum")(branches)))
    assert found.misaligned == ("sum",) and found.receptive_field == (Field(2, 2, 0),)


def test_branches_of_different_strides_raise():
    inputs = keras.Input((9, 1))
    branches = [layers.Conv1D(1, 5)(inputs), layers.Conv1D(1, 1, 2)(inputs)]
    sentence = (
        "analyze: 'sum' joins branches whose units stand 1 and 2 input cells apart; a unit of it has no one receptive "
        "field. Give the branches equal strides."
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        analyze(keras.Model(inputs, layers.Concatenate(name="sum")(branches)))


def test_channels_first():
    inputs = keras.Input((3, 32, 24))
    x = layers.Conv2D(4, (3, 5), data_format="channels_first")(inputs)
    model = keras.Model(inputs, layers.MaxPooling2D(2, data_format="channels_first")(x))
    assert receptive_field(model) == (Field(4, 2, 0), Field(6, 2, 0))


def test_images_without_channels():
    inputs = keras.Input((28, 28))
    model = keras.Model(inputs, layers.Conv2D(4, 5)(layers.Reshape((28, 28, 1))(inputs)))
    assert receptive_field(model) == (Field(5, 1, 0),) * 2


def test_frames_of_a_video():
    inputs = keras.Input((6, 32, 32, 3))
    frames = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(4, 3, 2, name="conv"), layers.ReLU()])
    found = analyze(keras.Model(inputs, layers.TimeDistributed(frames, name="frames")(inputs)))
    assert found.receptive_field == (Field(1, 1, 0), Field(3, 2, 0), Field(3, 2, 0))
    assert found.macs == 6 * 15 * 15 * 9 * 3 * 4
