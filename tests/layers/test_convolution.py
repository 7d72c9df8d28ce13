"""Conv1D, Conv2D and Conv3D: PyTorch's numbers, padding by hand, errors."""

import re

import keras
import numpy as np
import pytest
from helpers.torch_convolutions import channels_last, convolution, torch_cases
from keras import ops

from keras_cnn import layers
from keras_cnn.layers.convolution import pad


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_equals_pytorch(mode):
    """Whole numbers: equal to the last bit."""
    compared = 0
    for arguments, arrays in torch_cases():
        if arguments["padding_mode"] == mode:
            layer = convolution(arguments, arrays["kernel"], arrays["bias"])
            result = ops.convert_to_numpy(layer(channels_last(arrays["x"])))
            np.testing.assert_array_equal(result, channels_last(arrays["y"]), err_msg=str(arguments))
            compared += 1
    assert compared == 29


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [0, 0, 1, 2, 3, 4, 0]),
        ("reflect", [3, 2, 1, 2, 3, 4, 3]),
        ("replicate", [1, 1, 1, 2, 3, 4, 4]),
        ("circular", [3, 4, 1, 2, 3, 4, 1]),
    ],
)
def test_padding_modes_by_hand(mode, expected):
    layer = layers.Conv1D(1, 1, padding=(2, 1), padding_mode=mode, kernel_initializer="ones")
    row = np.array([1, 2, 3, 4], "float32").reshape(1, 4, 1)
    assert ops.convert_to_numpy(layer(row)).ravel().tolist() == expected


def test_padding_entries_go_to_their_axes():
    """The sizes of (1, 2), ((0, 2), 1) and so on tell which axis got what; the last map tells which side."""
    for padding, height, width in [
        (1, 6, 6),
        ((1, 2), 6, 8),
        (((0, 2), 1), 6, 6),
        ([[3, 0], [0, 1]], 7, 5),
        (np.int64(1), 6, 6),
    ]:
        assert layers.Conv2D(1, 1, padding=padding)(np.ones((1, 4, 4, 1))).shape == (1, height, width, 1)
    x = np.ones((1, 4, 4, 1), "float32")
    result = ops.convert_to_numpy(layers.Conv2D(1, 1, padding=((0, 2), (1, 0)), kernel_initializer="ones")(x))
    expected = np.zeros((6, 5))
    expected[:4, 1:] = 1
    np.testing.assert_array_equal(result[0, :, :, 0], expected)


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_the_most_that_a_mode_can_pad(mode):
    """All cells but the border for "reflect", all for "circular"; one more has nothing to be copied from."""
    most = {"reflect": 3, "circular": 4}[mode]
    row = np.array([1, 2, 3, 4], "float32").reshape(1, 4, 1)
    layer = layers.Conv1D(1, 1, padding=(most, 0), padding_mode=mode, kernel_initializer="ones")
    expected = {"reflect": [4, 3, 2, 1, 2, 3, 4], "circular": [1, 2, 3, 4, 1, 2, 3, 4]}[mode]
    assert ops.convert_to_numpy(layer(row)).ravel().tolist() == expected
    layer = layers.Conv1D(1, 1, padding=(0, most + 1), padding_mode=mode)
    with pytest.raises(ValueError, match=f"at most {most} with padding_mode='{mode}' on an axis of 4"):
        layer.compute_output_shape((1, 4, 1))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_a_smaller_map_after_the_layer_was_built_is_checked_too(mode, data_format):
    first = data_format == "channels_first"
    options = {"padding": ((0, 0), (0, 5)), "padding_mode": mode, "data_format": data_format}
    layer = layers.Conv2D(1, 1, **options)
    layer(np.ones((1, 1, 8, 9) if first else (1, 8, 9, 1)))
    inputs = keras.Input((1, None, None) if first else (None, None, 1))
    model = keras.Model(inputs, layers.Conv2D(1, 1, **options)(inputs))
    for call in (layer, model):
        with pytest.raises(ValueError, match=f"padding_mode='{mode}' on an axis of 3"):
            call(np.ones((1, 1, 8, 3) if first else (1, 8, 3, 1)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow traces unknown sizes")
@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_a_map_whose_size_is_known_at_run_time_only_is_checked_there(mode):
    import tensorflow as tf

    layer = layers.Conv1D(1, 1, padding=2, padding_mode=mode, kernel_initializer="ones")
    layer.build((None, None, 1))
    function = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 1))])
    row = np.array([1, 2, 3, 4], "float32").reshape(1, 4, 1)
    np.testing.assert_array_equal(function(row), layer(row))
    with pytest.raises(tf.errors.InvalidArgumentError):
        function(row[:, :1])


@pytest.mark.parametrize(
    ("strides", "dilation_rate"), [(2, 2), (2, 4), (4, 2), (2, 3), (6, 4), ((1, 2), (3, 1)), ((3, 2), (6, 1))]
)
@pytest.mark.parametrize("padding", [0, ((3, 4), (1, 0))])
def test_a_stride_with_dilation_takes_every_so_many_cells_of_the_dilated_map(strides, dilation_rate, padding):
    """Against Keras' dilated convolution of stride 1, which it refuses to combine with another."""
    x = np.random.default_rng(0).normal(size=(2, 26, 23, 4)).astype("float32")
    layer = layers.Conv2D(6, (3, 2), strides, padding, dilation_rate=dilation_rate, groups=2)
    y = ops.convert_to_numpy(layer(x))
    dense = keras.layers.Conv2D(6, (3, 2), dilation_rate=dilation_rate, groups=2)
    padded = keras.layers.ZeroPadding2D(padding)(x)
    dense.build(padded.shape)
    dense.set_weights(layer.get_weights())
    rows, columns = layer.strides
    np.testing.assert_allclose(y, dense(padded)[:, ::rows, ::columns], atol=1e-5)
    assert tuple(layer.compute_output_shape(x.shape)) == y.shape


