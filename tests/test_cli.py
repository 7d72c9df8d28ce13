"""The command line: what a person and a program get, and the exit status."""

import csv
import json
import shutil

import pytest
import tensorflow as tf

from pipelines import InputError, cli
from pipelines.prediction import load, predict
from pipelines.sample import DIRECTORY


@pytest.fixture
def version(job):
    """The version that the job of `conftest.py` exported."""
    return job[0].export


@pytest.fixture
def images(tmp_path):
    """Two drawings, one in a folder with a file that is no image."""
    shutil.copy(DIRECTORY / "birds" / "duck.png", tmp_path)
    (tmp_path / "more" / "deep").mkdir(parents=True)
    shutil.copy(
        DIRECTORY / "plants" / sorted(path.name for path in (DIRECTORY / "plants").iterdir())[0],
        tmp_path / "more" / "deep" / "ü.png",
    )
    (tmp_path / "more" / "broken.jpg").write_bytes(b"?")
    return tmp_path


def test_predict_prints_label_and_probability(version, images, capsys):
    assert cli.main(["predict", str(version), str(images / "duck.png")]) == 0
    label, probability, path = capsys.readouterr().out.split()
    assert (
        label in {"birds", "music", "plants"} and 1 / 3 <= float(probability) <= 1 and path == str(images / "duck.png")
    )


def test_predict_json_of_a_folder_with_a_broken_file(version, images, capsys):
    # The folder of versions stands for its highest version.
    assert cli.main(["predict", str(version.parent), str(images), "--json"]) == 2
    out, err = capsys.readouterr()
    found = {row["path"].rsplit("/", 1)[1]: row for row in json.loads(out)}
    assert list(found) == ["duck.png", "broken.jpg", "ü.png"]
    assert found["broken.jpg"] == {
        "path": str(images / "more" / "broken.jpg"),
        "status": "unreadable",
        "labels": [],
        "label": "",
        "probability": 0.0,
        "best": [],
    }
    assert sum(one["probability"] for one in found["duck.png"]["best"]) == pytest.approx(1, abs=1e-5)
    assert err == f"keras-cnn predict: 1 of 3 files are no images, such as {images / 'more' / 'broken.jpg'}.\n"


@pytest.mark.slow
def test_a_file_that_is_named_twice_is_labelled_once(version, images):
    assert len(list(predict(version, [images / "duck.png", images, images / "duck.png"]))) == 3


@pytest.mark.parametrize("option", ["--rej", "--cvs"])
def test_an_unknown_option_is_refused_with_the_usage_of_its_command(option, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["predict", "model", "a.png", option, "1"])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.startswith("usage: keras-cnn predict") and f"unknown: {option}" in err


