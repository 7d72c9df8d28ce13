"""What is exported gives what the Keras model gives, in a process that knows nothing of this project."""

import io
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_cnn as kc
from keras_cnn import serving

LABELS = ["hen", "crème brûlée", "寿司", "d", "e", "f"]
# As anyone would load it: nothing but TensorFlow, bytes in, text out.
CONSUMER = """
import json, sys
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answer = serve(image_bytes=tf.constant([open(path, "rb").read() for path in sys.argv[2:]]))
labels = [[label.decode() for label in row] for row in answer["labels"].numpy()]
names = sorted({name.split(".")[0] for name in sys.modules} & {"keras_cnn", "pipelines"})
print(json.dumps([labels, answer["probabilities"].numpy().tolist(), answer["scores"].numpy().tolist(), names]))
"""


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 24, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, kc.heads.classification(len(LABELS), dropout=0.5)(x))


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    return kc.export(model, tmp_path_factory.mktemp("models") / "photos", LABELS, kc.Preprocessing((16, 24), "fit"))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def picture(kind, mode="RGB", seed=0):
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), "uint8").repeat(9, 0).repeat(9, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, kind)
    return buffer.getvalue()


def test_tensorflow_alone_gets_labels_from_bytes(model, version, tmp_path):
    contents = [picture("JPEG"), picture("PNG", "RGBA"), b"no image", picture("WEBP", seed=3), picture("PNG", "L")]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    command = [sys.executable, "-c", CONSUMER, str(version), *map(str, paths)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    labels, probabilities, scores, ours = json.loads(output.splitlines()[-1])
    assert ours == []
    for row, content in enumerate(contents):
        if content == b"no image":
            assert labels[row] == [""] * 5 and probabilities[row] == [0] * 5 and scores[row] == [0] * 6
            continue
        image = kc.images.prepare(content, kc.Preprocessing((16, 24), "fit"))
        expected = keras.ops.convert_to_numpy(model(image[None], training=False))[0]
        order = np.argsort(-expected)[:5]
        np.testing.assert_allclose(scores[row], expected, atol=1e-5)
        np.testing.assert_allclose(probabilities[row], expected[order], atol=1e-5)
        assert labels[row] == [LABELS[k] for k in order]


def test_any_batch_even_an_empty_or_unreadable_one(version):
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    assert serve(image_bytes=tf.constant([], tf.string))["labels"].shape == (0, 5)
    assert (serve(image_bytes=tf.constant([b"", b"?"]))["labels"].numpy() == b"").all()
    assert serve(image_bytes=tf.constant([picture("JPEG")] * 33))["scores"].shape == (33, 6)


def test_what_a_version_holds(version):
    assert version.name == "1"
    assert (version / "assets" / "labels.txt").read_text(encoding="utf-8").split("\n") == [*LABELS, ""]
    assert files(version.parent)[0] == "1" and not list(version.parent.glob(".*"))
    # 8 kernels of 3 x 3 x 3, their biases, 4 x 8 of batch normalisation, 8 x 6 + 6 of the head: each once.
    found = tf.train.list_variables(str(version / "variables" / "variables"))
    sizes = [int(np.prod(shape)) for name, shape in found if "VARIABLE_VALUE" in name]
    assert sum(sizes) == 216 + 8 + 32 + 48 + 6


def test_versions_count_up_and_are_never_overwritten(model, version):
    record = kc.Preprocessing((16, 24))
    assert kc.export(model, version.parent, LABELS, record).name == "2"
    before = files(version.parent)
    with pytest.raises(FileExistsError, match=r"`version` must be new\. Received: version=2"):
        kc.export(model, version.parent, LABELS, record, version=2)
    assert files(version.parent) == before


def test_verify_finds_what_export_found(version):
    found = kc.verify(version)
    assert found.images == 5 and found.difference <= 1e-5
    assert found.size == sum(path.stat().st_size for path in version.rglob("*") if path.is_file())


def test_verify_notices_other_weights(version, tmp_path):
    broken = shutil.copytree(version, tmp_path / "1")
    data = next((broken / "variables").glob("variables.data*"))
    content = bytearray(data.read_bytes())
    content[:864] = np.full(216, 0.5, "float32").tobytes()
    data.write_bytes(content)
    with pytest.raises(serving.VerificationError):
        kc.verify(broken)


def test_a_number_that_is_none_is_no_small_difference(version):
    scores = np.full(len(LABELS), np.nan, "float32")
    with pytest.raises(
        serving.VerificationError, match=r"must give the recorded scores within 0\.0001\. Received: .* nan on 6"
    ):
        serving.verification.compare(version, [(picture("JPEG"), scores)])


def test_an_export_that_fails_its_proof_leaves_nothing(model, tmp_path, monkeypatch):
    def refuse(path, examples):
        assert (path / "saved_model.pb").is_file()
        raise serving.VerificationError

    monkeypatch.setattr(serving.verification, "compare", refuse)
    with pytest.raises(serving.VerificationError):
        kc.export(model, tmp_path / "photos", LABELS, kc.Preprocessing((16, 24)))
    assert files(tmp_path) == ["photos"]


@pytest.mark.parametrize("labels", [LABELS[:5], [*LABELS[:5], "hen"], [*LABELS[:5], ""], [*LABELS[:5], "two\nlines"]])
def test_labels_that_do_not_fit_are_refused_before_anything_is_written(model, tmp_path, labels):
    with pytest.raises(ValueError, match=r"export: `labels` must be"):
        kc.export(model, tmp_path / "photos", labels, kc.Preprocessing((16, 24)))
    assert files(tmp_path) == []


def test_verify_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must be a SavedModel written by `export`"):
        kc.verify(tmp_path)
