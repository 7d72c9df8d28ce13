"""`keras-cnn export` and `verify`: another version of a trained network, and what is printed."""

import argparse
import csv
import json

import pytest
from serving_cases import LABELS, RECORD, in_this_process, make_model, picture

from keras_cnn.serving import verification
from pipelines import InputError
from pipelines.commands import export as export_command
from pipelines.commands import verify as verify_command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run of a job with two validation images, one of which does not exist any more."""
    folder = tmp_path_factory.mktemp("models") / "photos" / "runs" / "1"
    folder.mkdir(parents=True)
    make_model().save(folder / "model.keras")
    (folder / "settings.json").write_text(json.dumps({"preprocessing": RECORD.to_dict()}))
    metrics = {"classes": LABELS, "accuracy": 0.5, "selected": "fine_tuned", "task": "single_label"}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    image = folder.parent.parent.parent / "a.jpg"
    image.write_bytes(picture("JPEG"))
    with open(folder / "catalog.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split", "group", "reason"])
        table.writerows([[image, "hen", "validation", "", ""], ["gone.jpg", "hen", "validation", "", ""]])
    return folder


def call(module, *arguments):
    parser = argparse.ArgumentParser()
    module.add_to(parser.add_subparsers())
    options = parser.parse_args(list(map(str, arguments)))
    return options.run(options)


@pytest.mark.slow
def test_a_run_is_exported_in_another_precision(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verification, "_run", in_this_process)
    assert (
        call(export_command, "export", run.parent.parent, "--precision", "int8", "--out", tmp_path / "8", "--json") == 0
    )
    card = json.loads(capsys.readouterr().out)
    assert card["export"] == str(tmp_path / "8" / "1") and card["precision"] == "int8"
    assert card["metadata"] == {"accuracy": 0.5, "run": "1"} and card["verification"]["images"] == 10
    assert card["verification"]["accuracy"] == card["verification"]["accuracy_before"]
    assert call(verify_command, "verify", tmp_path / "8") == 0
    assert f"{tmp_path / '8' / '1'}: 9 images, largest difference of each signature: " in capsys.readouterr().out


def test_other_paths_than_a_run_are_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"The run .*missing does not exist\."):
        call(export_command, "export", tmp_path / "missing")
    with pytest.raises(InputError, match=r"RUN must be a run that `keras-cnn fit` wrote, such as .*\. Received"):
        call(export_command, "export", tmp_path)
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(InputError, match=r"The run has no readable settings\.json"):
        call(export_command, "export", tmp_path)


def test_an_output_folder_with_other_files_is_refused(run, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"which holds thesis\.txt"):
        call(export_command, "export", run, "--out", tmp_path)
