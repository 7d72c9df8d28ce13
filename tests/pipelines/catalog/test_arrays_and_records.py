"""Arrays, TFRecords and datasets: pixels and bytes are stored unchanged, in files named by their content."""

import gzip
import hashlib
import io
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.killing import Files
from PIL import Image

from keras_cnn import images
from pipelines import Catalog, InputError


def noise(count, *shape):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), "uint8")


def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_pixels_are_stored_unchanged(tmp_path, shape):
    arrays = noise(6, *shape)
    catalog = Catalog.from_arrays(arrays, [0, 1, 2, 10, 1, 0], directory=tmp_path)
    assert catalog.labels == ("0", "1", "2", "10", "1", "0") and catalog.classes == ("0", "1", "2", "10")
    for path, pixels in zip(catalog.paths, arrays, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels.squeeze())
        opaque = pixels if shape[2:] != (4,) else None
        if opaque is not None:
            expected = np.broadcast_to(opaque.reshape(5, 4, -1), (5, 4, 3))
            np.testing.assert_array_equal(images.decode(Path(path).read_bytes()), expected)


def test_bytes_are_stored_unchanged_and_named_by_their_digest(tmp_path):
    files = [jpeg(pixels) for pixels in noise(3, 8, 8, 3)] + [b"no image"]
    dataset = tf.data.Dataset.from_tensor_slices((files, ["a", "b", "b", "é"]))
    catalog = Catalog.from_dataset(dataset, directory=tmp_path)
    assert [Path(path).read_bytes() for path in catalog.paths] == files
    digest = hashlib.sha256(files[0]).hexdigest()
    assert catalog.paths[0] == str(tmp_path / digest[:2] / f"{digest}.jpg") and catalog.paths[3].endswith(".bin")
    assert catalog.labels == ("a", "b", "b", "é")


def test_labels_can_be_numbers_texts_one_hot_and_multi_hot(tmp_path):
    def labels(given, classes=None):
        return Catalog.from_arrays(noise(3, 2, 2), given, classes, directory=tmp_path).labels

    assert labels(np.array([[2], [0], [1]]), ["x", "y", "z"]) == ("z", "x", "y")
    assert labels(np.eye(3)[[2, 0, 1]], ["x", "y", "z"]) == ("z", "x", "y")
    assert labels(np.array([b"x", "é".encode(), b"y"])) == ("x", "é", "y")
    assert labels(np.array([[1, 1], [0, 0], [0, 1]]), ["x", "y"]) == (("x", "y"), (), ("y",))


def test_existing_files_are_not_written_again(tmp_path):
    arrays = noise(3, 6, 6)
    first = Catalog.from_arrays(arrays, [0, 1, 0], directory=tmp_path)
    times = [os.stat(path).st_mtime_ns for path in first.paths]
    Path(first.paths[1]).write_bytes(b"")  # as after a power failure
    again = Catalog.from_arrays(arrays, [0, 1, 0], directory=tmp_path)
    assert again == first and [os.stat(path).st_mtime_ns for path in first.paths][::2] == times[::2]
    np.testing.assert_array_equal(np.asarray(Image.open(first.paths[1])), arrays[1])
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 3


def test_an_image_keeps_its_split_in_any_order_and_copies_share_it(tmp_path):
    arrays = noise(120, 3, 3)
    before = Catalog.from_arrays(arrays, [0] * 120, directory=tmp_path).split()
    split_of = dict(zip(before.paths, before.splits, strict=True))
    order = np.random.default_rng(1).permutation(120)
    copied = np.concatenate([arrays[order], arrays[::2]])
    after = Catalog.from_arrays(copied, [0] * 180, directory=tmp_path).split()
    assert len(set(after.paths)) == 180
    assert all(split_of[path] == split for path, split in zip(after.paths[:120], after.splits, strict=False))
    originals = dict(zip(map(bytes, arrays), before.splits, strict=True))
    assert [originals[bytes(pixels)] for pixels in copied] == list(after.splits)


