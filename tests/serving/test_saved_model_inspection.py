"""A SavedModel is looked at before it is loaded; one that may do more than compute is refused without a word of trust."""

import shutil

import pytest
import tensorflow as tf
from helpers.commands import run_command
from tensorflow.core.protobuf import saved_model_pb2

import keras_cnn as kc
from keras_cnn import serving
from keras_cnn.serving import verification
from pipelines import InputError
from pipelines.evaluation import prediction


def saved(function, directory, dtype=tf.string):
    """A SavedModel whose signature gives labels and probabilities and calls `function` on its input."""

    @tf.function(input_signature=[tf.TensorSpec([None], dtype, name="image_bytes")])
    def serve(image_bytes):
        result = function(image_bytes)
        return {
            "labels": tf.as_string(tf.strings.length(tf.strings.as_string(result)))[:, None],
            "probabilities": tf.ones((1, 1)),
        }

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(directory), signatures={"serving_default": serve})
    return directory


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A SavedModel that reads the file that it is given the name of."""
    return saved(lambda names: tf.map_fn(tf.io.read_file, names), tmp_path_factory.mktemp("models") / "reader")


def test_reading_files_is_seen_and_refused(reader, tmp_path):
    found = serving.inspect(reader)
    assert found.suspicious == ("ReadFile reads files",)
    assert found.signatures["serving_default"]["inputs"] == {"image_bytes": "string [?]"}
    assert found.size == sum(file.stat().st_size for file in reader.rglob("*") if file.is_file())
    version = shutil.copytree(reader, tmp_path / "1")
    (version / verification.GOLDEN_EXAMPLES).parent.mkdir(exist_ok=True)
    (version / verification.GOLDEN_EXAMPLES).touch()
    with pytest.raises(
        serving.VerificationError, match=r"may do more than compute: ReadFile reads files\. It was not loaded"
    ):
        kc.verify(version)


def test_predict_refuses_it_too_unless_it_is_trusted(reader, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"12345")
    with pytest.raises(InputError, match=r"It was not loaded\. If you trust where it comes from, say so"):
        prediction.load_signature(reader)
    serve = prediction.load_signature(reader, trust=True)
    assert serve(image_bytes=tf.constant([str(tmp_path / "secret.jpg")]))["labels"].numpy() == [[b"5"]]


def test_training_and_paths_are_seen(tmp_path):
    def dropout(content):
        noise = tf.random.uniform(tf.shape(content))
        return tf.where(noise > 0.5, "/home/anna/photos/a.jpg", "/m/01abc/not-a-path")

    path = saved(dropout, tmp_path / "1")
    (path / "assets").mkdir(exist_ok=True)
    (path / "assets" / "labels.txt").write_text("/m/01abc/not-a-path\n")
    found = serving.inspect(path)
    assert found.training_operations == ("RandomUniform",)
    assert found.absolute_paths == ("/home/anna/photos/a.jpg",)
    assert found.suspicious == ()


def test_assets_outside_of_the_folder_are_seen(reader, tmp_path):
    path = shutil.copytree(reader, tmp_path / "1")
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    model.meta_graphs[0].asset_file_def.add(filename="../../../etc/passwd")
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    assert "an asset lies outside of the folder: '../../../etc/passwd'" in serving.inspect(path).suspicious


def test_an_operation_that_only_loading_runs_is_seen(tmp_path):
    """A restore operation is the server's, so what hides in it runs without any request."""

    class Module(tf.Module):
        def __init__(self):
            table = tf.lookup.TextFileInitializer(str(names), tf.string, 0, tf.int64, 1, delimiter=",")
            self.table = tf.lookup.StaticHashTable(table, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, names):
            return {"numbers": self.table.lookup(names)}

    names = tmp_path / "names.csv"
    names.write_text("a,1\n")
    module = Module()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.__call__)
    assert serving.inspect(tmp_path / "1").suspicious == ("InitializeTableFromTextFileV2 reads files",)


def test_what_is_no_saved_model(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match=r"saved_model\.pb must be a SavedModel\. Received: other content"):
        serving.inspect(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must hold one graph\. Received: 0"):
        serving.inspect(tmp_path)


def test_the_command_line(reader, tmp_path, capsys):
    assert run_command("verify", reader, "--inspect") == 0
    output = capsys.readouterr().out
    assert "MAY DO MORE THAN COMPUTE: ReadFile reads files" in output and "<- image_bytes: string [?]" in output
    with pytest.raises(InputError, match=r"The SavedModel .* does not exist"):
        run_command("verify", tmp_path / "missing")
    with pytest.raises(InputError, match="written by `export`"):
        run_command("verify", reader)
