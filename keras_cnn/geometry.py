"""Convolution arithmetic: sizes, padding, receptive fields and parameter counts, in plain integers.

Everything except the parameter counts describes one axis. The notation is that of Dumoulin & Visin, 2016, *A guide to
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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from keras_cnn import arguments

__all__ = [
    "Field",
    "convolution_parameters",
    "effective_kernel_size",
    "output_size",
    "padding_amounts",
    "separable_parameters",
    "transposed_output_size",
]

Padding = Literal["valid", "same", "full"] | int | tuple[int, int]

_WORDS = ("valid", "same", "full")


def __dir__() -> list[str]:
    return __all__


def effective_kernel_size(kernel_size: int, dilation_rate: int = 1) -> int:
    """Cells from the first to the last tap of a dilated kernel: (K - 1) * d + 1.

    Args:
        kernel_size, dilation_rate: Integers of at least 1.

    Example:
        >>> effective_kernel_size(3, dilation_rate=2)
        5
    """
    owner = "effective_kernel_size"
    kernel_size = arguments.integer(owner, "kernel_size", kernel_size)
    return (kernel_size - 1) * arguments.integer(owner, "dilation_rate", dilation_rate) + 1


def output_size(
    size: int | None,
    kernel_size: int,
    strides: int = 1,
    padding: Literal["valid", "same", "full"] | int | tuple[int, int] = "valid",
    dilation_rate: int = 1,
) -> int | None:
    """Size of the output of a convolution or pooling along one axis.

    Args:
        size: Input size, at least 1, or None if unknown.
        kernel_size, strides, dilation_rate: Integers of at least 1.
        padding: "valid", "same", "full", an int, or (before, after); see the top of this module.

    Returns:
        floor((W + P - ((K - 1) * d + 1)) / S) + 1, or None if `size` is None.

    Raises:
        ValueError: If the kernel is larger than the padded input. The message shows the arithmetic.

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
    total = _total_padding(size, kernel_size, strides, padding, dilation_rate)
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


def padding_amounts(
    size: int | None,
    kernel_size: int,
    strides: int = 1,
    padding: Literal["valid", "same", "full"] | int | tuple[int, int] = "same",
    dilation_rate: int = 1,
) -> tuple[int | None, int | None]:
    """Cells that are added before and after the data along one axis.

    Only "same" with a stride depends on `size`. Its total is max((ceil(W / S) - 1) * S + (K - 1) * d + 1 - W, 0); half
    of it, rounded down, goes before the data.

    Args:
        size: Input size, at least 1, or None if unknown.
        kernel_size, strides, dilation_rate: Integers of at least 1.
        padding: "valid", "same", "full", an int, or (before, after); see the top of this module.

    Returns:
        (before, after). With a `size` of None, an amount that depends on the size is None.

    Example:
        >>> padding_amounts(224, 3, strides=2), padding_amounts(225, 3, strides=2), padding_amounts(None, 3)
        ((0, 1), (1, 1), (1, 1))
    """
    owner = "padding_amounts"
    size, kernel_size, strides, dilation_rate = _integers(owner, size, kernel_size, strides, dilation_rate)
    padding = _padding(owner, padding)
    if isinstance(padding, tuple):
        return padding
    reach = effective_kernel_size(kernel_size, dilation_rate) - 1
    if padding == "valid":
        return 0, 0
    if padding == "full":
        return reach, reach
    if size is None:
        # Sizes that the stride divides have the smallest total, those one larger the largest; all others lie between.
        least = max(reach + 1 - strides, 0)
        most = reach
    else:
        least = most = max((math.ceil(size / strides) - 1) * strides + reach + 1 - size, 0)
    before = most // 2
    after = most - before
    return before if least // 2 == before else None, after if least - least // 2 == after else None


