"""From image files to images: read, decoded and resized in parallel and in order, and kept for later epochs and jobs."""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_cnn import images
from pipelines import device
from pipelines.datasets.array_cache import Cache, NoRoomError, digest, stamps
from pipelines.errors import InputError


def decoded(paths, preprocessing, dtype=tf.float32, also=lambda content, image: ()) -> tf.data.Dataset:
    """Elements `(position in paths, image)`, in order; a file that cannot be read is missing.

    Images are `(height, width, 3)`, RGB 0..255: float32, as `keras_cnn.images.prepare` gives them, or rounded to uint8.
    What `also` gives for the bytes of a file and its float32 image follows in the element.
    """

    def prepare(position, path):
        content = tf.io.read_file(path)
        image = images.prepare(content, preprocessing)
        return position, _as(dtype, image), *also(content, image)

    positions = tf.range(len(paths), dtype=tf.int64)
    files = tf.data.Dataset.from_tensor_slices((positions, _names(paths)))
    # As many at a time as there are cores: AUTOTUNE begins with fewer, and takes seconds to find that out.
    return files.map(prepare, num_parallel_calls=device.cores(), deterministic=True).ignore_errors()


def stored(paths, preprocessing, cache: Cache | None = None, progress=lambda count: None):
    """Decoded images, made once and kept, for this job and later ones on the same files with the same settings.

    Args:
        paths: Readable image files.
        preprocessing: `keras_cnn.Preprocessing` with the size to keep: see `Augmentation.stored_size`.
        cache: Where to keep them; None: `Cache()`.
        progress: Called with the number of images done since the last call.

    Returns:
        A uint8 array `(len(paths), height, width, 3)`, RGB, or `Files` where there is no room for one.

    Raises:
        InputError: With the name of a file that cannot be read any more.
    """
    done = 0

    def fill(array):
        nonlocal done
        for positions, batch in decoded(paths, preprocessing, tf.uint8).batch(64).prefetch(tf.data.AUTOTUNE):
            positions = positions.numpy()
            missing = np.setdiff1d(np.arange(done, positions[-1] + 1), positions)
            if len(missing):
                raise _gone(paths[missing[0]])
            array[done : done + len(positions)] = batch
            progress(len(positions))
            done += len(positions)
        if done < len(paths):
            raise _gone(paths[done])

    found = kept(Files(paths, preprocessing), cache or Cache(), fill)
    progress(len(paths) - done)
    return found


def kept(files: Files, cache: Cache, fill):
    """The uint8 array of the images of `files`, from the cache or written by `fill`; `files` where there is no room."""
    try:
        return cache.array(files.key, files.shape, np.uint8, fill)
    except NoRoomError as error:
        warnings.warn(f"The images are decoded again in every epoch. {error}", stacklevel=3)
        return files


class Files:
    """Image files as an array of uint8 images that are decoded each time they are asked for.

    Args:
        paths: Readable image files.
        preprocessing: `keras_cnn.Preprocessing`.

    Raises:
        InputError: With the name of a file that is missing.
    """

    dtype = np.dtype("uint8")

    def __init__(self, paths, preprocessing):
        self.paths, self.preprocessing = paths, preprocessing
        self.shape, self._names = (len(paths), *preprocessing.size, 3), _names(paths)
        try:
            self.stamps = stamps(paths)
        except OSError as error:
            raise _gone(error.filename) from None

    @property
    def key(self) -> str:
        """A digest of all that the images depend on."""
        return digest("images", self.stamps, self.preprocessing.to_dict(), code(images))

    def __len__(self):
        return len(self.paths)

    def read(self, rows):
        """The images of a tensor of rows, in TensorFlow operations."""

        def prepare(name):
            return _as(tf.uint8, images.prepare(tf.io.read_file(name), self.preprocessing))

        return tf.map_fn(
            prepare, tf.gather(self._names, rows), fn_output_signature=tf.TensorSpec(self.shape[1:], tf.uint8)
        )

    @contextmanager
    def named_in_errors(self):
        """Turns TensorFlow's error inside the `with` block, if a file has changed, into an `InputError` with its name."""
        try:
            yield
        except tf.errors.OpError:
            for path, stamp in zip(self.paths, self.stamps, strict=True):
                if not os.path.exists(path) or stamps([path]) != [stamp]:
                    raise _gone(path) from None
            raise


def _names(paths):
    return tf.constant([os.fsencode(path) for path in paths], tf.string)


def _as(dtype, pixels):
    # A mean of bytes is within their range: what rounds it is one addition.
    return pixels if dtype == tf.float32 else tf.cast(pixels + 0.5, dtype)


def code(package) -> list[str]:
    """What the results of a package depend on: its own code, and TensorFlow."""
    files = [path.read_bytes() for path in sorted(Path(package.__file__).parent.glob("*.py"))]
    return [tf.__version__, hashlib.sha256(b"".join(files)).hexdigest()]


def _gone(path):
    return InputError(f"{path} was readable a moment ago and is not any more. Keep the data as it is while a job runs.")
