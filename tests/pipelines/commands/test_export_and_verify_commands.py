"""`keras-cnn export` and `verify`: another version of a trained network, and what is printed."""

import csv
import json
import shutil

import pytest
from helpers.commands import run_command
from helpers.serving_cases import LABELS, RECORD, encoded_image, in_this_process, make_model

from keras_cnn.serving import PRECISIONS, verification
from pipelines import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run of a job with two validation images, one of which does not exist any more."""
    folder = tmp_path_factory.mktemp("models") / "photos" / "runs" / "1"
    folder.mkdir(parents=True)
    make_model().save(folder / "model.keras")
    (folder / "settings.json").write_text(json.dumps({"preprocessing": RECORD.to_dict()}))
    metrics = {"classes": LABELS, "accuracy": 0.5, "judged": {"trained_on": False}, "task": "single_label"}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    image = folder.parent.parent.parent / "a.jpg"
    image.write_bytes(encoded_image("JPEG"))
    with open(folder / "catalog.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split", "group", "reason"])
        table.writerows([[image, "hen", "validation", "", ""], ["gone.jpg", "hen", "validation", "", ""]])
    return folder


@pytest.mark.slow
def test_a_run_is_exported_in_another_precision(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verification, "_run", in_this_process)
    assert run_command("export", run.parent.parent, "--precision", "int8", "--out", tmp_path / "8", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["export"] == str(tmp_path / "8" / "1") and card["precision"] == "int8"
    assert card["metadata"] == {"accuracy": 0.5, "run": "1"} and card["verification"]["images"] == 10
    assert card["verification"]["accuracy"] == card["verification"]["accuracy_before"]
    assert run_command("verify", tmp_path / "8") == 0
    assert f"{tmp_path / '8' / '1'}: 9 images, largest difference of each signature: " in capsys.readouterr().out


def test_other_paths_than_a_run_are_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"The run .*missing does not exist\."):
        run_command("export", tmp_path / "missing")
    with pytest.raises(InputError, match=r"RUN must be a run that `keras-cnn fit` wrote, such as .*\. Received"):
        run_command("export", tmp_path)
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(InputError, match=r"The run has no readable settings\.json"):
        run_command("export", tmp_path)


def test_an_output_folder_with_other_files_is_refused(run, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"which holds thesis\.txt"):
        run_command("export", run, "--out", tmp_path)


def test_every_precision_is_a_choice_and_no_other(capsys):
    with pytest.raises(SystemExit):
        run_command("export", "--help")
    assert f"{{{','.join(PRECISIONS)}}}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run_command("export", "missing", "--precision", "int4")
    assert "invalid choice: 'int4'" in capsys.readouterr().err


def test_a_network_that_learned_from_the_validation_images_is_judged_on_test_images(run, tmp_path):
    """There are none here."""
    copied = shutil.copytree(run.parent.parent, tmp_path / "photos") / "runs" / "1"
    metrics = json.loads((copied / "metrics.json").read_text(encoding="utf-8"))
    metrics["judged"]["trained_on"] = True
    (copied / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(InputError, match="needs the test images of"):
        run_command("export", copied, "--precision", "int8")
