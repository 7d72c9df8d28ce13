"""SavedModels that do more than compute, in every place where loading or running one would do it, are seen and not loaded."""

import shutil

import pytest
import tensorflow as tf
from helpers import hostile_models
from helpers.commands import run_command
from helpers.hostile_models import HOSTILE, add, change, function, save, text, write
from tensorflow.core.protobuf import saved_model_pb2

from keras_cnn import safety, serving
from keras_cnn.layers import HubLayer
from pipelines import InputError
from pipelines.evaluation import prediction


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "harmless"
    hostile_models.save_harmless(directory)
    (directory / "assets").mkdir(exist_ok=True)
    return directory


@pytest.fixture
def model(harmless, tmp_path):
    """A copy to change."""
    return shutil.copytree(harmless, tmp_path / "1")


def test_the_model_that_all_are_made_of_is_harmless(harmless):
    assert serving.inspect(harmless).suspicious == ()
    answer = prediction.load_signature(harmless)(image_bytes=tf.constant(["a", "c"]))
    assert answer["labels"].numpy().tolist() == [[b"?"], [b"?"]]


@pytest.mark.parametrize("name", HOSTILE)
def test_each_is_seen_and_loaded_by_nothing(model, name, capsys, monkeypatch):
    how, sentence = HOSTILE[name]
    change(model, how)
    monkeypatch.setattr(tf.saved_model, "load", lambda *_: pytest.fail("it was loaded"))
    assert run_command("verify", model, "--inspect") == 0
    assert sentence in capsys.readouterr().out
    with pytest.raises(InputError, match=r"may do more than compute: .* It was not loaded"):
        prediction.load_signature(model)
    with pytest.raises(ValueError, match=r"must do nothing but compute. Received: .* say so by trust=True"):
        HubLayer(model)


def test_they_are_many_and_of_different_kinds():
    assert len(HOSTILE) >= 50
    assert len({how for how, _ in HOSTILE.values()}) == len(HOSTILE)
    assert len({sentence for _, sentence in HOSTILE.values()}) > 25


@pytest.mark.parametrize("part", ["initializer", "creator", "save_fn", "restore_fn"])
@pytest.mark.parametrize("add_nodes", [write, save])
def test_what_is_refused_would_write_as_soon_as_it_is_loaded(model, tmp_path, part, add_nodes):
    """The proof that the object graph counts: no signature leads to these functions."""

    def how(meta, _):
        changed = function(meta, part)
        add_nodes(changed.node_def, tmp_path / "written", ":output:0")
        changed.control_ret["added"] = "added"
        changed.signature.control_output.append("added")
        changed.signature.is_stateful = True

    change(model, how)
    with pytest.raises(InputError, match="writes files"):
        prediction.load_signature(model)
    assert not list(tmp_path.glob("written*"))
    prediction.load_signature(model, trust=True)
    assert list(tmp_path.glob("written*"))


def test_every_graph_of_a_module_is_looked_at(model):
    path = model / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    second = saved.meta_graphs.add()
    second.CopyFrom(saved.meta_graphs[0])
    second.meta_info_def.tags[:] = ["train"]
    add(function(second, "serve").node_def, "ReadFile")
    path.write_bytes(saved.SerializeToString())
    assert safety.suspicions(saved, model) == ("ReadFile reads files",)
    with pytest.raises(ValueError, match=r"must hold one graph\. Received: 2"):
        serving.inspect(model)


def test_a_graph_as_text_alone_is_not_taken(model):
    (model / "saved_model.pb").rename(model / "saved_model.pbtxt")
    for load in (serving.inspect, HubLayer):
        with pytest.raises(FileNotFoundError, match=r"must be a folder with a saved_model\.pb"):
            load(model)


def test_a_link_within_the_folder_is_no_link_out_of_it(model):
    index = model / "variables" / "variables.index"
    index.rename(index.with_name("stored"))
    index.symlink_to("stored")
    assert serving.inspect(model).suspicious == ()


def test_a_saver_of_tensorflow_1_that_was_left_over_is_the_savers(tmp_path):
    """A graph out of training holds a saver of that time too, with a file name of its own that is a placeholder."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("x", initializer=1.0)
        tf.compat.v1.train.Saver(sharded=True)
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    assert serving.inspect(tmp_path / "1").suspicious == ()

    def read_from_elsewhere(meta, _):
        text(meta.graph_def.node, "/etc/evil", "path")
        next(node for node in meta.graph_def.node if node.op == "RestoreV2").input[0] = "path"

    change(tmp_path / "1", read_from_elsewhere)
    sentence = f"RestoreV2 reads files {hostile_models.OTHER_NAME}"
    assert serving.inspect(tmp_path / "1").suspicious == (sentence,)
