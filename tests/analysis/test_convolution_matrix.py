"""convolution_matrix: the matrix of a paper, PyTorch's numbers, and what every layer really gives."""

import itertools

import keras
import numpy as np
import pytest
from helpers.slow import mark_slow
from helpers.torch_convolutions import channels_last, convolution, torch_cases
from keras import ops

from keras_cnn import layers
from keras_cnn.analysis import convolution_matrix, plot_convolution_matrix
from keras_cnn.analysis.matrices import matrix_figure

pytestmark = pytest.mark.any_backend


def check(layer, shape):
    """The matrix times a random input is the layer's output on it; the matrix."""
    layer.build((None, *shape))
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    y = ops.convert_to_numpy(layer(x[None]))[0]
    matrix = convolution_matrix(layer, shape)
    assert matrix.shape == (y.size, x.size)
    np.testing.assert_allclose(matrix @ x.ravel(), y.ravel(), atol=1e-5, err_msg=str(layer.get_config()))
    return matrix


def test_the_matrix_of_the_paper():
    """Dumoulin & Visin, arXiv:1603.07285, section 4.1: a kernel of 3 x 3 on a map of 4 x 4, written out."""
    conv = keras.layers.Conv2D(1, 3, use_bias=False)
    conv.build((None, 4, 4, 1))
    conv.set_weights([np.arange(1, 10).reshape(3, 3, 1, 1)])
    expected = [
        [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0],
        [0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0],
        [0, 0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9],
    ]
    matrix = convolution_matrix(conv, (4, 4, 1))
    np.testing.assert_array_equal(matrix.toarray(), expected)
    assert matrix.nnz == 36


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_equals_pytorch(mode):
    """Whole numbers: equal to the last bit; the transposed matrix gives PyTorch's input gradient."""
    compared = 0
    for arguments, arrays in torch_cases():
        if arguments["padding_mode"] == mode:
            conv = convolution(arguments, arrays["kernel"], np.zeros_like(arrays["bias"]))
            x, w, y, dx = (channels_last(arrays[name]) for name in ("x", "w", "y", "dx"))
            matrix, y = convolution_matrix(conv, x.shape[1:]), y - arrays["bias"]
            np.testing.assert_array_equal(matrix @ x.reshape(len(x), -1).T, y.reshape(len(x), -1).T)
            np.testing.assert_array_equal(matrix.T @ w.reshape(len(x), -1).T, dx.reshape(len(x), -1).T)
            compared += 1
    assert compared == 29


ARITHMETIC = [(1, 1, 1), (3, 1, 1), (4, 1, 1), (3, 2, 1), (2, 3, 1), (5, 3, 1), (3, 1, 2), (2, 1, 3)]


@pytest.mark.parametrize("padding", mark_slow(["valid", "same", "causal", 2, (0, 3)], except_for=["same", (0, 3)]))
def test_convolutions_along_one_axis(padding):
    """Kernels smaller than, equal to and larger than the stride; sizes that it divides and that it does not."""
    kind = keras.layers.Conv1D if isinstance(padding, str) else layers.Conv1D
    for (size, groups), (kernel_size, strides, dilation_rate) in itertools.product(((7, 1), (8, 2)), ARITHMETIC):
        options = {"strides": strides, "dilation_rate": dilation_rate, "groups": groups, "padding": padding}
        conv = kind(4, kernel_size, use_bias=False, **options)
        check(conv, (size, 6))
        transpose = convolution_matrix(layers.ConvAdjoint1D(conv), (conv.compute_output_shape((1, size, 6))[1], 4))
        np.testing.assert_array_equal(transpose.toarray(), convolution_matrix(conv, (size, 6)).T.toarray())


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (lambda **o: keras.layers.Conv2D(6, (3, 2), (2, 1), "same", groups=2, **o), 4),
        (lambda **o: keras.layers.Conv2D(2, 3, padding="same", dilation_rate=(2, 3), **o), 3),
        (lambda **o: layers.Conv2D(4, 3, 2, padding=((0, 2), (1, 1)), groups=2, **o), 4),
        (lambda **o: layers.Conv2D(4, 3, padding=(2, 1), padding_mode="reflect", groups=2, **o), 2),
        (lambda **o: layers.Conv2D(2, 3, padding=(2, 3), padding_mode="replicate", **o), 1),
        (lambda **o: layers.Conv2D(2, 3, padding=2, padding_mode="circular", **o), 3),
        (lambda **o: keras.layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2, **o), 3),
        (lambda **o: keras.layers.DepthwiseConv2D((2, 3), dilation_rate=2, **o), 2),
        (lambda **o: keras.layers.SeparableConv2D(5, 3, 2, "same", depth_multiplier=2, **o), 3),
        (lambda **o: keras.layers.Conv2DTranspose(3, (3, 2), 2, "same", **o), 2),
        (lambda **o: keras.layers.Conv2DTranspose(3, (3, 5), (1, 3), "valid", **o), 2),
        (lambda **o: keras.layers.Conv2DTranspose(3, 3, padding="same", dilation_rate=2, **o), 2),
    ],
)
def test_layers_of_two_axes(make, channels, data_format):
    layer = make(data_format=data_format, use_bias=False)
    check(layer, (6, 7, channels) if data_format == "channels_last" else (channels, 6, 7))


