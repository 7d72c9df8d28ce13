"""The images and targets of each split: what training, evaluation and the caches all read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_cnn import Preprocessing
from pipelines import augment
from pipelines.augment import Augmentation
from pipelines.catalog import Catalog
from pipelines.datasets import image_files
from pipelines.datasets.array_cache import ArrayCache, digest
from pipelines.datasets.image_batches import ImageBatches
from pipelines.doctor import Images

BATCH_SIZE = 32  # of passes without training
PREVIEWED = 6  # images in the preview of the augmentation


@dataclass(frozen=True)
class SplitImages:
    """A catalog with splits, and its images as the network sees them.

    Attributes:
        catalog: `Catalog` with splits.
        images: Its decoded `Images`.
        preprocessing: How image files become inputs of the network.
    """

    catalog: Catalog
    images: Images
    preprocessing: Preprocessing

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.catalog.classes)

    def indices(self, split: str) -> np.ndarray:
        """Where the images of a split are in the catalog, ascending."""
        return self.catalog.included(split)

    def targets(self, split: str) -> np.ndarray:
        """Class numbers `(images,)`; with several labels per image 0 and 1, `(images, classes)`."""
        return self.catalog.targets(self.indices(split))

    def units(self, split: str) -> list[str]:
        """For each image of a split the name of what stays together: its group, or its path."""
        catalog = self.catalog
        return [catalog.groups[index] or catalog.paths[index] for index in self.indices(split)]

    def batches(self, split: str) -> ImageBatches:
        """The images of a split in order, without augmentation."""
        assert self.images.source is not None  # `doctor.read` stored them
        return ImageBatches(
            self.images.source,
            self.targets(split),
            self.preprocessing.size,
            BATCH_SIZE,
            classes=self.num_classes,
            shuffle=False,
            indices=self.images.indices_of(self.indices(split)),
        )

    def cache_key(self, split: str) -> str:
        """A digest of the images of a split."""
        return digest(self.images.key, self.images.indices_of(self.indices(split)).tolist())

    def larger(self, augmentation: Augmentation, split: str = "train") -> tuple[list, Preprocessing]:
        """Paths of the images of a split, and how to read them large enough to take random crops from."""
        size = augmentation.stored_size(self.preprocessing.size)
        larger = replace(self.preprocessing, size=size, crop_fraction=1.0)
        return [self.catalog.paths[index] for index in self.indices(split)], larger

    def load_larger(
        self, augmentation: Augmentation, cache: ArrayCache, progress: Callable[[int], object], split: str = "train"
    ) -> np.ndarray | image_files.ImageFiles:
        """The images of a split, large enough to take random crops from: an array, or `ImageFiles` where there is no room."""
        return image_files.load_images(*self.larger(augmentation, split), cache, progress)

    def augmented_batches(
        self,
        source: np.ndarray | image_files.ImageFiles,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        class_balance: str | None = None,
        split: str = "train",
    ) -> ImageBatches:
        """Batches of augmented images of a split from what `load_larger` gives."""
        return ImageBatches(
            source,
            self.targets(split),
            self.preprocessing.size,
            batch_size,
            classes=self.num_classes,
            augmentation=augmentation,
            seed=seed,
            shuffle=shuffle,
            balance=class_balance,
        )

    def augmented_cache_key(self, augmentation: Augmentation, seed: int, split: str = "train") -> str:
        """A digest of the augmented images of a split."""
        files = image_files.ImageFiles(*self.larger(augmentation, split)).key
        return digest(files, augmentation.to_dict(), image_files.code_version(augment), seed)

    def preview(
        self, source: np.ndarray | image_files.ImageFiles, augmentation: Augmentation, seed: int
    ) -> np.ndarray | None:
        """A figure of some training images and how training sees them, uint8; None where they are not in memory."""
        if isinstance(source, image_files.ImageFiles):
            return None
        some = source[:: max(1, -(-len(source) // PREVIEWED))]
        return augment.augmentation_preview(some, self.preprocessing.size, augmentation, seed)


def naming_files(source: Any) -> AbstractContextManager:
    """A context in which an error in reading a file names that file."""
    return source.naming_changed_files() if isinstance(source, image_files.ImageFiles) else nullcontext()