def test_official_splits_and_groups(tmp_path):
    arrays = noise(4, 3, 3)
    catalog = Catalog.from_arrays(
        arrays, list("abab"), split=["train", "val", "test", ""], group=[1, 2, 3, 1], directory=tmp_path
    )
    assert catalog.splits == ("train", "validation", "test", "") and catalog.groups == ("1", "2", "3", "1")
    parts = {"train": tf.data.Dataset.from_tensor_slices((arrays[..., None], [0, 1, 0, 1])).batch(3)}
    parts["test"] = tf.data.Dataset.from_tensor_slices((arrays[:2, ..., None], [0, 1]))
    catalog = Catalog.from_dataset(parts, classes=["a", "b"], directory=tmp_path)
    assert catalog.splits == ("train",) * 4 + ("test",) * 2 and catalog.labels == tuple("ababab")
    # The same image in two official splits stays there: the doctor reports it.
    assert len(set(catalog.paths)) == 6 and set(catalog.groups) == {""}


def test_the_same_bytes_of_another_shape_are_another_image(tmp_path):
    wide, high = (
        Catalog.from_arrays(np.zeros((1, *shape), "uint8"), [0], directory=tmp_path) for shape in ((2, 8), (8, 2))
    )
    assert [np.asarray(Image.open(one.paths[0])).shape for one in (wide, high)] == [(2, 8), (8, 2)]


def test_datasets_of_keras_are_read_after_a_conversion(tmp_path):
    """The images of `image_dataset_from_directory` are floats; the error says how to convert them."""
    import keras

    for label in "ab":
        (tmp_path / label).mkdir()
        Image.fromarray(noise(1, 9, 9, 3)[0]).save(tmp_path / label / "0.png")
    dataset = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(9, 9), label_mode="categorical", shuffle=False, verbose=False
    )
    with pytest.raises(
        InputError, match=r"Received: float32 \(None, 9, 9, 3\)\. Convert them first: dataset\.map\(.*\)\.$"
    ):
        Catalog.from_dataset(dataset, directory=tmp_path / "stored")
    # As the error says.
    cast = dataset.map(lambda x, y: (tf.cast(tf.round(x), tf.uint8), y))
    catalog = Catalog.from_dataset(cast, classes=["a", "b"], directory=tmp_path / "stored")
    assert catalog.labels == ("a", "b")
    np.testing.assert_array_equal(np.asarray(Image.open(catalog.paths[0])), noise(1, 9, 9, 3)[0])


def record(**features):
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    message = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        getattr(message.features.feature[name], kinds[type(values[0])]).value.extend(values)
    return message.SerializeToString()


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in records:
            writer.write(one)
    return path