def test_predict_rejects_and_writes_csv(version, images, capsys):
    table = images / "labels.csv"
    assert cli.main(["predict", str(version), str(images / "duck.png"), "--reject", "1", "--csv", str(table)]) == 0
    with open(table, newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "unsure" and row["label"] in {"birds", "music", "plants"} and float(row["probability"]) < 1
    assert capsys.readouterr().out == ""


def test_evaluate_on_the_records_of_a_run_gives_its_accuracy(job, capsys):
    result = job[0]
    assert cli.main(["evaluate", str(result.export), str(result.run / "catalog.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == result.accuracy and found["images"] == 5 and found["unreadable"] == []
    assert [row["images"] for row in found["by_class"]] == [row["images"] for row in result.metrics["by_class"]]


def test_evaluate_takes_all_images_where_there_is_no_official_split(job, sample_photos, tmp_path, capsys):
    shutil.copytree(sample_photos, tmp_path / "photos")
    (tmp_path / "photos" / "birds" / "torn.png").write_bytes(b"?")
    assert cli.main(["evaluate", str(job[0].export.parent), str(tmp_path / "photos")]) == 0
    accuracy, unreadable, *classes = capsys.readouterr().out.splitlines()
    assert "of 24 images (95 % interval " in accuracy and unreadable.endswith("/birds/torn.png")
    assert [line.split()[0] for line in classes] == ["8", "8", "8"]


@pytest.mark.slow
def test_verify(version, capsys):
    assert cli.main(["verify", str(version), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["fit", "{tmp}/none", "--out", "{tmp}/out"],
            "or a table of image files. Received: {tmp}/none, which does not exist",
        ),
        (["fit", "{photos}", "--out", "{photos}"], "The output must be a new or empty folder"),
        (["fit", "{photos}", "--out", "{photos}/out"], "The output must not be inside the data"),
        (["fit", "{photos}", "--out", "{tmp}/out", "--backbone", "resnet"], "Received: handle='resnet'"),
        (["fit", "{photos}/../labels.csv", "--out", "{tmp}/out"], "labels.csv, which does not exist"),
        (
            ["fit", "{photos}", "--out", "{tmp}/out", "--label", "fine"],
            "The option label is for tables. Received: {photos}",
        ),
        (
            ["fit", "{catalog}", "--out", "{tmp}/out", "--label", "fine"],
            "catalog.csv has no column 'fine'. Received: 'path', ",
        ),
        (
            ["fit", "{catalog}", "--out", "{tmp}/out", "--class-folder", "last"],
            "The option class_folder is for folders.",
        ),
        (["evaluate", "{tmp}", "{photos}"], "The SavedModel must be a folder that `keras-cnn fit` exported"),
        (["evaluate", "{version}", "{catalog}", "--label", "group"], "Each row of {catalog} needs a label."),
        (
            ["evaluate", "{version}", "{catalog}", "--label", "split"],
            "classes of the SavedModel: birds, music, plants. Rec",
        ),
        (["predict", "{tmp}", "{photos}"], "The SavedModel must be a folder that `keras-cnn fit` exported"),
        (["predict", "{version}", "{tmp}/none.jpg"], "Received: {tmp}/none.jpg, which does not exist"),
        (["predict", "{version}", "{tmp}"], "holds no image"),
        (["verify", "{tmp}"], "The SavedModel must be a folder with a saved_model.pb. Received: {tmp}"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, sentence, version, sample_photos, tmp_path, capsys):
    catalog = version.parent / "runs" / "1" / "catalog.csv"
    places = {"tmp": tmp_path, "photos": sample_photos, "version": version, "catalog": catalog}
    assert cli.main([argument.format(**places) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence.format(**places) in err
    assert err.splitlines()[-1].startswith(f"keras-cnn {arguments[0]}: ") and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in sample_photos.iterdir()) == ["birds", "music", "plants"]


@pytest.mark.slow
def test_more_images_than_a_batch_keep_their_order(version, sample_photos, monkeypatch):
    names = sorted(map(str, sample_photos.rglob("*.png")))
    whole = list(predict(version, names))
    monkeypatch.setattr("pipelines.prediction.BATCH_SIZE", 7)
    found = list(predict(version, names))
    assert [one.path for one in found] == names and len(names) == 24
    for first, second in zip(whole, found, strict=True):
        assert first.label == second.label and first.probability == pytest.approx(second.probability, abs=1e-5)


def test_a_saved_model_of_others_is_refused(tmp_path):
    module = tf.Module()
    module.f = tf.function(lambda x: {"output_0": x}, input_signature=[tf.TensorSpec([], tf.float32)])
    tf.saved_model.save(module, tmp_path / "other", signatures=module.f)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "saved_model.pb").write_bytes(b"?")
    for name, sentence in (("other", "with other outputs"), ("torn", "cannot be loaded")):
        with pytest.raises(InputError, match=sentence):
            load(tmp_path / name)


def test_a_table_that_cannot_be_written_is_told_before_the_work(version, images, capsys):
    for name in (images / "more", images / "none" / "labels.csv"):
        assert cli.main(["predict", str(version), str(images / "duck.png"), "--csv", str(name)]) == 2
        assert "--csv must name a file" in capsys.readouterr().err
    (images / "old.csv").write_text("kept")
    assert cli.main(["predict", str(version), str(images / "none.png"), "--csv", str(images / "old.csv")]) == 2
    assert (images / "old.csv").read_text() == "kept" and not (images / "old.csv.part").exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["fit"], ["fit", "x"], ["fit", "x", "--out", "y", "--epochs", "-1"], ["predict", "x", "y", "--reject", "2"]],
)
def test_wrong_use_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2 and "error: " in capsys.readouterr().err
