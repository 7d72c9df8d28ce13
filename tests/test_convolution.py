"""Conv1D, Conv2D and Conv3D: PyTorch's numbers, padding by hand, errors."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_cnn import layers
from keras_cnn.layers.convolution import pad

LAYERS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}


def torch_cases():
    """(arguments, arrays) of tests/data/torch_convolutions.npz, made by tools/make_torch_reference.py."""
    file = np.load(Path(__file__).parent / "data" / "torch_convolutions.npz")
    values = file["values"].astype("float32")
    for case in json.loads(str(file["cases"])):
        arrays = {}
        for name, shape in case["shapes"].items():
            count = int(np.prod(shape))
            arrays[name], values = values[:count].reshape(shape), values[count:]
        yield case["arguments"], arrays


def ours(arguments, kernel, bias):
    """The layer of PyTorch's arguments and weights, channels_last."""
    rank = kernel.ndim - 2
    padding, stride, dilation = (arguments[name] for name in ("padding", "stride", "dilation"))
    layer = LAYERS[rank](
        len(bias),
        arguments["kernel_size"],
        strides=stride,
        padding=padding[0] if rank == 1 and isinstance(padding, list) else padding,
        dilation_rate=dilation,
        groups=arguments["groups"],
        padding_mode=arguments["padding_mode"],
        bias_initializer="zeros",
        data_format="channels_last",
    )
    layer.build((None, *(None,) * rank, kernel.shape[1] * arguments["groups"]))
    layer.set_weights([np.moveaxis(kernel, (1, 0), (-2, -1)), bias])
    return layer


def channels_last(array):
    return np.moveaxis(array, 1, -1)


def supported(arguments):
    """Keras refuses a stride together with dilation."""
    return np.max(arguments["stride"]) == 1 or np.max(arguments["dilation"]) == 1


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_equals_pytorch(mode):
    """Whole numbers: equal to the last bit."""
    compared = 0
    for arguments, arrays in torch_cases():
        if arguments["padding_mode"] == mode and supported(arguments):
            layer = ours(arguments, arrays["kernel"], arrays["bias"])
            result = ops.convert_to_numpy(layer(channels_last(arrays["x"])))
            np.testing.assert_array_equal(result, channels_last(arrays["y"]), err_msg=str(arguments))
            compared += 1
    assert compared == 28


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
    """The sizes of (1, 2), ((0, 2), (1, 1)) and so on tell which axis and side got what."""
    x = np.ones((1, 4, 4, 1), "float32")
    for padding, rows, columns in [
        (1, [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]),
        ((1, 2), [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]),
        (((0, 2), 1), [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]),
        ([[3, 0], [0, 1]], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1]),
    ]:
        result = layers.Conv2D(1, 1, padding=padding, bias_initializer="ones", kernel_initializer="zeros")(x)
        assert result.shape == (1, len(rows), len(columns), 1)
    result = ops.convert_to_numpy(layers.Conv2D(1, 1, padding=((0, 2), (1, 0)), kernel_initializer="ones")(x))
    expected = np.zeros((6, 5))
    expected[:4, 1:] = 1
    np.testing.assert_array_equal(result[0, :, :, 0], expected)


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
        (lambda: layers.Conv1D(1, 3, padding=(True, 2)), "Received: padding=(True, 2)."),
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