def test_layers_of_one_and_three_axes():
    check(keras.layers.DepthwiseConv1D(3, 2, "same", depth_multiplier=2, use_bias=False), (7, 3))
    check(keras.layers.SeparableConv1D(4, 3, padding="same", use_bias=False), (7, 3))
    check(keras.layers.Conv1DTranspose(4, 3, 2, "same", use_bias=False), (7, 3))
    check(keras.layers.Conv3D(2, (2, 3, 1), (2, 1, 2), "same", use_bias=False), (4, 5, 3, 2))
    check(layers.Conv3D(2, 2, padding=(0, 1, 2), padding_mode="replicate", use_bias=False), (3, 4, 3, 2))
    check(keras.layers.Conv3DTranspose(2, 2, (1, 2, 3), "same", use_bias=False), (2, 3, 2, 2))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_transposed_convolutions_of_all_strides(padding):
    for size, kernel_size, strides in itertools.product((1, 4), (1, 2, 3, 5), (1, 2, 3)):
        for output_padding in (None, *range(strides)):
            if padding == "same" and output_padding == 0 and kernel_size % 2 == 0:
                continue  # TensorFlow refuses it: the convolution of that size would not give back `size` cells
            options = {"padding": padding, "output_padding": output_padding, "use_bias": False}
            check(keras.layers.Conv1DTranspose(2, kernel_size, strides, **options), (size, 3))


def test_transposed_layer_is_the_transposed_matrix():
    """With one kernel, `Conv2DTranspose` is A.T wherever it has the size that the convolution came from."""
    for padding, size in (("valid", 7), ("same", 8)):
        conv = keras.layers.Conv2D(2, 3, 2, padding, use_bias=False)
        matrix = convolution_matrix(conv, (size, size, 3))
        transpose = keras.layers.Conv2DTranspose(3, 3, 2, padding, use_bias=False)
        shape = conv.compute_output_shape((1, size, size, 3))[1:]
        transpose.build((None, *shape))
        transpose.set_weights(conv.get_weights())
        np.testing.assert_array_equal(convolution_matrix(transpose, shape).toarray(), matrix.T.toarray())


def test_bias_and_activation_are_left_out():
    """The layer is activation(A x + bias)."""
    conv = keras.layers.Conv1D(2, 3, activation="relu", bias_initializer="ones")
    x = np.random.default_rng(0).normal(size=(6, 1)).astype("float32")
    y = ops.convert_to_numpy(conv(x[None]))[0]
    linear = (convolution_matrix(conv, (6, 1)) @ x.ravel()).reshape(y.shape)
    np.testing.assert_allclose(np.maximum(linear + 1, 0), y, atol=1e-6)


