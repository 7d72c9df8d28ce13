"""Larger images after training: random crops show objects larger than the centre of an image does.

Touvron et al., 2019, Fixing the train-test resolution discrepancy, arXiv:1906.06423 (FixRes): a network that was trained on
random crops classifies larger images better, once its head is fitted to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_cnn import Backbone, arguments, keras_internals
from keras_cnn.builder import attach
from keras_cnn.surgery.graph import graph_of, rewrite
from pipelines import doctor
from pipelines.datasets.array_cache import ArrayCache
from pipelines.errors import InputError
from pipelines.progress import Progress
from pipelines.settings import BEST, Settings
from pipelines.training.decisions import Decision
from pipelines.training.feature_extractor import partition
from pipelines.training.head import HeadFit
from pipelines.training.split_images import SplitImages

RATIO = 8 / 7  # 256 for 224 pixels
MULTIPLE = 32  # pixels; the stride of the last features of most networks
READING = "Reading images at the test size"

Size = tuple[int, int]


@dataclass(frozen=True)
class SizeChoice:
    """The size of training or another one, by validation or by the user.

    Attributes:
        sizes: Height and width of both, in this order.
        losses: The loss at each; None where the other size cannot be used.
        score: The validation score at the size of training.
        chosen: The one that is used.
        given: Whether the user has chosen.
    """

    sizes: tuple[Size, Size]
    losses: tuple[float, float] | None
    score: dict[str, float]
    chosen: Size
    given: bool

    def decision(self, judge: str) -> Decision:
        """What was decided; `judge` says by which images."""
        if self.losses is None:
            reason = f"{_text(self.sizes[1])} needs a network that was trained as a whole, and selected"
            return Decision("test_input_size", _text(self.chosen), reason)
        tried = ", ".join(f"{loss:.3g} at {_text(size)}" for loss, size in zip(self.losses, self.sizes, strict=True))
        by = "as given; " if self.given else ""
        return Decision("test_input_size", _text(self.chosen), f"{by}loss {tried} pixels ({judge})")


def _text(size):
    return str(size[0]) if size[0] == size[1] else f"{size[0]} x {size[1]}"


def choose_size(settings: Settings, size: Size) -> Size:
    """Height and width in pixels that a job goes to after training on images of `size`; with a preset only if that is better.

    It stays at `size` unless the whole network is trained.

    Args:
        settings: Its `test_input_size`, or else its `preset`.
        size: Height and width in training.
    """
    if not settings.trains_on_images or (settings.test_input_size is None and settings.preset != BEST):
        return size
    if settings.test_input_size is not None:
        return settings.test_input_size, settings.test_input_size
    larger = max(size[0], MULTIPLE * round(RATIO * size[0] / MULTIPLE))
    return (larger, larger) if size[0] == size[1] else size


def check_input_size(backbone: Backbone, overrides: Mapping[str, Any]) -> None:
    """InputError if the user gave a `test_input_size` that cannot be used.

    Args:
        backbone: The network.
        overrides: Settings by name, as the user gave them; in their ranges.
    """
    size = overrides.get("test_input_size")
    if size is not None and overrides.get("train") not in (None, "all"):
        expected = "None unless the whole network is trained, by train='all'"
        raise InputError(arguments.message("fit", "test_input_size", expected, size))
    if size is not None and not takes_size(backbone, (size, size)):
        expected = f"None, or a size that {backbone.model.name!r} takes"
        raise InputError(arguments.message("fit", "test_input_size", expected, size))


def takes_size(backbone: Backbone, size: Size) -> bool:
    """Whether a network takes images of a size."""
    with keras_internals.calls_forgotten(backbone.model):
        try:
            _resized(backbone, size)
        except ValueError:  # of a layer that asks for another size
            return False
    return True


def _resized(backbone: Backbone, size: Size) -> keras.Model:
    """The same layers on images of another size."""
    image = keras.Input((*size, 3), name=backbone.model.input.name)
    (output,) = keras.tree.flatten(rewrite(graph_of(backbone.model), lambda *_: None, [image]))
    return keras.Model(image, output, name=backbone.model.name)


def with_size(head: HeadFit, size: Size, cache: ArrayCache, progress: Progress) -> HeadFit:
    """The same network, which shares its layers but the head, and the same images of another size; the head is not fitted.

    Args:
        head: A head on a network that is trained as a whole.
        size: Height and width in pixels.
        cache: Where decoded images are cached.
        progress: Shows how far it is.

    Raises:
        InputError: If an image cannot be read any more.
        ValueError: If the network does not take images of that size.
    """
    backbone, before = head.backbone, head.data.catalog
    preprocessing = replace(backbone.preprocessing, size=size)
    with progress.phase(READING, len(before.included())) as advance:
        catalog, images = doctor.read(before, preprocessing, cache, advance)
    lost = sorted(set(before.included().tolist()) - set(catalog.included().tolist()))
    if lost:
        names = arguments.join_some([catalog.paths[index] for index in lost], 3)
        raise InputError(
            f"fit: image files must stay as they are during a job. Received: {names} cannot be read any more."
        )
    network = replace(backbone, model=_resized(backbone, size), preprocessing=preprocessing)
    model = attach(network.model, head.task.head(head.settings.dropout))
    parts = partition(model, head.settings.feature_layer)
    data = SplitImages(catalog, images, preprocessing)
    return replace(head, model=model, backbone=network, data=data, partition=parts, copies=())
