"""Larger images after training: random crops show objects larger than the centre of an image does.

Touvron et al., 2019, Fixing the train-test resolution discrepancy, arXiv:1906.06423 (FixRes): a network that was trained on
random crops classifies larger images better, once its head is fitted to them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras

from keras_cnn import Backbone, arguments
from keras_cnn.backbones.staging import rebuild
from keras_cnn.builder import attach
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
    """The size of training or the test size, by validation.

    Attributes:
        sizes: Height and width of both, in this order.
        losses: The loss at each.
        chosen: The one that is used.
    """

    sizes: tuple[Size, Size]
    losses: tuple[float, float]
    chosen: Size

    def decision(self, judge: str) -> Decision:
        """What was decided; `judge` says by which images."""
        tried = ", ".join(f"{loss:.3g} at {_text(size)}" for loss, size in zip(self.losses, self.sizes, strict=True))
        return Decision("test_size", _text(self.chosen), f"loss {tried} pixels ({judge})")


def _text(size):
    return str(size[0]) if size[0] == size[1] else f"{size[0]} x {size[1]}"


def test_size(settings: Settings, size: Size) -> Size:
    """Height and width in pixels that a job goes to after training on images of `size`; with a preset only if that is better.

    It stays at `size` unless the whole network is trained.

    Args:
        settings: Its `test_size`, or else its `preset`.
        size: Height and width in training.
    """
    if not settings.trains_on_images or (settings.test_size is None and settings.preset != BEST):
        return size
    if settings.test_size is not None:
        return settings.test_size, settings.test_size
    height, width = (max(pixels, MULTIPLE * round(RATIO * pixels / MULTIPLE)) for pixels in size)
    return height, width


def takes_size(backbone: Backbone, size: Size) -> bool:
    """Whether a network takes images of another size than its own."""
    try:
        _resized(backbone, size)
    except ValueError:  # of a layer that asks for one size
        return False
    return True


def check_test_size(backbone: Backbone, settings: Settings) -> None:
    """InputError if the network does not take the `test_size` that the user gave."""
    size = test_size(settings, backbone.preprocessing.size)
    if settings.test_size is not None and not takes_size(backbone, size):
        expected = f"None, because {backbone.model.name!r} takes {_text(backbone.preprocessing.size)} pixels only"
        raise InputError(arguments.message("fit", "test_size", expected, settings.test_size))


def _resized(backbone: Backbone, size: Size) -> keras.Model:
    """The same network for images of another size, with weights of its own."""
    clone = keras.models.clone_model(backbone.model)
    clone.set_weights(backbone.model.get_weights())
    return rebuild(clone, (*size, 3))


def with_size(head: HeadFit, size: Size, cache: ArrayCache, progress: Progress) -> HeadFit:
    """The same network, with weights of its own, and the same images of another size; its head is not fitted to these.

    Args:
        head: A head on a network that is trained as a whole.
        size: Height and width in pixels.
        cache: Where decoded images are cached.
        progress: Shows how far it is.

    Raises:
        ValueError: If the network does not take images of that size.
    """
    backbone, catalog = head.backbone, head.data.catalog
    preprocessing = replace(backbone.preprocessing, size=size)
    network = replace(backbone, model=_resized(backbone, size), preprocessing=preprocessing)
    model = attach(network.model, head.task.head(head.settings.dropout))
    model.get_layer("logits").set_weights(head.model.get_layer("logits").get_weights())
    with progress.phase(READING, len(catalog.included())) as advance:
        catalog, images = doctor.read(catalog, preprocessing, cache, advance)
    data = SplitImages(catalog, images, preprocessing)
    parts = partition(model, head.settings.feature_layer)
    return replace(head, model=model, backbone=network, data=data, partition=parts, copies=())
