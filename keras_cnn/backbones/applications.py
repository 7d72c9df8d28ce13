"""The networks of `keras.applications`, without their classifiers and with their preprocessing inside.

Keras itself says what differs between them: the size of the images that each was trained on, and what its `preprocess_input`
does to them.
"""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn import arguments
from keras_cnn.backbones.backbone import Backbone, Source, weight_file
from keras_cnn.backbones.ranges import affine
from keras_cnn.backbones.staging import with_stage_markers
from keras_cnn.downloads import download, file_checksum
from keras_cnn.preprocessing import Preprocessing

# Arguments of Keras' functions that this module sets.
RESERVED = {
    *("include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation", "name"),
    "include_preprocessing",
}
DEFAULT_SIZE = 224  # where Keras has none
_patching = threading.Lock()


def names() -> list[str]:
    """The networks, such as "ResNet50"."""
    return sorted(name for name, value in vars(keras.applications).items() if inspect.isfunction(value))


def load(
    name: str,
    size: tuple[int | None, int | None] | None = None,
    weights: str | os.PathLike | None = "default",
    **options: Any,
) -> Backbone:
    """A network of `keras.applications`.

    Args:
        name: One of `names()`, in any case.
        size: Height and width, each a number or None where the network allows it. None: the size it was trained on.
        weights: "default" (ImageNet), the path of a weight file of the network without its classifier, or None (random).
        options: Other arguments of the network's function, such as `alpha` of the MobileNets.

    Raises:
        ValueError: If there is no such network, or Keras cannot make it with these arguments.
        FileNotFoundError: If the weights are missing and cannot be downloaded.
    """
    make = _function(name)
    handle = f"keras:{make.__name__}"
    _check_options(handle, make, options)
    side = _default_size(make)
    height, width = size or side
    model, source = _make(handle, make, weights, {"input_shape": (height, width, 3), **options})
    preprocess = sys.modules[make.__module__].preprocess_input
    model, stages = with_stage_markers(model, (height, width), normalization(preprocess))
    return Backbone(model, stages, Preprocessing((height or side[0], width or side[1])), source)


def normalization(preprocess: Callable[..., Any]) -> Callable[[Any], Any]:
    """What a `preprocess_input` does, as a function of a tensor `(batch, height, width, 3)` RGB 0..255.

    It may reverse the channels, and scale and shift each: its results for black, red, green and blue determine it.
    """
    pixels = np.concatenate([np.zeros((1, 3)), 255.0 * np.eye(3)]).reshape(4, 1, 1, 3)
    black, *primaries = np.asarray(preprocess(pixels, data_format="channels_last"), "float64").reshape(4, 3)
    scale = np.round((np.stack(primaries) - black) / 255, 12)
    bgr = bool(scale[0, 0] == 0)
    return affine(np.diagonal(scale[::-1] if bgr else scale).tolist(), black.tolist(), bgr)


def _function(name):
    known = {one.lower(): one for one in names()}
    if name.lower() not in known:
        near = [known[one] for one in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)]
        expected = 'a network of keras.applications after "keras:"'
        remedy = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(known.values())}."
        raise ValueError(arguments.message("load_backbone", "handle", expected, f"keras:{name}", remedy))
    return getattr(keras.applications, known[name.lower()])


def _check_options(handle, make, options):
    known = [name for name in inspect.signature(make).parameters if name not in RESERVED]
    unknown = [name for name in options if name not in known]
    if unknown:
        takes = f"the options {', '.join(known)}" if known else "no options"
        raise TypeError(
            f"load_backbone: {handle} takes {takes}. Received: {', '.join(unknown)}. The network is always loaded without "
            "its classifier; put a head of keras_cnn.heads on it."
        )


def _default_size(make):
    """Height and width that a network was trained on: the default of Keras, captured before it builds anything."""

    def obtain_input_shape(*_, default_size, **__):
        raise _DefaultSize(default_size)

    with _patched(keras.applications.imagenet_utils.preprocess_input, "obtain_input_shape", obtain_input_shape):
        try:
            make(weights=None, include_top=False, input_shape=(31, 31, 3))
        except _DefaultSize as default:
            return default.args * 2
        except ValueError:  # too small: MobileNetV3 takes any size from 32 on and has no default
            pass
    return DEFAULT_SIZE, DEFAULT_SIZE


class _DefaultSize(Exception):  # noqa: N818
    """Carries the default size out of Keras."""


@contextmanager
def _patched(function, name, replacement):
    """A context in which this thread calls `replacement` for `name` in the module of Keras that defines `function`."""
    module, thread = sys.modules[function.__module__], threading.get_ident()

    def call(*args, **kwargs):
        return (replacement if threading.get_ident() == thread else original)(*args, **kwargs)

    with _patching:
        original = getattr(module, name)
        setattr(module, name, call)
        try:
            yield
        finally:
            setattr(module, name, original)


def _make(handle, make, weights, options):
    """The network as Keras builds it, and its source."""
    if weights is None:
        return _build(handle, make, None, options), Source(handle, "random weights")
    local = weight_file(weights)
    with _weights_from(handle, local) as files:
        model = _build(handle, make, files, options)
    origin = "ImageNet weights of keras.applications" if local is None else str(local)
    return model, Source(handle, origin, file_checksum(files[-1]))


def _build(handle, make, files, options):
    """`files`: the list that `_weights_from` yields. None: random weights."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square")
            return make(weights=None if files is None else "imagenet", include_top=False, **options)
    except (ValueError, OSError, KeyError) as error:
        if isinstance(error, _DownloadError):
            raise FileNotFoundError(str(error)) from None
        reason = arguments.short_message(error)
        if files:
            raise ValueError(
                f"load_backbone: {files[-1]} must hold the weights of {handle} without its classifier, as Keras writes them. "
                f"Loading it fails: {reason}"
            ) from None
        raise ValueError(f"load_backbone: Keras cannot make {handle} with {options}: {reason}") from None


class _DownloadError(OSError):
    """A weight file cannot be downloaded; the message is complete."""


@contextmanager
def _weights_from(handle, local):
    """A context in which Keras loads complete weight files, or `local` instead; yields the list of the loaded files.

    Keras downloads to the final file name, where a killed process leaves a part that later ones take for
    the whole. And Keras with `weights=path` does not always build the network that the weights were trained in: the
    EfficientNets have one more layer with `weights="imagenet"`.
    """
    files = []

    def get_file(fname, origin, cache_subdir="models", file_hash=None, **_):
        cached = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / cache_subdir / fname
        if local:
            files.append(local)
        elif cached.is_file() and file_hash in (None, file_checksum(cached, file_hash or "")):
            files.append(cached)
        else:
            files.append(_download(handle, origin, file_hash))
        return str(files[-1])

    with _patched(keras.utils.get_file, "get_file", get_file):
        yield files


def _download(handle, address, checksum):
    try:
        return download(address, checksum)
    except (FileNotFoundError, ValueError) as error:
        raise _DownloadError(
            f"load_backbone: no weights for {handle}. {error} Or pass weights=None for random weights."
        ) from None
