"""Convolution arithmetic: sizes, padding, receptive fields and parameter counts, in plain integers.

Everything but the parameter counts speaks of one axis. The notation is that of Dumoulin & Visin, 2016, *A guide to
convolution arithmetic for deep learning*, arXiv:1603.07285, with dilation: input size W, kernel size K, stride S,
dilation d, and P, the total padding of both sides,

    output = floor((W + P - ((K - 1) * d + 1)) / S) + 1

`padding` is one of

    "valid"             none
    "same"              output = ceil(W / S); TensorFlow's rule: an odd total puts the extra cell after the data
    "full"              (K - 1) * d on each side: every overlap of kernel and data counts
    an int p            p on each side
    (before, after)     two ints

A size of `None` is unknown, and so is every result that depends on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_cnn import arguments

_WORDS = ("valid", "same", "full")


def effective_kernel_size(kernel_size: int, dilation_rate: int = 1) -> int:
    """Cells from the first to the last tap of a dilated kernel: (K - 1) * d + 1."""
    owner = "effective_kernel_size"
    kernel_size = arguments.integer(owner, "kernel_size", kernel_size)
    return (kernel_size - 1) * arguments.integer(owner, "dilation_rate", dilation_rate) + 1


def output_size(size, kernel_size, strides=1, padding="valid", dilation_rate=1) -> int | None:
    """Size of the output of a convolution or pooling along one axis.

    Args:
        size: Input size, at least 1, or None if unknown.
        kernel_size, strides, dilation_rate: Integers of at least 1.
        padding: See the head of this module.

    Returns:
        floor((W + P - ((K - 1) * d + 1)) / S) + 1, or None if `size` is None.

    Raises:
        ValueError: If the kernel is larger than the padded input; the message spells the arithmetic out.

    Example:
        >>> output_size(224, 7, strides=2, padding=3)
        112
        >>> output_size(5, 7)
        Traceback (most recent call last):
        ...
        ValueError: output_size: the kernel does not fit: (5 + 0 − 7) / 1 + 1 = −1. ...
    """
    owner = "output_size"
    size, kernel_size, strides, dilation_rate = _integers(owner, size, kernel_size, strides, dilation_rate)
    padding = _padding(owner, padding)
    if size is None:
        return None
    total = sum(padding_amounts(size, kernel_size, strides, padding, dilation_rate))
    effective = effective_kernel_size(kernel_size, dilation_rate)
    cells = (size + total - effective) // strides + 1
    if cells < 1:
        arithmetic = f"({size} + {total} − {effective}) / {strides} + 1 = {cells}".replace("-", "−")
        raise ValueError(
            f"{owner}: the kernel does not fit: {arithmetic}. Expected a padded input (size + padding = "
            f"{size + total}) no smaller than the dilated kernel ({effective}). Received: size={size}, "
            f"kernel_size={kernel_size}, strides={strides}, padding={padding!r}, dilation_rate={dilation_rate}. "
            "Use more padding, a smaller kernel or a larger input."
        )
    return cells


def padding_amounts(size, kernel_size, strides=1, padding="same", dilation_rate=1) -> tuple[int | None, int | None]:
    """Cells added before and after the data along one axis.

    Only "same" with a stride depends on `size`. Its total is max((ceil(W / S) - 1) * S + (K - 1) * d + 1 - W, 0), of
    which half, rounded down, stands before the data.

    Returns:
        (before, after); with a `size` of None, None for each that depends on it.

    Example:
        >>> padding_amounts(224, 3, strides=2), padding_amounts(225, 3, strides=2), padding_amounts(None, 3)
        ((0, 1), (1, 1), (1, 1))
    """
    owner = "padding_amounts"
    size, kernel_size, strides, dilation_rate = _integers(owner, size, kernel_size, strides, dilation_rate)
    padding = _padding(owner, padding)
    reach = effective_kernel_size(kernel_size, dilation_rate) - 1
    if padding == "valid":
        return 0, 0
    if padding == "full":
        return reach, reach
    if padding != "same":
        return padding
    if size is None:  # the total of sizes that the stride divides, and of those one larger: all others lie between
        least, most = max(reach + 1 - strides, 0), reach
    else:
        least = most = max((math.ceil(size / strides) - 1) * strides + reach + 1 - size, 0)
    before, after = most // 2, most - most // 2
    return before if least // 2 == before else None, after if least - least // 2 == after else None


def transposed_output_size(
    size, kernel_size, strides=1, padding="valid", dilation_rate=1, output_padding=None
) -> int | None:
    """Size of the output of a transposed convolution along one axis.

    `padding` is that of the convolution it transposes, so it makes the output smaller. A convolution with a stride
    gives one output size for up to S input sizes; `output_padding`, in [0, S), chooses among them:

        output = (W - 1) * S + (K - 1) * d + 1 - P + output_padding

    where P of "same" is K' = (K - 1) * d + 1, rounded down to an even number, as in Keras.

    Args:
        output_padding: None: the rule of `keras.layers.Conv*Transpose` for "valid" and "same", W * S + max(K' - S, 0)
            and W * S, and 0 for "full" and numbers.

    Example:
        >>> transposed_output_size(112, 3, strides=2, padding="same")
        224
        >>> transposed_output_size(112, 3, strides=2, padding=1), transposed_output_size(112, 3, 2, 1, output_padding=1)
        (223, 224)
    """
    owner = "transposed_output_size"
    size, kernel_size, strides, dilation_rate = _integers(owner, size, kernel_size, strides, dilation_rate)
    padding = _padding(owner, padding)
    if output_padding is not None:
        output_padding = arguments.integer(owner, "output_padding", output_padding, 0)
        if output_padding >= strides:
            expected, remedy = f"below the stride ({strides})", "One stride more is one more cell of input."
            raise ValueError(arguments.message(owner, "output_padding", expected, output_padding, remedy))
    if size is None:
        return None
    effective = effective_kernel_size(kernel_size, dilation_rate)
    if output_padding is None and padding in ("valid", "same"):
        return size * strides + (max(effective - strides, 0) if padding == "valid" else 0)
    if padding == "same":
        total = effective // 2 * 2
    else:
        total = sum(padding_amounts(size, kernel_size, strides, padding, dilation_rate))
    cells = (size - 1) * strides + effective - total + (output_padding or 0)
    if cells < 1:
        arithmetic = f"({size} − 1) · {strides} + {effective} − {total} + {output_padding or 0} = {cells}"
        raise ValueError(
            f"{owner}: nothing is left: {arithmetic.replace('-', '−')}. Expected at least one cell. Received: "
            f"size={size}, kernel_size={kernel_size}, strides={strides}, padding={padding!r}, "
            f"dilation_rate={dilation_rate}. Use less padding."
        )
    return cells


@dataclass(frozen=True)
class Field:
    """What one output cell of a stack of layers sees of the input, along one axis.

    Composition follows Araujo, Norris & Sim, 2019, *Computing Receptive Fields of Convolutional Neural Networks*,
    Distill 4(11), in forward order: a layer with kernel K, stride S, dilation d and `before` cells of padding gives

        size' = size + (K - 1) * d * stride      stride' = stride * S      padding' = padding + before * stride

    Output cell i sees the input cells from i * stride - padding to i * stride - padding + size - 1.

    Args:
        size: Receptive field, in input cells.
        stride: Effective stride: input cells from one output cell to the next.
        padding: Effective padding: how far the field of the first output cell reaches before the input.
            None if it depends on the size of the input.

    Example: the first two layers of ResNet-50 (convolution 7 / 2, max pooling 3 / 2).
        >>> Field().then(7, strides=2, padding=3).then(3, strides=2, padding=1)
        Field(size=11, stride=4, padding=5)
        >>> Field().then(3, strides=2, padding="same")
        Field(size=3, stride=2, padding=None)
        >>> Field().then(3, strides=2, padding="same", size=224)
        Field(size=3, stride=2, padding=0)
    """

    size: int | None = 1
    stride: int | None = 1
    padding: int | None = 0

    def then(self, kernel_size, strides=1, padding="valid", dilation_rate=1, size=None) -> Field:
        """The field after one more layer; `size` is that layer's input size, which "same" with a stride asks for."""
        before, _ = padding_amounts(size, kernel_size, strides, padding, dilation_rate)
        strides = int(strides)  # NumPy's overflow
        reach = effective_kernel_size(kernel_size, dilation_rate) - 1
        return Field(
            _plus(self.size, reach, self.stride),
            None if self.stride is None else self.stride * strides,
            _plus(self.padding, before, self.stride),
        )


def convolution_parameters(kernel_size, channels: int, filters: int, groups: int = 1, use_bias: bool = False) -> int:
    """Weights of a convolution: N * M * depth_in * depth_out / groups, and one bias a filter if asked for.

    Args:
        kernel_size: A tuple of ints, one an axis: (3, 3) is a square kernel; (5,) one of a single axis.

    Example:
        >>> convolution_parameters((3, 3), 64, 128), convolution_parameters((3, 3), 64, 128, groups=32)
        (73728, 2304)
    """
    owner = "convolution_parameters"
    channels = arguments.integer(owner, "channels", channels)
    filters = arguments.integer(owner, "filters", filters)
    groups = arguments.integer(owner, "groups", groups)
    for name, value in (("channels", channels), ("filters", filters)):
        if value % groups:
            raise ValueError(arguments.message(owner, name, f"a multiple of groups ({groups})", value))
    return _taps(owner, kernel_size) * (channels // groups) * filters + use_bias * filters


def separable_parameters(
    kernel_size, channels: int, filters: int, depth_multiplier: int = 1, use_bias: bool = False
) -> int:
    """Weights of a depthwise convolution and the 1 x 1 convolution after it: N * M * i + i * o.

    i is `channels` times `depth_multiplier`, o is `filters`; `use_bias` adds one bias a filter, as
    `keras.layers.SeparableConv*` does. Howard et al., 2017, *MobileNets*, arXiv:1704.04861, section 3.1.

    Example:
        >>> separable_parameters((3, 3), 64, 128), convolution_parameters((3, 3), 64, 128)
        (8768, 73728)
    """
    owner = "separable_parameters"
    inner = arguments.integer(owner, "channels", channels)
    inner *= arguments.integer(owner, "depth_multiplier", depth_multiplier)
    filters = arguments.integer(owner, "filters", filters)
    return _taps(owner, kernel_size) * inner + inner * filters + use_bias * filters


def _plus(start, cells, stride):
    return None if start is None or cells is None or stride is None else start + cells * stride


def _taps(owner, kernel_size):
    if not isinstance(kernel_size, (tuple, list)) or not kernel_size:
        expected, remedy = "a tuple with one integer for each axis", "A square kernel is (3, 3)."
        raise ValueError(arguments.message(owner, "kernel_size", expected, kernel_size, remedy))
    return math.prod(arguments.integer(owner, "kernel_size", size) for size in kernel_size)


def _integers(owner, size, kernel_size, strides, dilation_rate):
    """The four as plain ints, since NumPy's overflow; `size` may be None."""
    return (
        None if size is None else arguments.integer(owner, "size", size),
        arguments.integer(owner, "kernel_size", kernel_size),
        arguments.integer(owner, "strides", strides),
        arguments.integer(owner, "dilation_rate", dilation_rate),
    )


def _padding(owner, padding):
    """One of `_WORDS`, or (before, after)."""
    words = isinstance(padding, str) and padding in _WORDS
    return padding if words else arguments.pairs(owner, "padding", padding, 1, _WORDS)[0]
