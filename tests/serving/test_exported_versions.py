"""An exported version gives what the Keras model gives, in a process that knows nothing of this project."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.serving_cases import LABELS, RECORD, encoded_image, in_this_process, make_model
from helpers.slow import mark_slow

import keras_cnn as kc
from keras_cnn import serving
from keras_cnn.serving import examples, verification

# As anyone would load it: nothing but TensorFlow, bytes in, text out.
CONSUMER = """
import json, sys
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answer = serve(image_bytes=tf.constant([open(path, "rb").read() for path in sys.argv[2:]]))
labels = [[label.decode() for label in row] for row in answer["labels"].numpy()]
names = sorted({name.split(".")[0] for name in sys.modules} & {"keras_cnn", "pipelines"})
print(json.dumps([labels, answer["probabilities"].numpy().tolist(), answer["all_probabilities"].numpy().tolist(), names]))
"""


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "photos"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "_run", in_this_process)
        return kc.export(model, directory, LABELS, RECORD, metadata={"accuracy": 0.9})


@pytest.fixture(scope="module")
def signatures(version):
    loaded = tf.saved_model.load(str(version))
    yield loaded.signatures


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(verification, "_run", in_this_process)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow
def test_tensorflow_alone_gets_labels_from_bytes(model, version, tmp_path):
    contents = [
        encoded_image("JPEG"),
        encoded_image("PNG", "RGBA"),
        b"no image",
        encoded_image("WEBP", seed=3),
        encoded_image("PNG", "L"),
    ]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    command = [sys.executable, "-c", CONSUMER, str(version), *map(str, paths)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    labels, probabilities, all_probabilities, ours = json.loads(output.splitlines()[-1])
    assert ours == []
    for row, content in enumerate(contents):
        if content == b"no image":
            assert labels[row] == [""] * 5 and probabilities[row] == [0] * 5 and all_probabilities[row] == [0] * 6
            continue
        image = kc.images.prepare(content, RECORD)
        expected = keras.ops.convert_to_numpy(model(image[None], training=False))[0]
        order = np.argsort(-expected)[:5]
        np.testing.assert_allclose(all_probabilities[row], expected, atol=1e-5)
        np.testing.assert_allclose(probabilities[row], expected[order], atol=1e-5)
        assert labels[row] == [LABELS[k] for k in order]


@pytest.mark.parametrize("batch", mark_slow([0, 1, 3, 33, 257], except_for=[0, 3]))
def test_every_signature_takes_any_batch(model, signatures, batch):
    images = np.random.default_rng(0).integers(0, 256, (batch, 16, 24, 3), "uint8")
    expected = (
        keras.ops.convert_to_numpy(model(images.astype("float32"), training=False)) if batch else np.zeros((0, 6))
    )
    for name in ("predict_images", "serving_xla"):
        answer = signatures[name](images=tf.constant(images))
        np.testing.assert_allclose(answer["all_probabilities"], expected, atol=1e-5)
        np.testing.assert_allclose(answer["probabilities"], -np.sort(-expected)[:, :5], atol=1e-5)
        best = [LABELS[k] for k in expected.argmax(1)]
        assert [label.decode() for label in answer["labels"].numpy()[:, 0]] == best
    answer = signatures["serving_default"](image_bytes=tf.constant([encoded_image("JPEG")] * batch, tf.string))
    assert answer["labels"].shape == (batch, 5) and answer["all_probabilities"].shape == (batch, 6)
    assert (signatures["serving_default"](image_bytes=tf.constant([b"", b"?"]))["labels"].numpy() == b"").all()


def test_features_are_those_of_the_pooling_layer(model, signatures):
    images = np.random.default_rng(1).integers(0, 256, (4, 16, 24, 3), "uint8")
    pooled = keras.Model(model.input, model.get_layer("pool").output)(images.astype("float32"), training=False)
    np.testing.assert_allclose(signatures["features"](images=tf.constant(images))["features"], pooled, rtol=1e-4)


def test_only_the_signature_for_gpus_is_compiled(version):
    found = serving.inspect(version)
    assert found.compiled_functions == 1 and found.suspicious == () == found.training_operations
    assert {tensor for one in found.signatures.values() for tensor in one["outputs"].values()} == {
        "string [?, 5]",
        "float32 [?, 5]",
        "float32 [?, 6]",
        "float32 [?, 8]",
    }


def test_what_a_version_holds(version):
    assert version.name == "1"
    assert (version / "assets" / "labels.txt").read_text(encoding="utf-8").split("\n") == [*LABELS, ""]
    assert files(version.parent)[:2] == [".lock", "1"] and len(list(version.parent.glob(".*"))) == 1
    assert (version / "assets.extra" / "tf_serving_warmup_requests").is_file()
    assert {path.name for path in (version.parent / "serving").iterdir()} == {
        "models.config",
        "batching_parameters.txt",
        "README.md",
    }
    card = json.loads((version / "assets" / "model_card.json").read_text(encoding="utf-8"))
    assert card["num_classes"] == 6 and card["preprocessing"] == RECORD.to_dict() and card["precision"] == "float32"
    assert card["metadata"] == {"accuracy": 0.9} and card["versions"]["tensorflow"] == tf.__version__
    assert set(card["verification"]["differences"]) == {"serving_default", "predict_images", "features", "serving_xla"}


def test_the_batch_norm_is_folded_and_the_weights_are_constants(version):
    operations = serving.inspect(version).operations
    # One convolution with its bias, one dense layer with its own, and nothing left of the batch norm.
    assert operations["Conv2D"] == 1 and operations["MatMul"] == 1 and operations["BiasAdd"] == 2
    assert "Rsqrt" not in operations and not any("Variable" in name for name in operations)


@pytest.mark.slow
def test_versions_count_up_and_are_never_overwritten(model, version, in_process):
    assert kc.export(model, version.parent, LABELS, RECORD).name == "2"
    before = files(version.parent)
    with pytest.raises(FileExistsError, match=r"`version` must be new\. Received: version=2"):
        kc.export(model, version.parent, LABELS, RECORD, version=2)
    assert files(version.parent) == before


@pytest.mark.slow
def test_labels_and_preprocessing_are_optional(in_process, tmp_path):
    version = kc.export(make_model(), tmp_path / "plain")
    assert (version / "assets" / "labels.txt").read_text().split() == ["0", "1", "2", "3", "4", "5"]
    card = json.loads((version / "assets" / "model_card.json").read_text())
    assert card["preprocessing"] == kc.Preprocessing((16, 24)).to_dict()


@pytest.mark.slow
def test_verify_finds_what_export_found(version, in_process):
    found = kc.verify(version.parent)  # the folder of versions
    assert found.images == 9 and found.warm_up_requests == 2 and found.largest_difference <= 1e-5
    assert found.differences.keys() == {"serving_default", "predict_images", "features", "serving_xla"}
    path = version.parent / max(path.name for path in version.parent.iterdir() if path.name.isdigit())
    assert found.path == str(path)
    assert found.size == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.mark.slow
def test_verify_notices_other_weights(version, tmp_path, in_process):
    broken = shutil.copytree(version, tmp_path / "1")
    other = kc.export(make_model(seed=1), tmp_path / "other", LABELS, RECORD)
    shutil.copy(other / "saved_model.pb", broken / "saved_model.pb")
    with pytest.raises(serving.VerificationError, match=r"must give the recorded logits within 0\.\d+\. Received"):
        kc.verify(broken)


@pytest.mark.slow
def test_nan_is_not_a_small_difference(version, in_process):
    probabilities = np.full(len(LABELS), np.nan, "float32")
    given = verification.Examples(
        [examples.Example(encoded_image("JPEG"), probabilities)], ["a.jpg"], np.full((1, 6), np.nan)
    )
    with pytest.raises(
        serving.VerificationError,
        match=r"within 0\.0001\. Received: a difference of nan on 1 images; .* a\.jpg \(nan\)",
    ):
        verification.compare(version, given)


def test_an_export_that_fails_its_verification_leaves_nothing(model, tmp_path, monkeypatch):
    def refuse(path, examples):
        assert (path / "saved_model.pb").is_file()
        raise serving.VerificationError

    monkeypatch.setattr(verification, "_run", refuse)
    with pytest.raises(serving.VerificationError):
        kc.export(model, tmp_path / "photos", LABELS, RECORD)
    assert files(tmp_path) == []


BAD_LABELS = [
    LABELS[:5],
    [*LABELS[:5], "hen"],
    [*LABELS[:5], ""],
    [*LABELS[:5], "two\nlines"],
    [*LABELS[:5], "\x1b[31mred"],
    [*LABELS[:5], 6],
]


@pytest.mark.parametrize("labels", BAD_LABELS)
def test_labels_that_do_not_fit_are_refused_before_anything_is_written(model, tmp_path, labels):
    with pytest.raises(ValueError, match=r"export: `labels` must be"):
        kc.export(model, tmp_path / "photos", labels, RECORD)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, r"`precision` must be one of 'float32', 'bfloat16', 'float16', 'int8'\. Received"),
        ({"precision": "int8"}, r"`examples` must be images to measure the accuracy on for precision=\"int8\""),
        ({"temperature": 0}, r"`temperature` must be a positive number\. Received: temperature=0\."),
        ({"temperature": float("inf")}, r"`temperature` must be a positive number"),
        ({"metadata": {"when": object()}}, r"`metadata` must be a dict of texts, numbers, lists and dicts"),
        ({"version": 0}, r"`version` must be an integer of at least 1"),
        ({"examples": [b""], "targets": []}, r"`targets` must be as many numbers as there are examples \(1\)"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_written(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        kc.export(model, tmp_path / "photos", LABELS, RECORD, **options)
    assert files(tmp_path) == []


def test_folders_with_other_files_are_refused_and_unchanged(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(serving.FolderError, match=r"which holds thesis\.txt\. Name another folder\."):
        kc.export(model, tmp_path, LABELS, RECORD)
    assert files(tmp_path) == ["thesis.txt"]


def test_verify_refuses_what_export_did_not_write(version, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing does not exist\."):
        kc.verify(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"a folder with a saved_model\.pb\. Received: .*, without one"):
        kc.verify(tmp_path)
    shutil.copy(version / "saved_model.pb", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"written by `export`\. Received: .* without assets\.extra"):
        kc.verify(tmp_path)


def test_the_error_of_a_process_that_dies_is_reported(version, tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text("import sys; sys.exit('no kernel for this operation')")
    monkeypatch.setattr(verification, "PROGRAM", program)
    with pytest.raises(
        serving.VerificationError, match="does not run in a fresh process: no kernel for this operation"
    ):
        kc.verify(version)
