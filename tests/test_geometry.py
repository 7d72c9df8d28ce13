"""Convolution arithmetic: the guide's relationships and figures, Keras' sizes, and counting."""

import itertools
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_cnn import geometry
from keras_cnn.geometry import Field, output_size, padding_amounts, transposed_output_size

pytestmark = pytest.mark.any_backend

SIZES, KERNELS, STRIDES, DILATIONS = range(1, 13), range(1, 6), range(1, 5), range(1, 4)
PADDINGS = ("valid", "same", "full", 0, 1, 2, 5, (0, 1), (1, 0), (3, 1))
ARITHMETIC = list(itertools.product(KERNELS, STRIDES, DILATIONS))
KERAS_ACCEPTS = [(k, s, d) for k, s, d in ARITHMETIC if s == 1 or d == 1]


def size_or_none(function, *args):
    """None in place of an error: no output."""
    try:
        return function(*args)
    except ValueError:
        return None


# Relationship of the guide, a figure that shows it (arguments, size), and its formula for i, k, s, p; i' for 8 to 14.
GUIDE = {
    1: (output_size, (4, 3), 2, lambda i, k, s, p: (i - k) + 1, lambda k, s, p: (1, 0)),
    2: (output_size, (5, 4, 1, 2), 6, lambda i, k, s, p: (i - k) + 2 * p + 1, lambda k, s, p: (1, p)),
    3: (output_size, (5, 3, 1, "same"), 5, lambda i, k, s, p: i, lambda k, s, p: (1, k // 2)),
    4: (output_size, (5, 3, 1, "full"), 7, lambda i, k, s, p: i + (k - 1), lambda k, s, p: (1, k - 1)),
    5: (output_size, (5, 3, 2), 2, lambda i, k, s, p: (i - k) // s + 1, lambda k, s, p: (s, 0)),
    6: (output_size, (5, 3, 2, 1), 3, lambda i, k, s, p: (i + 2 * p - k) // s + 1, lambda k, s, p: (s, p)),
    7: (output_size, (5, 3, 1), 3, lambda i, k, s, p: (i - k) // s + 1, lambda k, s, p: (s, 0)),
    8: (transposed_output_size, (2, 3), 4, lambda i, k, s, p: i + (k - 1), lambda k, s, p: (1, 0)),
    9: (transposed_output_size, (6, 4, 1, 2), 5, lambda i, k, s, p: i + (k - 1) - 2 * p, lambda k, s, p: (1, p)),
    10: (transposed_output_size, (5, 3, 1, "same"), 5, lambda i, k, s, p: i, lambda k, s, p: (1, k // 2)),
    11: (transposed_output_size, (7, 3, 1, "full"), 5, lambda i, k, s, p: i - (k - 1), lambda k, s, p: (1, k - 1)),
    12: (transposed_output_size, (2, 3, 2, 0), 5, lambda i, k, s, p: s * (i - 1) + k, lambda k, s, p: (s, 0)),
    13: (transposed_output_size, (3, 3, 2, 1), 5, lambda i, k, s, p: s * (i - 1) + k - 2 * p, lambda k, s, p: (s, p)),
}


@pytest.mark.parametrize("number", GUIDE)
def test_relationships_1_to_13(number):
    """Dumoulin & Visin, arXiv:1603.07285, chapters 2 to 4: the size in the figure; the formula for all i, k, s, p."""
    function, figure, expected, formula, applies = GUIDE[number]
    assert function(*figure) == expected
    kernels = (1, 3, 5) if number in (3, 10) else KERNELS  # "same" is of odd kernels in the guide
    for i, k, s, p in itertools.product(SIZES, kernels, STRIDES, range(4)):
        stride, padding = applies(k, s, p)
        size = formula(i, k, s, p)
        received = size_or_none(function, i, k, stride, padding)
        assert received == (size if size >= 1 else None), (i, k, s, p)


def test_relationship_14_transposed_with_a_remainder():
    """Figure 4.7: 6 cells, kernel 3, stride 2, padding 1 make 3; back with a = (6 + 2 - 3) mod 2 = 1."""
    assert output_size(6, 3, 2, 1) == 3
    assert transposed_output_size(3, 3, 2, 1, output_padding=1) == 6
    for i, k, s, p in itertools.product(SIZES, KERNELS, STRIDES, range(4)):
        if (out := size_or_none(output_size, i, k, s, p)) is not None:
            a = (i + 2 * p - k) % s
            assert transposed_output_size(out, k, s, p, output_padding=a) == s * (out - 1) + a + k - 2 * p == i


def test_relationship_15_dilation():
    """Figure 5.1: 7 cells, kernel 3, dilation 2 make 3."""
    assert output_size(7, 3, dilation_rate=2) == 3
    for i, k, s, p, d in itertools.product(SIZES, KERNELS, STRIDES, range(4), DILATIONS):
        size = (i + 2 * p - k - (k - 1) * (d - 1)) // s + 1
        assert size_or_none(output_size, i, k, s, p, d) == (size if size >= 1 else None)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_every_combination_equals_counting_windows(padding):
    """Windows are counted where they fit; "same" is what gives ceil(size / stride) of them with the fewest cells."""
    for size, (k, s, d) in itertools.product(SIZES, ARITHMETIC):
        effective = (k - 1) * d + 1
        if padding == "same":
            wanted = -(-size // s)
            total = next(n for n in itertools.count() if len(range(0, size + n - effective + 1, s)) == wanted)
            amounts = (total // 2, total - total // 2)
        else:
            numbers = {"valid": 0, "full": effective - 1}.get(padding, padding)
            amounts = (numbers, numbers) if isinstance(numbers, int) else numbers
        assert padding_amounts(size, k, s, padding, d) == amounts
        windows = len(range(0, size + sum(amounts) - effective + 1, s))
        assert size_or_none(output_size, size, k, s, padding, d) == (windows or None)


def test_every_size_that_keras_computes():
    """`compute_output_shape` of Keras' convolution, alone or after its own padding layer."""
    padders = {p: keras.layers.ZeroPadding1D(p) for p in PADDINGS if not isinstance(p, str)}
    for k, s, d in KERAS_ACCEPTS:
        for padding in PADDINGS[:2] + PADDINGS[3:]:
            named = isinstance(padding, str)
            layer = keras.layers.Conv1D(1, k, s, padding if named else "valid", dilation_rate=d)
            for size in SIZES:
                shape = (1, size, 1) if named else padders[padding].compute_output_shape((1, size, 1))
                expected = size_or_none(layer.compute_output_shape, shape)
                received = size_or_none(output_size, size, k, s, padding, d)
                assert received == (None if expected is None else expected[1]), (size, k, s, padding, d)


@pytest.mark.parametrize("size", SIZES)
def test_the_cells_that_same_pads(size):
    """A kernel of ones over the powers of two: the binary digits of each sum name the cells that were seen."""
    x = 2.0 ** np.arange(size, dtype="float32").reshape(1, size, 1)
    for k, s, d in KERAS_ACCEPTS:
        sums = ops.convert_to_numpy(ops.conv(x, np.ones((k, 1, 1), "float32"), s, "same", "channels_last", d)).ravel()
        before, _ = padding_amounts(size, k, s, "same", d)
        starts = [index * s - before for index in range(output_size(size, k, s, "same", d))]
        seen = [[cell for cell in range(start, start + k * d, d) if 0 <= cell < size] for start in starts]
        assert sums.tolist() == [sum(2**cell for cell in cells) for cells in seen], (k, s, d)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_every_transposed_size_that_keras_computes(padding):
    for k, s, d in KERAS_ACCEPTS:
        for output_padding in (None, *range(s)):
            layer = keras.layers.Conv1DTranspose(1, k, s, padding, output_padding, dilation_rate=d)
            for size in SIZES:
                expected = layer.compute_output_shape((1, size, 1))[1]
                received = size_or_none(transposed_output_size, size, k, s, padding, d, output_padding)
                assert received == (expected or None), (size, k, s, d, output_padding)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_a_transposed_size_is_one_that_the_convolution_brings_back(padding):
    for size, (k, s, d) in itertools.product(SIZES, ARITHMETIC):
        if (larger := size_or_none(transposed_output_size, size, k, s, padding, d)) is not None:
            assert output_size(larger, k, s, padding, d) == size, (size, k, s, d)


def test_unknown_sizes():
    assert output_size(None, 3, 2, "same") is None
    assert transposed_output_size(None, 3, 2, 1) is None
    assert padding_amounts(None, 5, 3, "same") == (None, None)
    assert padding_amounts(None, 3, 2, "same") == (None, 1)
    assert padding_amounts(None, 2, 2, "same") == (0, None)
    assert padding_amounts(None, 4, 1, "same") == (1, 2)
    assert padding_amounts(None, 1, 2, "same") == (0, 0)
    assert padding_amounts(None, 3, 2, "full", 2) == (4, 4)
    assert padding_amounts(None, 3, 2, (1, 0)) == (1, 0)


def test_an_amount_is_none_only_if_it_depends_on_the_size():
    for k, s, d in ARITHMETIC:
        for side, known in enumerate(padding_amounts(None, k, s, "same", d)):
            amounts = {padding_amounts(size, k, s, "same", d)[side] for size in SIZES}
            assert amounts == {known} if len(amounts) == 1 else known is None, (k, s, d)


def test_numpy_integers_do_not_overflow():
    """The numbers beside each hold in Python; an unsigned byte ends at 255."""
    small = np.uint8
    results = [
        (output_size(small(9), small(3), small(2), small(1)), 5),
        (output_size(small(250), small(3), small(1), (small(200), small(100)), small(5)), 540),
        (padding_amounts(small(200), small(9), small(1), "full", small(100))[1], 800),
        (padding_amounts(small(255), small(3), small(2), "same")[1], 1),
        (geometry.effective_kernel_size(small(9), small(100)), 801),
        (transposed_output_size(small(200), small(3), small(2), small(0), small(1), small(1)), 402),
        (Field().then(small(9), small(200), "valid", small(100)).then(small(2), small(2)).size, 1001),
        (Field().then(small(9), small(200)).then(small(2), small(2)).stride, 400),
        (geometry.convolution_parameters((small(16), small(16)), small(200), small(100), small(2), True), 2560100),
        (geometry.separable_parameters((small(16), small(16)), small(200), small(100), small(2), True), 142500),
    ]
    for result, expected in results:
        assert (result, type(result)) == (expected, int)
    with pytest.raises(ValueError, match=re.escape("(3 + 0 − 7) / 1 + 1 = −3")):
        output_size(small(3), 7)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: output_size(5, 7),
            "output_size: the kernel does not fit: (5 + 0 − 7) / 1 + 1 = −1. Expected a padded input (size + padding = "
            "5) no smaller than the dilated kernel (7). Received: size=5, kernel_size=7, strides=1, padding='valid', "
            "dilation_rate=1. Use more padding, a smaller kernel or a larger input.",
        ),
        (lambda: output_size(4, 4, 2, 1, 3), "(4 + 2 − 10) / 2 + 1 = −1"),
        (
            lambda: transposed_output_size(1, 3, 1, 2),
            "transposed_output_size: nothing is left: (1 − 1) · 1 + 3 − 4 + 0 = −1.",
        ),
        (lambda: output_size(0, 1), "output_size: `size` must be an integer of at least 1. Received: size=0."),
        (lambda: output_size(5, 2.0), "`kernel_size` must be an integer of at least 1. Received: kernel_size=2.0."),
        (lambda: output_size(5, 2, 0), "`strides` must be"),
        (
            lambda: output_size(5, 2, 1, "SAME"),
            'output_size: `padding` must be "valid", "same", "full", an integer of at least 0, or a pair (before, '
            "after). Received: padding='SAME'.",
        ),
        (lambda: output_size(None, 2, 1, -1), "Received: padding=-1."),
        (lambda: output_size(5, 2, 1, (1, 2, 3)), "Received: padding=(1, 2, 3)."),
        (
            lambda: transposed_output_size(5, 3, 2, 1, output_padding=2),
            "transposed_output_size: `output_padding` must be below the stride (2). Received: output_padding=2.",
        ),
        (
            lambda: geometry.convolution_parameters((3, 3), 6, 8, groups=4),
            "convolution_parameters: `channels` must be a multiple of groups (4). Received: channels=6.",
        ),
        (
            lambda: geometry.convolution_parameters(3, 64, 128),
            "convolution_parameters: `kernel_size` must be a tuple with one integer for each axis. Received: "
            "kernel_size=3. A square kernel is (3, 3).",
        ),
        (lambda: geometry.separable_parameters((), 64, 128), "separable_parameters: `kernel_size` must be a tuple"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        make()


def field(*stack):
    result = Field()
    for layer in stack:
        result = result.then(*layer)
    return result


def test_published_receptive_fields():
    """Araujo, Norris & Sim, 2019, table of networks: size, effective stride, effective padding."""
    convs = lambda count: [(3, 1, "same")] * count  # noqa: E731
    pool = (3, 2)
    alexnet_v2 = [(11, 4), pool, (5, 1, "same"), pool, *convs(3), pool]
    assert field(*alexnet_v2) == Field(195, 32, 64)
    vgg_16 = [layer for count in (2, 2, 3, 3, 3) for layer in (*convs(count), (2, 2))]
    assert field(*vgg_16) == Field(212, 32, 90)
    strides = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    mobilenet_v1 = field(*[(3, stride, "same") for stride in strides])
    assert (mobilenet_v1.size, mobilenet_v1.stride) == (315, 32)


def test_a_field_is_what_the_cells_see():
    """Cells traced back through random stacks, one by one."""
    numbers = np.random.default_rng(0)
    for _ in range(100):
        stack = [tuple(int(n) for n in numbers.integers((1, 1, 0, 1), (6, 4, 4, 4))) for _ in range(4)]
        result = field(*stack)
        for index in (0, 3):
            cells = {index}
            for k, s, p, d in reversed(stack):
                cells = {cell * s - p + tap * d for cell in cells for tap in range(k)}
            first = index * result.stride - result.padding
            assert (min(cells), max(cells)) == (first, first + result.size - 1), stack


def test_a_field_says_none_where_the_padding_depends_on_the_size():
    unknown = Field().then(3, 2, "same")
    assert unknown == Field(3, 2, None)
    assert unknown.then(3, 1, 1) == Field(7, 2, None)
    assert Field().then(2, 2, "same") == Field(2, 2, 0)  # an even kernel with stride 2: only the other side varies
    assert Field().then(4, 2, "same") == Field(4, 2, 1)
    assert Field().then(3, 2, "same", size=224) == Field(3, 2, 0)
    assert Field().then(3, 2, "same", size=225) == Field(3, 2, 1)
    assert Field().then(1, 2, "same") == Field(1, 2, 0)
    assert Field().then(3, 1, "same", 2) == Field(5, 1, 2)
    assert Field(None, 2, None).then(3) == Field(None, 2, None)


def test_parameter_counts():
    """AlexNet's second layer by hand (5 x 5 x 48 x 256); the others by Keras."""
    assert geometry.convolution_parameters((5, 5), 96, 256, groups=2) == 307200
    cases = [
        (keras.layers.Conv2D(8, (3, 5)), geometry.convolution_parameters((3, 5), 6, 8, use_bias=True)),
        (keras.layers.Conv2D(9, 3, groups=3, use_bias=False), geometry.convolution_parameters((3, 3), 6, 9, 3)),
        (keras.layers.SeparableConv2D(8, 3, use_bias=False), geometry.separable_parameters((3, 3), 6, 8)),
        (keras.layers.SeparableConv2D(8, 3, depth_multiplier=2), geometry.separable_parameters((3, 3), 6, 8, 2, True)),
    ]
    for layer, expected in cases:
        layer.build((None, 9, 9, 6))
        assert layer.count_params() == expected
    assert geometry.convolution_parameters((5,), 6, 8) == 5 * 6 * 8
