"""From image files to images: read, decoded and resized in parallel and in order, and stored for later epochs and jobs."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn import Preprocessing, images
from keras_cnn.autograph import without_autograph
from pipelines import device
from pipelines.datasets.array_cache import ArrayCache, NoRoomError, digest, file_stamps
from pipelines.errors import InputError


def decode_files(
    paths: Sequence[str],
    preprocessing: Preprocessing,
    dtype: tf.DType = tf.float32,
    extra: Callable[[Any, Any], tuple] = lambda content, image: (),
) -> tf.data.Dataset:
    """Elements `(index in paths, image)`, in order; files that cannot be read are missing.

    Images are `(height, width, 3)`, RGB 0..255: float32, as `keras_cnn.images.prepare` gives them, or rounded to uint8.

    Args:
        paths: Image files.
        preprocessing: How the images are prepared.
        dtype: tf.float32 or tf.uint8.
        extra: A function of the bytes of a file and of its float32 image; its results follow in the element.
    """

    @without_autograph
    def prepare(index: tf.Tensor, path: tf.Tensor) -> tuple:
        content = tf.io.read_file(path)
        image = images.prepare(content, preprocessing)
        return index, _to_dtype(image, dtype), *extra(content, image)

    indices = tf.range(len(paths), dtype=tf.int64)
    files = tf.data.Dataset.from_tensor_slices((indices, _to_tensor(paths)))
    # As many in parallel as there are cores: AUTOTUNE starts with fewer, and needs seconds to reach the right number.
    return files.map(prepare, num_parallel_calls=device.cores(), deterministic=True).ignore_errors()


def load_images(
    paths: Sequence[str],
    preprocessing: Preprocessing,
    cache: ArrayCache | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> np.ndarray | ImageFiles:
    """Decoded images. They are decoded once and stored, also for later jobs on the same files with the same settings.

    Args:
        paths: Readable image files.
        preprocessing: With the size to store the images in: see `Augmentation.stored_size`.
        cache: Where to store them; None: `ArrayCache()`.
        progress: Called with the number of images done since the last call.

    Returns:
        A uint8 array `(len(paths), height, width, 3)`, RGB, or `ImageFiles` where there is no room for the array.

    Raises:
        InputError: If a file cannot be read any more; the error has its name.
    """
    files, cache, done = ImageFiles(paths, preprocessing), cache or ArrayCache(), 0

    def fill(array: np.ndarray) -> None:
        nonlocal done
        for indices, batch in decode_files(paths, preprocessing, tf.uint8).batch(64).prefetch(tf.data.AUTOTUNE):
            indices = indices.numpy()
            missing = np.setdiff1d(np.arange(done, indices[-1] + 1), indices)
            if len(missing):
                raise _changed_file(paths[missing[0]])
            array[done : done + len(indices)] = batch
            progress(len(indices))
            done += len(indices)
        if done < len(paths):
            raise _changed_file(paths[done])

    loaded: np.ndarray | ImageFiles = files
    try:
        loaded = cache.get_or_compute(files.key, files.shape, files.dtype, fill)
    except NoRoomError as error:
        warn_of_repeated_decoding(error)
    progress(len(paths) - done)
    return loaded


def warn_of_repeated_decoding(error: NoRoomError) -> None:
    """Warn that images cannot be stored, so that `ImageFiles` are used instead."""
    warnings.warn(f"The images are decoded again in every epoch. {error}", stacklevel=3)


class ImageFiles:
    """Image files as an array of uint8 images. Each image is decoded whenever it is read.

    Args:
        paths: Readable image files.
        preprocessing: How the images are prepared.

    Attributes:
        paths, preprocessing: As given.
        shape: Of the array, `(len(paths), height, width, 3)`.

    Raises:
        InputError: If a file is missing; the error has its name.
    """

    dtype = np.dtype("uint8")

    def __init__(self, paths: Sequence[str], preprocessing: Preprocessing):
        self.paths, self.preprocessing = paths, preprocessing
        self.shape = (len(paths), *preprocessing.size, 3)
        self._path_tensor = _to_tensor(paths)
        try:
            self._stamps = file_stamps(paths)
        except OSError as error:
            raise _changed_file(error.filename) from None

    @property
    def key(self) -> str:
        """A digest of everything that the images depend on."""
        return digest("images", self._stamps, self.preprocessing.to_dict(), code_version(images))

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """The images at a tensor of indices, in TensorFlow operations."""

        def prepare(path: tf.Tensor) -> tf.Tensor:
            return _to_dtype(images.prepare(tf.io.read_file(path), self.preprocessing), tf.uint8)

        paths = tf.gather(self._path_tensor, indices)
        return tf.map_fn(prepare, paths, fn_output_signature=tf.TensorSpec(self.shape[1:], tf.uint8))

    @contextmanager
    def naming_changed_files(self) -> Iterator[None]:
        """Within it, TensorFlow's error about a file that has changed becomes an `InputError` with the file's name."""
        try:
            yield
        except tf.errors.OpError:
            for path, stamp in zip(self.paths, self._stamps, strict=True):
                if not os.path.exists(path) or file_stamps([path]) != [stamp]:
                    raise _changed_file(path) from None
            raise


def _to_tensor(paths: Sequence[str]) -> tf.Tensor:
    return tf.constant([os.fsencode(path) for path in paths], tf.string)


def _to_dtype(image: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    # Resized values stay within 0..255, so adding a half and cutting off the fraction rounds them.
    return image if dtype == tf.float32 else tf.cast(image + 0.5, dtype)


def code_version(package: ModuleType) -> list[str]:
    """What the results of a package depend on: TensorFlow's version, and a digest of the package's own code."""
    files = [path.read_bytes() for path in sorted(Path(package.__path__[0]).glob("*.py"))]
    return [tf.__version__, hashlib.sha256(b"".join(files)).hexdigest()]


def _changed_file(path: str) -> InputError:
    return InputError(f"{path} was readable a moment ago and is not any more. Do not change the data while a job runs.")