def transposed_output_size(
    size: int | None,
    kernel_size: int,
    strides: int = 1,
    padding: Literal["valid", "same", "full"] | int | tuple[int, int] = "valid",
    dilation_rate: int = 1,
    output_padding: int | None = None,
) -> int | None:
    """Size of the output of a transposed convolution along one axis.

    `padding` is that of the convolution that is transposed, so it makes the output smaller. A convolution with a stride
    gives the same output size for up to S input sizes; `output_padding`, in [0, S), selects one of them:

        output = (W - 1) * S + (K - 1) * d + 1 - P + output_padding

    where P of "same" is K' = (K - 1) * d + 1, rounded down to an even number, as in Keras.

    Args:
        size: Input size, at least 1, or None if unknown.
        kernel_size, strides, dilation_rate: Integers of at least 1.
        padding: "valid", "same", "full", an int, or (before, after); see the top of this module.
        output_padding: None: the rule of `keras.layers.Conv*Transpose` for "valid" and "same", W * S + max(K' - S, 0)
            and W * S; 0 for "full" and numbers.

    Returns:
        The size, or None if `size` is None.

    Raises:
        ValueError: If the padding leaves nothing; the message shows the arithmetic. If `output_padding` is not below
            the stride.

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
        output_padding = _output_padding(owner, output_padding, strides)
    if size is None:
        return None
    effective = effective_kernel_size(kernel_size, dilation_rate)
    if output_padding is None and padding in ("valid", "same"):
        return size * strides + (max(effective - strides, 0) if padding == "valid" else 0)
    rest = (strides, padding, dilation_rate)
    total = effective // 2 * 2 if padding == "same" else _total_padding(size, kernel_size, *rest)
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
        size: Receptive field, in input cells. None if it is unknown.
        stride: Effective stride: input cells from one output cell to the next. None if it is unknown.
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

    def then(
        self,
        kernel_size: int,
        strides: int = 1,
        padding: Literal["valid", "same", "full"] | int | tuple[int, int] = "valid",
        dilation_rate: int = 1,
        size: int | None = None,
    ) -> Field:
        """The field after one more layer.

        Args:
            kernel_size, strides, padding, dilation_rate: As in `output_size`.
            size: Input size of that layer; only "same" with a stride needs it.
        """
        before, _ = padding_amounts(size, kernel_size, strides, padding, dilation_rate)
        strides = int(strides)  # the small integers of NumPy overflow
        reach = effective_kernel_size(kernel_size, dilation_rate) - 1
        return Field(
            _plus(self.size, reach, self.stride),
            None if self.stride is None else self.stride * strides,
            _plus(self.padding, before, self.stride),
        )


def convolution_parameters(
    kernel_size: Sequence[int], channels: int, filters: int, groups: int = 1, use_bias: bool = False
) -> int:
    """Number of weights of a convolution: N * M * channels * filters / groups, plus one bias per filter.

    Args:
        kernel_size: One int per axis: (3, 3) is a square kernel, (5,) one of a single axis.
        channels: Channels of the input, a multiple of `groups`.
        filters: Channels of the output, a multiple of `groups`.
        groups: Groups of channels that are convolved separately.
        use_bias: Whether each filter has a bias.

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
    kernel_size: Sequence[int], channels: int, filters: int, depth_multiplier: int = 1, use_bias: bool = False
) -> int:
    """Number of weights of a depthwise convolution and the 1 x 1 convolution after it: N * M * i + i * o.

    i is `channels` times `depth_multiplier`, o is `filters`. Howard et al., 2017, *MobileNets*, arXiv:1704.04861,
    section 3.1.

    Args:
        kernel_size: One int per axis of the depthwise convolution.
        channels: Channels of the input.
        filters: Channels of the output.
        depth_multiplier: Depthwise kernels per input channel.
        use_bias: Whether each filter of the 1 x 1 convolution has a bias, as in `keras.layers.SeparableConv*`.

    Example:
        >>> separable_parameters((3, 3), 64, 128), convolution_parameters((3, 3), 64, 128)
        (8768, 73728)
    """
    owner = "separable_parameters"
    inner = arguments.integer(owner, "channels", channels)
    inner *= arguments.integer(owner, "depth_multiplier", depth_multiplier)
    filters = arguments.integer(owner, "filters", filters)
    return _taps(owner, kernel_size) * inner + inner * filters + use_bias * filters


def _plus(start: int | None, cells: int | None, stride: int | None) -> int | None:
    return None if start is None or cells is None or stride is None else start + cells * stride


def _taps(owner: str, kernel_size: Sequence[int]) -> int:
    if not isinstance(kernel_size, (tuple, list)) or not kernel_size:
        expected = "a tuple with one integer for each axis"
        remedy = "A square kernel is (3, 3)."
        raise ValueError(arguments.message(owner, "kernel_size", expected, kernel_size, remedy))
    return math.prod(arguments.integer(owner, "kernel_size", size) for size in kernel_size)


def _total_padding(size: int, kernel_size: int, strides: int, padding: Padding, dilation_rate: int) -> int:
    """Cells of both sides, which are known where `size` is."""
    before, after = padding_amounts(size, kernel_size, strides, padding, dilation_rate)
    return (before or 0) + (after or 0)


def _integers(
    owner: str, size: int | None, kernel_size: int, strides: int, dilation_rate: int
) -> tuple[int | None, int, int, int]:
    """The four as Python integers, since those of NumPy overflow; `size` may be None."""
    return (
        None if size is None else arguments.integer(owner, "size", size),
        arguments.integer(owner, "kernel_size", kernel_size),
        arguments.integer(owner, "strides", strides),
        arguments.integer(owner, "dilation_rate", dilation_rate),
    )


def _padding(owner: str, padding: Padding) -> Literal["valid", "same", "full"] | tuple[int, int]:
    if isinstance(padding, str) and padding in _WORDS:
        return padding
    return arguments.pairs(owner, "padding", padding, 1, _WORDS)[0]


def _output_padding(owner: str, output_padding: int, strides: int) -> int:
    output_padding = arguments.integer(owner, "output_padding", output_padding, 0)
    if output_padding >= strides:
        expected = f"below the stride ({strides})"
        remedy = "One stride more is one more cell of input."
        raise ValueError(arguments.message(owner, "output_padding", expected, output_padding, remedy))
    return output_padding