def test_a_negative_amount_of_zeros_crops():
    x = np.arange(5.0).reshape(1, 5, 1)
    assert ops.convert_to_numpy(pad(x, [(-2, 1)])).ravel().tolist() == [2, 3, 4, 0]
    assert ops.convert_to_numpy(pad(x, [(1, -3)])).ravel().tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "padding_ops"),
    [
        ({"kernel_size": 3, "padding": 0}, 0),
        ({"kernel_size": 3, "padding": 1}, 0),
        ({"kernel_size": 5, "padding": 4, "dilation_rate": 2}, 0),
        ({"kernel_size": 4, "padding": ((1, 2), (1, 2))}, 0),
        ({"kernel_size": 7, "padding": 3, "strides": 2}, 0),  # of an odd size; an even one has (2, 3) with "same"
        ({"kernel_size": 3, "padding": 2}, 1),
        ({"kernel_size": 4, "padding": ((2, 1), (1, 2))}, 1),
    ],
)
def test_zeros_that_equal_same_are_left_to_the_convolution(arguments, padding_ops, monkeypatch):
    calls, padding_op = [], ops.pad
    monkeypatch.setattr(ops, "pad", lambda *args: calls.append(args) or padding_op(*args))
    layers.Conv2D(2, **arguments)(np.ones((1, 13, 13, 3), "float32"))
    assert len(calls) == padding_ops


def test_arguments_stand_in_the_order_of_keras():
    arguments = (4, 3, 1, "same", "channels_first", 2, 2, "relu", False)
    layer, reference = layers.Conv2D(*arguments, name="c"), keras.layers.Conv2D(*arguments, name="c")
    assert layer.get_config() == {**reference.get_config(), "padding_mode": "zeros"}


def test_same_and_causal_are_those_of_keras():
    x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype("float32")
    for arguments in (
        {"padding": "same", "strides": 2},
        {"padding": "causal", "strides": 2},
        {"padding": "causal", "dilation_rate": 2},
    ):
        layer, reference = layers.Conv1D(4, 3, **arguments), keras.layers.Conv1D(4, 3, **arguments)
        expected = reference(x)
        layer.build(x.shape)
        layer.set_weights(reference.get_weights())
        np.testing.assert_allclose(layer(x), expected, atol=1e-6)


def test_a_causal_output_ignores_the_future_in_every_mode():
    layer = layers.Conv1D(2, 3, dilation_rate=2, padding="causal", padding_mode="replicate")
    x = np.random.default_rng(0).normal(size=(1, 9, 3)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    x[:, 6:] += 1
    changed = np.abs(ops.convert_to_numpy(layer(x)) - y).max((0, 2)) > 0
    assert changed.tolist() == [False] * 6 + [True] * 3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: layers.Conv2D(1, 3, padding=-1),
            'Conv2D: `padding` must be "valid", "same", an integer of at least 0, or 2 entries, each an integer or '
            "(before, after). Received: padding=-1.",
        ),
        (lambda: layers.Conv2D(1, 3, padding=(1, 2, 3)), "Received: padding=(1, 2, 3)."),
        (lambda: layers.Conv2D(1, 3, padding=((1, 2), (3,))), "Received: padding=((1, 2), (3,))."),
        (lambda: layers.Conv3D(1, 3, padding=(1, 2)), "or 3 entries"),
        (
            lambda: layers.Conv1D(1, 3, padding=(True, 2)),
            'Conv1D: `padding` must be "valid", "same", "causal", an integer of at least 0, or a pair (before, after). '
            "Received: padding=(True, 2).",
        ),
        (
            lambda: layers.Conv2D(1, 3, strides=2, padding="same", dilation_rate=3),
            "Conv2D: `padding` must be numeric with dilation and a stride. Received: padding='same'. How much \"same\" "
            "pads depends on the input size; padding=(3, 3) is the usual choice.",
        ),
        (lambda: layers.Conv2D(1, 3, strides=0), "Conv2D: `strides` must be an integer of at least 1, or 2 of them."),
        (lambda: layers.Conv1D(1, 3, padding=1.5), "Received: padding=1.5."),
        (
            lambda: layers.Conv1D(1, 3, padding=1, padding_mode="mirror"),
            "Conv1D: `padding_mode` must be one of 'zeros', 'reflect', 'replicate', 'circular'. "
            "Received: padding_mode='mirror'.",
        ),
        (
            lambda: layers.Conv2D(1, 3, strides=2, padding="same", padding_mode="reflect"),
            "Conv2D: `padding` must be numeric with padding_mode=\"reflect\" and a stride. Received: padding='same'. "
            'How much "same" pads depends on the input size; padding=(1, 1) is the usual choice.',
        ),
        (
            lambda: layers.Conv2D(1, 3, padding=(1, 4), padding_mode="reflect")(np.ones((1, 5, 4, 1))),
            "Conv2D: `padding` must be at most 3 with padding_mode='reflect' on an axis of 4. "
            "Received: padding=((1, 1), (4, 4)). Use less padding, a larger input or another mode.",
        ),
        (lambda: layers.Conv2D(1, 7)(np.ones((1, 9, 5, 1))), "(5 + 0 − 7) / 1 + 1 = −1"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        make()