def test_tfrecords(tmp_path):
    files = [jpeg(pixels) for pixels in noise(5, 8, 8, 3)]
    first = write(
        tmp_path / "train-0", [record(img=files[k], y=k % 2, who=b"p%d" % k, part=b"training") for k in range(3)]
    )
    write(tmp_path / "train-1", [record(img=files[3], y=1, who=b"p3", part=b"val")])
    (tmp_path / "train-2").write_bytes(
        gzip.compress(write(tmp_path / "plain", [record(img=files[4], y=0, who=b"p4", part=b"test")]).read_bytes())
    )
    stored = tmp_path / "stored"
    catalog = Catalog.from_tfrecord(
        tmp_path / "train-*", "img", "y", "part", "who", classes=["cat", "dog"], directory=stored
    )
    assert [Path(path).read_bytes() for path in catalog.paths] == files
    assert catalog.labels == ("cat", "dog", "cat", "dog", "cat")
    assert catalog.splits == ("train", "train", "train", "validation", "test")
    assert catalog.groups == ("p0", "p1", "p2", "p3", "p4")
    parts = Catalog.from_tfrecord({"train": str(first), "test": [tmp_path / "train-1"]}, "img", "y", directory=stored)
    assert Counter(parts.splits) == {"train": 3, "test": 1} and parts.labels == ("0", "1", "0", "1")
    assert sum(path.is_file() for path in stored.rglob("*")) == 5


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ({"img": b"?"}, r"^There is no feature 'y' in record 0 of .*data\. Received: img\. Use one of these\.$"),
        ({"img": b"?", "y": [1, 2]}, r"^The feature 'y' must have one value\. Received: 2 in record 0 of .*data\.$"),
        (
            {"img": 3, "y": 1},
            r"^The image feature must be the bytes of an image file\. Received: 'img' of record 0 of .*data\.$",
        ),
        ({"img": b"?", "y": 5}, r"^A label of 2 classes must be a class number, .*\. Received: 5\.$"),
        ({"img": b"?", "y": b"\xff"}, r"^A label must be text in UTF-8\. Received: b'\\xff'\.$"),
        ({"img": b"?", "y": 0.5}, r"^A label of 2 classes must be .*\. Received: 0\.5\.$"),
    ],
)
def test_wrong_records_are_refused_in_one_sentence(tmp_path, features, sentence):
    path = write(tmp_path / "data", [record(**features)])
    with pytest.raises(InputError, match=sentence):
        Catalog.from_tfrecord(path, "img", "y", classes=["a", "b"], directory=tmp_path / "stored")
    assert not (tmp_path / "stored").exists()


def test_damaged_and_missing_records_are_refused(tmp_path):
    path = write(tmp_path / "data", [record(img=b"?", y=0)])
    path.write_bytes(path.read_bytes()[:-3])
    other = tmp_path / "other"
    other.write_text("no record at all, but a text of some length")
    for file in (path, other, write(tmp_path / "strings", [b"\xff\xff\xff"])):
        with pytest.raises(InputError, match=rf"^{file} cannot be read as a TFRecord of tf\.train\.Example: "):
            Catalog.from_tfrecord(file, "img", "y", directory=tmp_path / "stored")
    with pytest.raises(
        InputError,
        match=r"^A TFRecord must be a file, or a pattern of files\. Received: .*none-\*, which does not exist\.$",
    ):
        Catalog.from_tfrecord(tmp_path / "none-*", "img", "y", directory=tmp_path / "stored")


@pytest.mark.parametrize(
    ("arrays", "labels", "options", "sentence"),
    [
        (np.zeros((2, 3, 3)), [0, 1], {}, r"Received: float64 \(2, 3, 3\)\. Convert them first: \(images \* 255\)"),
        (noise(2, 3, 3, 2), [0, 1], {}, r"with 1, 3 or 4 channels, .* Received: uint8 \(2, 3, 3, 2\)\."),
        (noise(2, 3), [0, 1], {}, r"Received: uint8 \(2, 3\)\."),
        (noise(0, 3, 3), [], {}, r"Received: uint8 \(0, 3, 3\)\."),
        (noise(2, 3, 3), [0], {}, r"^labels must have one entry per image\. Received: 1 entries and 2 images\.$"),
        (
            noise(2, 3, 3),
            [0, 1],
            {"split": ["train"]},
            r"^split must have one entry per image\. Received: 1 entries and 2 images\.$",
        ),
        (
            noise(2, 3, 3),
            [0, 1],
            {"split": ["train", "x"]},
            r"^A split must be train, validation or test\. Received: 'x'\.",
        ),
        (noise(2, 3, 3), [0, 9], {"classes": ["a", "b"]}, r"^A label of 2 classes must be .*\. Received: 9\.$"),
        (noise(2, 3, 3), [[0, 2], [1, 0]], {}, r"^A label must be .*\. Received: \[0, 2\]\.$"),
    ],
)
def test_wrong_arrays_are_refused_and_nothing_is_written(tmp_path, arrays, labels, options, sentence):
    with pytest.raises(InputError, match=sentence):
        Catalog.from_arrays(arrays, labels, directory=tmp_path / "stored", **options)
    assert not (tmp_path / "stored").exists()