def test_stays_sparse():
    """A dense matrix of this layer would take 644 GB; stored are 9 weights an output, less those over the border."""
    matrix = convolution_matrix(keras.layers.DepthwiseConv2D(3, padding="same"), (112, 112, 32))
    assert matrix.shape == (401_408, 401_408)
    assert matrix.nnz == 32 * (3 * 112 - 2) ** 2


def test_half_precision_weights():
    conv = keras.layers.Conv1D(2, 3, dtype="bfloat16")
    assert convolution_matrix(conv, (5, 2)).dtype == np.float32


class Standardised(keras.layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - ops.mean(kernel))


class Renamed(keras.layers.Conv2D):
    pass


def test_subclasses():
    """One that computes the same is taken, one that computes something else is refused."""
    assert convolution_matrix(Renamed(1, 3), (4, 4, 1)).shape == (4, 16)
    for layer in (Standardised(1, 3), keras.layers.Dense(2)):
        with pytest.raises(TypeError, match=r"`layer` must be a convolution layer of Keras or of keras_cnn, or a sub"):
            convolution_matrix(layer, (4, 4, 1))


def test_wrong_shapes():
    conv = keras.layers.Conv2D(1, 3)
    for shape in ((4, 4), (None, 4, 1), (1, 4, 4, 1)):
        with pytest.raises(ValueError, match=r"`input_shape` must be 2 sizes and the channels, all known, without the"):
            convolution_matrix(conv, shape)
    conv.build((None, 4, 4, 2))
    with pytest.raises(ValueError, match=r"with the 2 channels that the layer was built for.*It is channels_last\."):
        convolution_matrix(conv, (4, 4, 1))
    with pytest.raises(ValueError, match="the kernel does not fit"):
        convolution_matrix(conv, (2, 2, 2))


def test_plot(tmp_path):
    """Each weight is named where it must be: in the kernel, 4 times in A and in its transpose, once in what is spread."""
    plot_convolution_matrix(keras.layers.Conv2D(1, 3), (4, 4, 1), tmp_path / "matrix.svg")
    text = (tmp_path / "matrix.svg").read_text()
    assert [text.count(f"<!-- $w_{{{index}}}$ -->") for index in ("00", "11", "22")] == [10, 10, 10]
    assert "y = A x,  with A of 4 × 16" in text and "36 of the 64 entries are weights" in text


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_plot_of_padding(mode, tmp_path):
    """Two of six cells of y meet the border: there reflect adds the weights up that fall on one cell."""
    conv = layers.Conv1D(1, 3, padding=1, padding_mode=mode)
    plot_convolution_matrix(conv, (6, 1), tmp_path / "matrix.svg")
    text = (tmp_path / "matrix.svg").read_text()
    sums = text.count("<!-- $w_{0}$+$w_{2}$ -->")
    assert sums == (4 if mode == "reflect" else 0)
    assert {"zeros": "16", "reflect": "16", "circular": "18"}[mode] + " of the 36 entries are weights" in text


def test_each_weight_is_drawn_where_the_matrix_has_it():
    """The sum of the weights times their positions is the matrix."""
    for mode in ("zeros", "replicate"):
        conv = layers.Conv2D(1, (2, 3), padding=1, padding_mode=mode)
        matrix = convolution_matrix(conv, (3, 4, 1)).toarray()
        positions = matrix_figure._weight_positions(conv, (3, 4, 1))
        weights = ops.convert_to_numpy(conv.kernel).ravel()
        np.testing.assert_allclose(np.tensordot(weights, positions, 1), matrix, atol=1e-6)


def test_plot_refuses_what_it_cannot_show(tmp_path):
    for layer, shape in ((keras.layers.Conv2D(2, 3), (4, 4, 1)), (keras.layers.Conv2D(1, 3), (11, 11, 1))):
        with pytest.raises(
            ValueError, match="`input_shape` must be of at most 100 cells and one channel, for a layer of"
        ):
            plot_convolution_matrix(layer, shape, tmp_path / "matrix.png")
    with pytest.raises(TypeError, match="plot_convolution_matrix: `layer` must be a Conv1D or Conv2D"):
        plot_convolution_matrix(keras.layers.Conv3D(1, 3), (4, 4, 4, 1), tmp_path / "matrix.png")
