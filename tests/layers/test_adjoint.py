"""ConvAdjoint1D, 2D and 3D: the transpose, exactly, and one kernel for two layers."""

import itertools
import re

import keras
import numpy as np
import pytest
from helpers.torch_convolutions import channels_last, convolution, torch_cases
from keras import ops

from keras_cnn import layers

pytestmark = pytest.mark.any_backend

ADJOINTS = {1: layers.ConvAdjoint1D, 2: layers.ConvAdjoint2D, 3: layers.ConvAdjoint3D}
MODES = ("zeros", "reflect", "replicate", "circular")


def difference(conv, adjoint, shape):
    """|<C x, y> - <x, C* y>|, relative to |C x| |y|."""
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=shape).astype("float32")
    image = ops.convert_to_numpy(conv(x)).astype("float64")
    y = numbers.normal(size=image.shape).astype("float32")
    back = ops.convert_to_numpy(adjoint(y))
    assert back.shape == shape
    error = (image * y).sum() - (back.astype("float64") * x).sum()
    return abs(error) / np.sqrt((image**2).sum() * (y.astype("float64") ** 2).sum())


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_gradient_of_pytorch(mode):
    compared = 0
    for arguments, arrays in torch_cases():
        if arguments["padding_mode"] == mode:
            conv = convolution(arguments, arrays["kernel"], arrays["bias"])
            sizes = arrays["x"].shape[2:]
            result = ADJOINTS[len(sizes)](conv, output_size=sizes)(channels_last(arrays["w"]))
            np.testing.assert_array_equal(result, channels_last(arrays["dx"]), err_msg=str(arguments))
            compared += 1
    assert compared == 29


@pytest.mark.parametrize("padding", ["valid", "same", "causal", 1, (0, 2), (3, 1)])
def test_inner_products_along_one_axis(padding):
    """Kernels smaller than, equal to and larger than the stride; sizes that it divides and that it does not."""
    arithmetic = [(3, 1, 1), (4, 1, 1), (1, 3, 1), (3, 2, 1), (2, 3, 1), (5, 3, 1), (3, 1, 2)]
    sizes_and_groups = [(7, 1), (8, 1), (7, 2)]
    if padding != "same":  # which cannot have a stride and dilation
        arithmetic += [(2, 2, 3), (2, 3, 3), (3, 4, 2)]
    for (size, groups), (kernel_size, strides, dilation_rate) in itertools.product(sizes_and_groups, arithmetic):
        options = {"strides": strides, "dilation_rate": dilation_rate, "groups": groups, "padding": padding}
        conv = layers.Conv1D(4, kernel_size, use_bias=False, **options)
        conv.build((None, size, 6))
        assert difference(conv, layers.ConvAdjoint1D(conv), (2, size, 6)) < 1e-5, (size, kernel_size, options)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("mode", MODES)
def test_inner_products_along_two_axes(mode, data_format):
    for strides, groups in (((2, 1), 1), (3, 2)):
        options = {"padding": ((0, 2), (1, 1)), "padding_mode": mode, "data_format": data_format}
        conv = layers.Conv2D(4, (3, 2), strides, groups=groups, use_bias=False, **options)
        shape = (2, 7, 6, 4) if data_format == "channels_last" else (2, 4, 7, 6)
        conv.build(shape)
        assert difference(conv, layers.ConvAdjoint2D(conv), shape) < 1e-5


def test_is_the_transposed_matrix():
    """Column i of each matrix is what the layer makes of the i-th unit vector; the convolution is Keras' own."""
    conv = keras.layers.Conv2D(2, 3, strides=2, padding="same", use_bias=False)
    conv.build((None, 3, 4, 1))
    forward = ops.convert_to_numpy(conv(np.eye(12, dtype="float32").reshape(12, 3, 4, 1))).reshape(12, -1)
    backward = layers.ConvAdjoint2D(conv)(np.eye(8, dtype="float32").reshape(8, 2, 2, 2))
    np.testing.assert_array_equal(ops.convert_to_numpy(backward).reshape(8, 12), forward.T)


@pytest.mark.parametrize("padding", ["valid", "same", 1])
def test_sizes_unknown_when_built(padding):
    """Then the size is one of which the convolution makes the input, whatever that is; inner products stay equal."""
    inputs = keras.Input((None, None, 2))
    for mode in ("zeros", "circular"):
        conv = layers.Conv2D(3, 3, 1 if padding == "same" else 2, padding, padding_mode=mode, use_bias=False)
        model = keras.Model(inputs, layers.ConvAdjoint2D(conv)(conv(inputs)))
        assert model.output_shape == (None, None, None, 2)
        for size in (5, 9):
            assert difference(conv, layers.ConvAdjoint2D(conv), (1, size, size, 2)) < 1e-5
            assert model(np.ones((1, size, size, 2))).shape == (1, size, size, 2)


def autoencoder():
    inputs = keras.Input((7, 6, 2))
    conv = layers.Conv2D(3, 3, strides=2, padding=1, use_bias=False, name="conv")
    hidden = conv(inputs)
    return keras.Model(inputs, [hidden, layers.ConvAdjoint2D(conv, name="adjoint")(hidden)])


@pytest.mark.parametrize("adjoint_first", [False, True])
def test_saving_and_loading_keeps_one_kernel(tmp_path, adjoint_first):
    model = autoencoder()
    outputs = model.outputs[::-1] if adjoint_first else model.outputs
    keras.Model(model.inputs[0], outputs).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.count_params() == 3 * 3 * 2 * 3
    assert loaded.get_layer("adjoint").conv is loaded.get_layer("conv")
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 2)).astype("float32")
    reloaded = loaded(x)[::-1] if adjoint_first else loaded(x)
    for expected, result in zip(model(x), reloaded, strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-6)
    loaded.get_layer("conv").set_weights([np.zeros((3, 3, 2, 3))])
    assert not np.any(loaded.get_layer("adjoint")(np.ones((1, 4, 3, 3), "float32")))