def test_wrong_datasets_are_refused(tmp_path):
    images_, labels = noise(2, 3, 3, 3), [0, 1]
    for dataset, sentence in (
        (tf.data.Dataset.from_tensor_slices(images_), r"must have elements \(image, label\), pairs of tensors\."),
        (
            tf.data.Dataset.from_tensor_slices((images_, labels)).repeat(),
            r"must be finite\. .* Remove repeat\(\)\.$",
        ),
        (tf.data.Dataset.from_tensor_slices((images_[..., :2], labels)), r"Received: uint8 \(3, 3, 2\)\."),
        ([1, 2], r"Received: None\. Map it to these\.$"),
    ):
        with pytest.raises(InputError, match=sentence):
            Catalog.from_dataset(dataset, directory=tmp_path / "stored")


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "stored").write_text("a file")
    with pytest.raises(
        InputError, match=r"stored as files, and .* cannot be written: Not a directory\. Choose another directory\.$"
    ):
        Catalog.from_arrays(noise(2, 3, 3), [0, 1], directory=tmp_path / "stored")


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device"):
        Catalog.from_arrays(noise(2, 3, 3), [0, 1], directory=tmp_path / "stored")
    assert not [path for path in (tmp_path / "stored").rglob("*") if path.is_file()]


def test_without_tfds_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r'not installed\. Received: mnist\. Run: pip install "keras-cnn\[tfds\]"$'):
        Catalog.from_tfds("mnist", directory=tmp_path)


@pytest.mark.filterwarnings("default")
def test_tfds(tmp_path):
    """A dataset built by TFDS, of JPEG files in two official splits."""
    tfds = pytest.importorskip("tensorflow_datasets")
    arrays, source = noise(6, 8, 8, 3), tmp_path / "source"
    for row, pixels in enumerate(arrays):
        path = source / ("train" if row < 4 else "test") / ("cat", "dog")[row % 2] / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(pixels))

    class Pets(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["cat", "dog"])}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {name: self._generate_examples(source / name) for name in ("train", "test")}

        def _generate_examples(self, folder):
            for path in sorted(folder.rglob("*.jpg")):
                yield path.name, {"image": path, "label": path.parent.name}

    catalog = Catalog.from_tfds("pets", data_dir=tmp_path / "tfds", directory=tmp_path / "stored")
    assert Counter(zip(catalog.labels, catalog.splits, strict=True)) == Counter(
        [("cat", "train"), ("dog", "train")] * 2 + [("cat", "test"), ("dog", "test")]
    )
    assert {Path(path).read_bytes() for path in catalog.paths} == {jpeg(pixels) for pixels in arrays}
    with pytest.raises(
        InputError, match=r"^The dataset pets has no feature 'kind'\. Received: image, label\. Use one of these\.$"
    ):
        Catalog.from_tfds("pets", data_dir=tmp_path / "tfds", label="kind")
    with pytest.raises(InputError, match=r"^TFDS has no dataset 'of no such name'"):
        Catalog.from_tfds("of no such name", data_dir=tmp_path / "tfds")


def test_the_half_written_image_of_a_killed_process_is_removed(tmp_path, monkeypatch):
    arrays = noise(3, 4, 4)
    with Files(monkeypatch) as files:
        Catalog.from_arrays(arrays, [0, 1, 0], directory=tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "whole").rglob("*.*"))
    assert len(names) == 3
    for number in range(1, files.count + 1):
        folder = tmp_path / str(number)
        with Files(monkeypatch, number) as killed:
            Catalog.from_arrays(arrays, [0, 1, 0], directory=folder)
        assert killed.failed
        catalog = Catalog.from_arrays(noise(4, 4, 4), [0, 1, 0, 1], directory=folder)
        assert [np.asarray(Image.open(path)).tolist() for path in catalog.paths] == noise(4, 4, 4).tolist()
        assert len([path for path in folder.rglob("*") if path.is_file()]) == 4 and not list(folder.glob(".part-*"))
