"""From a small map to a larger one, for decoders."""

from __future__ import annotations

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import channel_axis, conv_norm_act, join, norm_act, refuse

RESIZE = (None, "nearest", "bilinear")


def upsample(
    x,
    filters: int,
    scale: int = 2,
    *,
    skip=None,
    resize: str | None = None,
    kernel_size=None,
    name: str | None = None,
    **options,
):
    """Enlarge a map, by transposed convolution or by resizing and convolution, and concatenate a skip connection.

    y = [skip, a(norm(Wᵀ x))], with W a convolution of stride `scale`, or y = [skip, a(norm(W ∗ resize(x)))]. The
    first with a 2 x 2 kernel is the up-convolution of Ronneberger et al., 2015, U-Net, arXiv:1505.04597, figure 1;
    kernels that the stride does not divide overlap unevenly and show as checkerboards, which resizing avoids (Odena
    et al., 2016, "Deconvolution and Checkerboard Artifacts", doi:10.23915/distill.00003). U-Net goes on with two
    `conv_norm_act`. Differs from the paper in: normalisation and activation follow the up-convolution; `skip` is not
    cropped but must fit.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels that come from `x`.
        scale: Factor of height and width, at least 2.
        skip: An earlier map `(batch, scale · height, scale · width, any)`. None: no concatenation.
        resize: "nearest" or "bilinear", followed by a convolution. None: transposed convolution.
        kernel_size: None: `scale` for the transposed convolution, 3 behind a resize.
        name: Prefix of the layers: `name_resize`, `name_conv`, `name_norm`, `name_act`, `name_concat`.
        options: As in `conv_norm_act`, but `padding` stays "same". A transposed convolution, which is
            `keras.layers.Conv2DTranspose`, does not have `groups` and `padding_mode`.

    Returns:
        `(batch, scale · height, scale · width, filters + channels of skip)`.
        Parameters: kernel_size² · channels · filters, plus normalisation.

    Raises:
        ValueError: If `skip` has another size than the enlarged map, both written out; if an option is not one of these.
    """
    arguments.integer("upsample", "scale", scale, 2)
    if options.setdefault("padding", "same") != "same":
        expected = "'same', for a map of exactly `scale` times the size"
        raise ValueError(arguments.message("upsample", "padding", expected, options["padding"]))
    if arguments.one_of("upsample", "resize", resize, RESIZE) is None:
        y = _transposed(x, filters, scale if kernel_size is None else kernel_size, scale, name, **options)
    else:
        y = keras.layers.UpSampling2D(scale, interpolation=resize, name=join(name, "resize"))(x)
        y = conv_norm_act(y, filters, 3 if kernel_size is None else kernel_size, 1, name=name, **options)
    if skip is None:
        return y
    axis = channel_axis()
    sizes = [shape[2:] if axis == 1 else shape[1:-1] for shape in (y.shape, skip.shape)]
    if any(None not in pair and pair[0] != pair[1] for pair in zip(*sizes, strict=True)):
        raise ValueError(
            f"upsample: the enlarged map {y.shape} and `skip` {skip.shape} must have equal height and width. "
            "Choose an input size that the product of all strides divides."
        )
    return keras.layers.Concatenate(axis=axis, name=join(name, "concat"))([skip, y])


def _transposed(
    x, filters, kernel_size, strides, name, norm=keras.layers.BatchNormalization, activation="relu", **options
):
    refuse("upsample", options, ("groups", "padding_mode"), "transposed")
    options = {"use_bias": norm is None} | options
    x = keras.layers.Conv2DTranspose(filters, kernel_size, strides, name=join(name, "conv"), **options)(x)
    return norm_act(x, norm, activation, name)