def test_a_convolution_inside_a_nested_model_is_saved_by_its_weights(tmp_path):
    """Keras (3.15) cannot load a `.keras` file with a layer that stands in two models; weights alone it can."""

    def nested():
        inputs = keras.Input((7, 6, 2))
        conv = keras.layers.Conv2D(3, 3, strides=2, padding="same", use_bias=False)
        encoder = keras.Model(inputs, conv(inputs))
        inputs = keras.Input((7, 6, 2))
        return keras.Model(inputs, layers.ConvAdjoint2D(conv)(encoder(inputs)))

    model, rebuilt = nested(), nested()
    assert model.count_params() == 3 * 3 * 2 * 3
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="could not be loaded"):
        keras.models.load_model(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    rebuilt.load_weights(tmp_path / "model.weights.h5")
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 2)).astype("float32")
    np.testing.assert_array_equal(rebuilt(x), model(x))


def test_freezing_either_layer_freezes_the_kernel_of_both():
    conv = built()
    adjoint = layers.ConvAdjoint2D(conv)
    adjoint.trainable = False
    assert conv.trainable_weights == []


def test_the_size_is_that_of_the_first_map():
    conv = built()
    conv(np.ones((1, 12, 12, 3), "float32"))
    assert layers.ConvAdjoint2D(conv).compute_output_shape((1, 4, 4, 4)) == (1, 8, 8, 3)


def test_a_loaded_adjoint_without_its_convolution_brings_its_own_kernel(tmp_path):
    conv = keras.layers.Conv1D(3, 5, strides=2, padding="same")
    conv.build((None, 9, 2))
    model = keras.Sequential([keras.Input((5, 3)), layers.ConvAdjoint1D(conv)])
    model.save(tmp_path / "model.keras")
    x = np.ones((1, 5, 3), "float32")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(x), model(x), atol=1e-6)


def test_the_kernel_learns_from_both_layers():
    """d/dk of sum(conv(x)) + sum(adjoint(y)) for a 1 x 1 kernel k: sum(x) + sum(y)."""
    inputs = [keras.Input((2, 2, 1)), keras.Input((2, 2, 1))]
    conv = layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones")
    outputs = [conv(inputs[0])]
    outputs.append(layers.ConvAdjoint2D(conv)(inputs[1]))
    model = keras.Model(inputs, outputs)
    total = lambda _, prediction: ops.sum(prediction, axis=(1, 2, 3))  # noqa: E731
    model.compile(keras.optimizers.SGD(1.0), loss=[total, total], run_eagerly=True)
    x, y = np.full((1, 2, 2, 1), 0.25), np.full((1, 2, 2, 1), 0.5)
    model.train_on_batch([x, y], [x, y])
    assert float(conv.get_weights()[0].item()) == pytest.approx(1 - 1.0 - 2.0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: layers.ConvAdjoint2D(keras.layers.Conv2D(4, 3, name="c"))(np.ones((1, 5, 5, 4))),
            "ConvAdjoint2D: `conv` must be built. Received: conv=<Conv2D name=c, built=False>. Call or build the "
            "convolution first: this layer uses its kernel.",
        ),
        (
            lambda: layers.ConvAdjoint2D(keras.layers.Conv2D(4, 3, name="c")).compute_output_shape((1, 5, 5, 4)),
            "ConvAdjoint2D: `conv` must be built. Received: conv=<Conv2D name=c, built=False>.",
        ),
        (  # also where the shape fits no convolution at all
            lambda: layers.ConvAdjoint2D(keras.layers.Conv2D(4, 3, name="c"))(np.ones((1, 5, 5, 3))),
            "ConvAdjoint2D: `conv` must be built. Received: conv=<Conv2D name=c, built=False>.",
        ),
        (
            lambda: layers.ConvAdjoint1D(keras.layers.Conv1D(4, 3, name="c"))(keras.Input((5, 5, 3))),
            "ConvAdjoint1D: `conv` must be built. Received: conv=<Conv1D name=c, built=False>.",
        ),
        (
            lambda: layers.ConvAdjoint2D(built())(keras.Input((4, 4, 3))),
            "ConvAdjoint2D: the input must be an output of the convolution, with 4 axes and 4 channels. "
            "Received: an input of shape (None, 4, 4, 3).",
        ),
        (
            lambda: layers.ConvAdjoint2D(built()).compute_output_shape((None, 4, 4)),
            "ConvAdjoint2D: the input must be an output of the convolution, with 4 axes and 4 channels.",
        ),
        (lambda: layers.ConvAdjoint1D(keras.layers.Dense(4)), "`conv` must be a keras.layers.Conv1D or a subclass."),
        (
            lambda: layers.ConvAdjoint2D(built(), output_size=(9, 10))(np.ones((1, 4, 5, 4))),
            "ConvAdjoint2D: `output_size` must be a size from which the convolution makes 4, the size of the input (it "
            "makes 5). Received: output_size=9. Pass another output_size, or an output of the convolution.",
        ),
        (lambda: layers.ConvAdjoint2D(built(), output_size=(9,)), "an integer of at least 1, or 2 of them"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        make()


def built():
    conv = keras.layers.Conv2D(4, 3, strides=2, padding="same")
    conv.build((None, 8, 8, 3))
    return conv
