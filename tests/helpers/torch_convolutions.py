"""What PyTorch computes for the arguments that its convolutions share with ours."""

import json
from pathlib import Path

import numpy as np

from keras_cnn import layers

LAYERS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}


def torch_cases():
    """(arguments, arrays) of tests/data/torch_convolutions.npz, made by tools/make_torch_reference.py."""
    file = np.load(Path(__file__).parents[1] / "data" / "torch_convolutions.npz")
    values = file["values"].astype("float32")
    for case in json.loads(str(file["cases"])):
        arrays = {}
        for name, shape in case["shapes"].items():
            count = int(np.prod(shape))
            arrays[name], values = values[:count].reshape(shape), values[count:]
        yield case["arguments"], arrays


def convolution(arguments, kernel, bias):
    """The layer of `keras_cnn` with PyTorch's arguments and weights, channels last."""
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
    """An array of PyTorch with its channels at the end."""
    return np.moveaxis(array, 1, -1)
