"""The command line: what a person and a program get, and the exit status."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from pipelines import Catalog, InputError, cli
from pipelines.evaluation.prediction import Prediction, load_signature, predict
from pipelines.evaluation.training_images import find_training_images
from pipelines.names import printable
from pipelines.sample import DIRECTORY

pytestmark = pytest.mark.usefixtures("versions_loaded_once")


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
        "top_predictions": [],
    }
    assert sum(one["probability"] for one in found["duck.png"]["top_predictions"]) == pytest.approx(1, abs=1e-5)
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


def test_predict_marks_uncertain_answers_and_writes_csv(version, images, capsys):
    table = images / "labels.csv"
    assert (
        cli.main(["predict", str(version), str(images / "duck.png"), "--min-confidence", "1", "--csv", str(table)]) == 0
    )
    with open(table, newline="") as file:
        (row,) = csv.DictReader(file)
    assert (
        row["status"] == "uncertain" and row["label"] in {"birds", "music", "plants"} and float(row["probability"]) < 1
    )
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
        (["predict", "{version}", "{tmp}"], "contains no image"),
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
    monkeypatch.setattr("pipelines.evaluation.prediction.BATCH_SIZE", 7)
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
            load_signature(tmp_path / name)


def test_a_table_that_cannot_be_written_is_told_before_the_work(version, images, capsys):
    for name in (images / "more", images / "none" / "labels.csv"):
        assert cli.main(["predict", str(version), str(images / "duck.png"), "--csv", str(name)]) == 2
        assert "--csv must name a file" in capsys.readouterr().err
    (images / "old.csv").write_text("kept")
    assert cli.main(["predict", str(version), str(images / "none.png"), "--csv", str(images / "old.csv")]) == 2
    assert (images / "old.csv").read_text() == "kept" and not (images / "old.csv.part").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit"],
        ["fit", "x"],
        ["fit", "x", "--out", "y", "--epochs", "-1"],
        ["predict", "x", "y", "--min-confidence", "2"],
    ],
)
def test_wrong_use_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2 and "error: " in capsys.readouterr().err


def test_files_of_a_folder_are_known_by_their_bytes_and_the_others_are_named(version, images, capsys):
    duck = Image.open(images / "duck.png").convert("RGBA").convert("RGB")
    for name in ("1.jfif", "2.jpe", "3.tif", "4", "5.JPG"):
        duck.save(images / "more" / name, "JPEG")
    duck.save(images / "more" / "6.tiff")
    (images / "more" / "broken.jpg").unlink()
    for name in ("film.mp4", "data.npy", "other.npy", "Thumbs.db", "notes.txt", ".DS_Store"):
        (images / "more" / name).write_bytes(b"something else")
    assert cli.main(["predict", str(version), str(images / "more"), "--json"]) == 2
    out, err = capsys.readouterr()
    status = {os.path.basename(row["path"]): row["status"] for row in json.loads(out)}
    assert status == {
        **dict.fromkeys(("1.jfif", "2.jpe", "3.tif", "4", "5.JPG", "ü.png"), "confident"),
        "6.tiff": "unreadable",
    }
    assert err.splitlines() == [
        "keras-cnn predict: 3 files are skipped, not images by their first bytes: 2 .npy, 1 .mp4.",
        f"keras-cnn predict: 1 of 7 files are no images, such as {images / 'more' / '6.tiff'}.",
    ]


def test_from_python_skipped_files_are_a_warning(version, images):
    (images / "more" / "film.mp4").write_bytes(b"something else")
    (images / "more" / "broken.jpg").unlink()
    with pytest.warns(UserWarning, match=r"^1 file is skipped, not images by their first bytes: 1 \.mp4\.$"):
        assert len(list(predict(version, [images / "more"]))) == 1


def test_a_folder_without_images_says_what_it_holds(version, tmp_path, capsys):
    (tmp_path / "film.mp4").write_bytes(b"something else")
    assert cli.main(["predict", str(version), str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith(
        f"The folder {tmp_path} contains no image. Received: 1 .mp4. Choose another folder.\n"
    )


@pytest.fixture
def odd_predictions(monkeypatch):
    """`predict` gives labels and paths that a terminal would obey, a spreadsheet compute, and no encoding knows."""
    found = [
        Prediction("=1.jpg", "confident", ("=1+1",), "=1+1", 0.5, (("=1+1", 0.5),)),
        Prediction(os.fsdecode(b"caf\xe9\x1b[31m.jpg"), "confident", ("é\u202e", "-x"), "é\u202e", 0.5, ()),
    ]
    monkeypatch.setattr("pipelines.evaluation.prediction.predict", lambda *_: found)
    monkeypatch.setattr("pipelines.evaluation.prediction.find_images", lambda images: (images, {}))
    return found


def test_odd_names_do_no_harm_on_a_terminal(odd_predictions, capsys):
    assert cli.main(["predict", "version", "images"]) == 0
    assert capsys.readouterr().out == "=1+1         0.500  =1.jpg\né\\u202e, -x  0.500  caf\\xe9\\x1b[31m.jpg\n"


def test_odd_names_are_no_formulas_in_a_table_and_exact_in_json(odd_predictions, tmp_path, capsys):
    assert cli.main(["predict", "version", "images", "--csv", str(tmp_path / "a.csv"), "--json"]) == 0
    with open(tmp_path / "a.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["label"]) for row in rows] == [
        ("./=1.jpg", "'=1+1"),
        (odd_predictions[1].path, "é\u202e, -x"),
    ]
    assert [(row["path"], row["label"]) for row in json.loads(capsys.readouterr().out)] == [
        (one.path, one.label) for one in odd_predictions
    ]


def test_odd_names_in_errors_do_no_harm(capsys):
    name = "\x1b[2J\x9b" + os.fsdecode(b"caf\xe9")
    assert cli.main(["doctor", name]) == 2
    with pytest.raises(SystemExit):
        cli.main(["doctor", "photos", f"--{name}"])
    err = capsys.readouterr().err
    assert err.count(r"\x1b[2J\x9bcaf\xe9") == 2 and printable(err.replace("\n", "")) == err.replace("\n", "")


def test_evaluate_says_which_images_the_version_was_trained_on(job, sample_photos, tmp_path, capsys):
    """The folder it was trained on, a copy under other names, and new images beside."""
    version, photos = job[0].export, job[2]
    catalog = Catalog.from_csv(job[0].run / "catalog.csv")
    expected = {split: len(catalog.included(split)) for split in ("train", "validation")}
    assert cli.main(["evaluate", str(version), str(photos), "--json"]) == 0
    out, err = capsys.readouterr()
    seen = json.loads(out)["seen_in_training"]
    assert {split: len(paths) for split, paths in seen["images"].items()} == expected == {"train": 13, "validation": 6}
    assert seen["images"]["train"] == [catalog.paths[row] for row in catalog.included("train")]
    assert seen["accuracy_on_unseen"] == job[0].accuracy
    sentence = "this version was trained on 19 of the 24 images (13 train, 6 validation); accuracy on the other 5: "
    assert f"keras-cnn evaluate: {sentence}{100 * job[0].accuracy:.1f} %.\n" in err

    shutil.move(shutil.copytree(sample_photos, tmp_path / "copy"), tmp_path / "moved")
    for number, path in enumerate(sorted((tmp_path / "moved").rglob("*.png"))):
        path.rename(path.with_name(f"{number}.PNG"))
    new = sorted((DIRECTORY / "birds").iterdir())[8:10]
    for path in new:
        shutil.copy(path, tmp_path / "moved" / "birds")
    assert cli.main(["evaluate", str(version.parent), str(tmp_path / "moved")]) == 0
    assert "this version was trained on 19 of the 26 images (13 train, 6 validation); accuracy on the other 7: " in (
        capsys.readouterr().err
    )


def test_evaluate_on_images_that_were_all_used_says_that_it_measures_nothing(job, tmp_path, capsys):
    catalog = Catalog.from_csv(job[0].run / "catalog.csv")
    rows = [f"{catalog.paths[row]},{catalog.labels[row]}" for row in catalog.included("train")]
    (tmp_path / "train.csv").write_text("\n".join(["path,label", *rows]))
    assert cli.main(["evaluate", str(job[0].export), str(tmp_path / "train.csv")]) == 0
    assert "this version was trained on 13 of the 13 images (13 train, 0 validation), so the accuracy says nothing" in (
        capsys.readouterr().err
    )


def test_evaluate_is_silent_about_new_images_and_about_a_version_without_its_run(job, tmp_path, capsys):
    new = sorted((DIRECTORY / "birds").iterdir())[8:10]
    (tmp_path / "new.csv").write_text("\n".join(["path,label", *(f"{path},birds" for path in new)]))
    assert cli.main(["evaluate", str(job[0].export), str(tmp_path / "new.csv"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["seen_in_training"]["images"] == {"train": [], "validation": []} and err == ""
    shutil.copytree(job[0].export, tmp_path / "alone" / "1")
    assert cli.main(["evaluate", str(tmp_path / "alone"), str(tmp_path / "new.csv"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["seen_in_training"] is None and err == ""


@pytest.mark.parametrize(("run", "seen"), [("1", 13), ("../runs/1", None), ("9", None)])
def test_a_version_that_was_exported_later_knows_its_run(job, tmp_path, run, seen):
    """As its card says; a card that names something else than the number of a run is not followed."""
    shutil.copytree(job[0].run, tmp_path / "runs" / "1")
    (tmp_path / "2" / "assets").mkdir(parents=True)
    (tmp_path / "2" / "assets" / "model_card.json").write_text(json.dumps({"metadata": {"run": run}}))
    catalog, known = Catalog.from_csv(job[0].run / "catalog.csv"), find_training_images(tmp_path / "2")
    if seen is None:
        assert known is None
    else:
        contents = [Path(path).read_bytes() for path in catalog.paths]
        elsewhere = known.splits_of([f"{number}.png" for number in range(len(contents))], tf.constant(contents))
        assert elsewhere == [split if split != "test" else "" for split in catalog.splits]
        assert elsewhere.count("train") == seen


def test_evaluate_names_the_excluded_files(job, sample_photos, tmp_path, capsys):
    shutil.copytree(sample_photos, tmp_path / "photos")
    for name in ("film.mp4", "notes.txt"):
        (tmp_path / "photos" / "birds" / name).write_bytes(b"something else")
    assert cli.main(["evaluate", str(job[0].export), str(tmp_path / "photos"), "--json"]) == 0
    out, err = capsys.readouterr()
    excluded = {str(tmp_path / "photos" / "birds" / "film.mp4"): "not an image file by its first bytes (.mp4)"}
    assert json.loads(out)["excluded"] == excluded
    assert err.startswith(f"keras-cnn evaluate: 1 file is excluded, such as {next(iter(excluded))}: not an image")


@pytest.mark.slow
def test_names_that_are_no_text_and_a_terminal_without_accents(sample_photos, tmp_path):
    """All commands as programs, in an encoding that knows ASCII alone; copies, so that findings name them."""
    photos, odd = tmp_path / "photos", os.fsdecode(b"caf\xe9 \x1b[31m\x9b.png")
    shutil.copytree(sample_photos, photos)
    (photos / "birds").rename(photos / "=Vögel")
    first = sorted((photos / "=Vögel").iterdir())[0]
    shutil.copy(first, photos / "=Vögel" / odd)
    shutil.copy(first, photos / "plants" / odd)
    shutil.copy(photos / "music" / sorted(os.listdir(photos / "music"))[0], photos / "music" / ("x" + odd))
    (photos / "music" / f"torn {odd}").write_bytes(first.read_bytes()[:200])
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "KERAS_CNN_CACHE": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])

    def called(*arguments, status=0):
        command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
        assert done.returncode == status, done.stderr.decode()
        assert not {*b"\x1b\x9b\xe9"} & {*done.stdout, *done.stderr}
        return done.stdout.decode("ascii")

    assert r"caf\xe9 \x1b[31m\x9b.png" in called("doctor", photos, "--report", tmp_path / "page.html", "--quiet")
    assert r"V\xf6gel" in called("fit", photos, "--out", tmp_path / "out", "--epochs", "0", "--quiet")
    run = tmp_path / "out" / "runs" / "1"
    findings = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["findings"]
    named = {path for finding in findings for files in finding["files"] for path in files}
    assert {str(photos / "=Vögel" / odd), str(photos / "plants" / odd)} <= named and all(map(os.path.isfile, named))
    for page in (run / "report.html", tmp_path / "page.html"):
        assert r"caf\xe9 \x1b[31m\x9b.png" in page.read_text(encoding="utf-8")
    catalog = Catalog.from_csv(run / "catalog.csv")
    assert str(photos / "=Vögel" / odd) in catalog.paths and "=Vögel" in catalog.classes
    assert b"\n=V" not in (run / "catalog.csv").read_bytes() and b",'=V" in (run / "catalog.csv").read_bytes()
    found = json.loads(called("evaluate", tmp_path / "out", run / "catalog.csv", "--json"))
    assert found["images"] == len(catalog.included("test"))
    called("evaluate", tmp_path / "out", photos)
    called("predict", tmp_path / "out", photos, "--csv", tmp_path / "a.csv", "--json", status=2)
    called("predict", tmp_path / "out", photos, status=2)
    with open(tmp_path / "a.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert (
        str(photos / "plants" / odd) in rows and rows[str(photos / "music" / f"torn {odd}")]["status"] == "unreadable"
    )
    called("fit", run / "catalog.csv", "--out", tmp_path / "out", "--epochs", "0", "--quiet", "--json")
