"""From files to images: decoded once, stored for later jobs, and files that change are named."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.numbered_images import batches_are_equal, numbered
from PIL import Image

import keras_cnn as kc
from pipelines import InputError
from pipelines.datasets import image_files
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.image_batches import ImageBatches
from pipelines.datasets.image_files import load_images


@pytest.fixture
def photos(tmp_path):
    """The paths of twelve small PNG files."""
    files = []
    for number in range(12):
        files.append(str(tmp_path / f"é{number}.png"))
        Image.fromarray(numbered(12, (20, 30))[number]).save(files[-1])
    return files


def test_decoded_images_are_stored(photos, tmp_path, monkeypatch):
    cache, preprocessing = ArrayCache(tmp_path / "cache"), kc.Preprocessing((20, 30))
    done = []
    first = load_images(photos, preprocessing, cache, done.append)
    assert sum(done) == 12 and first.dtype == np.uint8
    np.testing.assert_array_equal(first, numbered(12, (20, 30)))
    monkeypatch.setattr(image_files, "decode_files", None)  # nothing is decoded from here on
    np.testing.assert_array_equal(load_images(photos, preprocessing, cache, done.append), first)
    assert sum(done) == 24


@pytest.mark.parametrize("change", ["nothing", "content", "size", "background", "order", "decoder"])
def test_images_are_decoded_again_when_anything_changes(photos, tmp_path, monkeypatch, change):
    cache, preprocessing, decoded = ArrayCache(tmp_path / "cache"), kc.Preprocessing((20, 30)), []

    def decode(paths, preprocessing, dtype):
        decoded.append(paths)
        images = np.zeros((len(paths), *preprocessing.size, 3), "uint8")
        return tf.data.Dataset.from_tensor_slices((np.arange(len(paths)), images))

    monkeypatch.setattr(image_files, "decode_files", decode)
    load_images(photos, preprocessing, cache)
    if change == "content":
        Path(photos[5]).write_bytes(b"another")
    elif change == "size":
        preprocessing = kc.Preprocessing((20, 29))
    elif change == "background":
        preprocessing = kc.Preprocessing((20, 30), background=0)
    elif change == "order":
        photos = photos[::-1]
    elif change == "decoder":
        monkeypatch.setattr(image_files, "code_version", lambda package: ["another"])
    load_images(photos, preprocessing, cache)
    assert len(decoded) == (1 if change == "nothing" else 2)


@pytest.mark.slow
def test_files_are_decoded_in_every_epoch_if_nothing_can_be_stored(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 1)  # almost no memory
    with pytest.warns(UserWarning, match=r"^The images are decoded again in every epoch. 0.0 GiB cannot be stored"):
        files = load_images(photos, kc.Preprocessing((20, 30)), ArrayCache(tmp_path / "cache", limit=1))
    monkeypatch.undo()
    found = [
        list(ImageBatches(source, np.arange(12), (20, 30), 5, classes=12).epochs(2))
        for source in (files, numbered(12, (20, 30)))
    ]
    assert len(found[0]) == 6 and batches_are_equal(*found)


@pytest.mark.slow
def test_a_file_that_is_deleted_is_named(photos, tmp_path):
    preprocessing = kc.Preprocessing((20, 30))
    files = image_files.ImageFiles(photos, preprocessing)
    batches = ImageBatches(files, np.arange(12), (20, 30), 5, classes=12)
    os.remove(photos[7])
    text = f"^{photos[7]} was readable a moment ago and is not any more. Do not change the data while a job runs.$"
    with pytest.raises(InputError, match=text), files.naming_changed_files():
        list(batches(0))
    for make in (
        lambda: image_files.ImageFiles(photos, preprocessing),
        lambda: load_images(photos, preprocessing, ArrayCache(tmp_path / "c")),
    ):
        with pytest.raises(InputError, match=text):
            make()
    with pytest.raises(tf.errors.OpError), image_files.ImageFiles(photos[:7], preprocessing).naming_changed_files():
        tf.io.decode_image(b"")  # an error that has nothing to do with the files


@pytest.mark.slow
def test_a_truncated_file_is_named(photos, tmp_path):
    Path(photos[3]).write_bytes(Path(photos[3]).read_bytes()[:100])
    with pytest.raises(InputError, match=f"^{photos[3]} was readable"):
        load_images(photos, kc.Preprocessing((20, 30)), ArrayCache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*/array.npy"))
