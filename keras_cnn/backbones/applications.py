"""The networks of `keras.applications`, without their classifiers and with their preprocessing inside.

What differs between them is asked of Keras, not kept here: the size of the images each was trained on, and what its
`preprocess_input` does to them.
"""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from keras_cnn import arguments, fetching
from keras_cnn.backbones.backbone import Backbone, Source, weight_file
from keras_cnn.backbones.ranges import affine
from keras_cnn.backbones.staging import staged
from keras_cnn.preprocessing import Preprocessing

# Arguments of Keras' functions that are ours to give.
OURS = {
    *("include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation", "name"),
    "include_preprocessing",
}
SIZE = 224  # where Keras does not say
_patching = threading.Lock()


def names() -> list[str]:
    """The networks, such as "ResNet50"."""
    return sorted(name for name, value in vars(keras.applications).items() if inspect.isfunction(value))


def load(name: str, size=None, weights="default", **options) -> Backbone:
    """A network of `keras.applications`.

    Args:
        name: One of `names()`, in any case.
        size: Height and width, each a number or None where the network allows it. None: what it was trained on.
        weights: "default" (ImageNet), the path of a weight file of the network without its classifier, or None (random).
        options: Other arguments of the network's function: `alpha` of the MobileNets and the like.

    Raises:
        ValueError: If there is no such network, or Keras cannot make it so.
        FileNotFoundError: If the weights are not there and cannot be downloaded.
    """
    make = _function(name)
    handle = f"keras:{make.__name__}"
    _check_options(handle, make, options)
    side = _default_size(make)
    height, width = size or side
    model, source = _make(handle, make, weights, {"input_shape": (height, width, 3), **options})
    model, stages = staged(model, (height, width), normalization(sys.modules[make.__module__].preprocess_input))
    return Backbone(model, stages, Preprocessing((height or side[0], width or side[1])), source)


def normalization(preprocess):
    """What a `preprocess_input` does, as a function of a tensor `(batch, height, width, 3)` RGB 0..255.

    It may exchange channels, and scale and shift each: so three pixels and a black one tell all about it.
    """
    pixels = np.concatenate([np.zeros((1, 3)), 255.0 * np.eye(3)]).reshape(4, 1, 1, 3)
    black, *primaries = np.asarray(preprocess(pixels, data_format="channels_last"), "float64").reshape(4, 3)
    scale = np.round((np.stack(primaries) - black) / 255, 12)
    turned = bool(scale[0, 0] == 0)
    return affine(np.diagonal(scale[::-1] if turned else scale).tolist(), black.tolist(), turned)


def _function(name):
    known = {one.lower(): one for one in names()}
    if name.lower() not in known:
        near = [known[one] for one in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)]
        expected = 'a network of keras.applications after "keras:"'
        remedy = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(known.values())}."
        raise ValueError(arguments.message("load_backbone", "handle", expected, f"keras:{name}", remedy))
    return getattr(keras.applications, known[name.lower()])


def _check_options(handle, make, options):
    known = [name for name in inspect.signature(make).parameters if name not in OURS]
    unknown = [name for name in options if name not in known]
    if unknown:
        takes = f"of its own {', '.join(known)}" if known else "no arguments of its own"
        raise TypeError(
            f"load_backbone: {handle} takes {takes}. Received: {', '.join(unknown)}. The classifier is left out always; "
            "put a head of keras_cnn.heads on the network."
        )


def _default_size(make):
    """Height and width that a network was trained on: what Keras would use, caught before it builds anything."""

    def obtain_input_shape(*_, default_size, **__):
        raise _AskedError(default_size)

    with _patched(keras.applications.imagenet_utils.preprocess_input, "obtain_input_shape", obtain_input_shape):
        try:
            make(weights=None, include_top=False, input_shape=(31, 31, 3))
        except _AskedError as asked:
            return asked.args * 2
        except ValueError:  # too small: MobileNetV3 takes any size from 32 on and knows no default
            pass
    return SIZE, SIZE


class _AskedError(Exception):
    """Carries what Keras asked for."""


@contextmanager
def _patched(neighbour, name, replacement):
    """Within it, in this thread, Keras calls `replacement` by that name in the module where `neighbour` is defined."""
    module, thread = sys.modules[neighbour.__module__], threading.get_ident()

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
    """The network as Keras makes it, and its source."""
    if weights is None:
        return _made(handle, make, None, options), Source(handle, "random weights")
    local = weight_file(weights)
    with _weights_from(handle, local) as files:
        model = _made(handle, make, files, options)
    what = "ImageNet weights of keras.applications" if local is None else str(local)
    return model, Source(handle, what, fetching.digest(files[-1]))


def _made(handle, make, files, options):
    """`files` None: random weights."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square")
            return make(weights=None if files is None else "imagenet", include_top=False, **options)
    except (ValueError, OSError, KeyError) as error:
        if isinstance(error, _NotFetchedError):
            raise FileNotFoundError(str(error)) from None
        reason = fetching.in_short(error)
        if files:
            raise ValueError(
                f"load_backbone: {files[-1]} must hold the weights of {handle} without its classifier, as Keras writes them. "
                f"Loading it fails: {reason}"
            ) from None
        raise ValueError(f"load_backbone: Keras cannot make {handle} with {options}: {reason}") from None


class _NotFetchedError(OSError):
    """A weight file could not be had; the text says all."""


@contextmanager
def _weights_from(handle, local):
    """Within it, Keras gets its weight files from us: whole ones only, or `local` in their place. Gives the list of them.

    Keras downloads into the file's final place, where a process that is killed leaves a part that later ones take for
    the whole. And a network of its own with `weights=path` is not always the one that the weights were trained in: the
    EfficientNets have one layer more with `weights="imagenet"`.
    """
    files = []

    def get_file(fname, origin, cache_subdir="models", file_hash=None, **_):
        kept = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / cache_subdir / fname
        if local:
            files.append(local)
        elif kept.is_file() and file_hash in (None, fetching.digest(kept, file_hash or "")):
            files.append(kept)
        else:
            files.append(_downloaded(handle, origin, file_hash))
        return str(files[-1])

    with _patched(keras.utils.get_file, "get_file", get_file):
        yield files


def _downloaded(handle, address, checksum):
    try:
        return fetching.download(address, checksum)
    except (FileNotFoundError, ValueError) as error:
        raise _NotFetchedError(
            f"load_backbone: no weights for {handle}. {error} Or take weights=None for random weights."
        ) from None
