"""Jobs with several labels an image, on pictures where each of three things is there or not, whatever the others are."""

import csv
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.serving_cases import in_this_process
from PIL import Image

import keras_cnn as kc
from keras_cnn import blocks, serving
from keras_cnn.backbones import Source, Stage
from keras_cnn.training.metrics import average_precision
from pipelines import Catalog, InputError, cli, fine_tune
from pipelines.commands import evaluate as evaluate_command
from pipelines.commands.summary import print_summary

pytestmark = [pytest.mark.usefixtures("versions_loaded_once"), pytest.mark.slow]
CLASSES = ("blue", "framed", "red")
SHARES = (0.4, 0.1, 0.4)
WRONG = 0.04  # share of the labels "blue" that are wrong


def pictures(folder, images, seed=0):
    """A table of pictures of grey noise with a blue patch, a white frame, a red patch, in any combination.

    Returns:
        The path of the table, and the names of the files whose label "blue" is wrong in it.
    """
    random = np.random.default_rng(seed)
    truth = random.uniform(size=(images, 3)) < SHARES
    for number, (blue, framed, red) in enumerate(truth):
        pixels = random.integers(60, 120, (32, 32, 3), "uint8")
        for there, colour in ((blue, (0, 0, 255)), (red, (255, 0, 0))):
            top, left = random.integers(2, 20, 2)
            if there:
                pixels[top : top + 10, left : left + 10] = colour
        if framed:
            pixels[:3] = pixels[-3:] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
    wrong = random.uniform(size=images) < WRONG
    truth[:, 0] ^= wrong
    lines = [f"{number}.png,{','.join(map(str, row.astype(int)))}" for number, row in enumerate(truth)]
    (folder / "tags.csv").write_text("\n".join([",".join(("path", *CLASSES)), *lines]))
    return folder / "tags.csv", {f"{number}.png" for number in np.flatnonzero(wrong)}


def network():
    """A small one with random weights, which can tell colours."""
    keras.utils.set_random_seed(0)
    stages = {
        "stage1": [keras.layers.Rescaling(1 / 127.5, -1), lambda x: blocks.conv_norm_act(x, 16, strides=2)],
        "stage2": lambda x: blocks.conv_norm_act(x, 32, strides=2),
        "stage3": lambda x: blocks.conv_norm_act(x, 32),
    }
    known = (Stage("stage1", 2, 16), Stage("stage2", 4, 32), Stage("stage3", 4, 32))
    return kc.Backbone(
        kc.build((32, 32, 3), stages), known, kc.Preprocessing(32), Source("a small one", "random weights")
    )


def done(folder, table, **options):
    """The result of a quick job on a table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.verification, "_run", in_this_process)
        catalog = Catalog.from_csv(table, label=CLASSES)
        return fine_tune(catalog, folder / "out", network(), crop_fraction=1.0, progress=False, **options)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """A job on 300 pictures: its result, and the names of the files with a wrong label."""
    folder = tmp_path_factory.mktemp("tags")
    table, wrong = pictures(folder, 300)
    return done(folder, table, train="last", epochs=2), wrong


def held_out(result):
    """The paths and the truth of the test images, from the records."""
    with open(result.run / "catalog.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    truth = np.array([[int(row[f"label:{name}"]) for name in CLASSES] for row in rows])
    return [row["path"] for row in rows], truth


def test_metrics(tagged):
    result, _ = tagged
    metrics = json.loads((result.run / "metrics.json").read_text())
    assert metrics["classes"] == list(CLASSES) and metrics["accuracy"] == result.accuracy
    assert set(metrics["validation"]["fine_tuned"]) == {"mean_average_precision", "loss"}
    blue, framed, red = metrics["by_class"]
    assert metrics["mean_average_precision"] == pytest.approx(
        np.mean([row["average_precision"] for row in (blue, framed, red)])
    )
    assert framed["average_precision"] > 0.95 and red["average_precision"] > 0.99
    assert 0.8 < blue["average_precision"] < 1  # some of its labels are wrong
    assert json.loads((result.run / "settings.json").read_text())["label_smoothing"] == 0


def test_the_exported_version_ranks_as_the_metrics_say(tagged):
    result, _ = tagged
    paths, truth = held_out(result)
    serve = tf.saved_model.load(str(result.export)).signatures["serving_default"]
    with_bytes = tf.constant([tf.io.read_file(path).numpy() for path in paths])
    scores = serve(image_bytes=with_bytes)["all_probabilities"].numpy()
    assert average_precision(scores, truth).mean() == pytest.approx(result.metrics["mean_average_precision"], abs=1e-3)
    assert ((scores >= 0.5) == truth).all(1).mean() == pytest.approx(result.accuracy)
    assert scores.sum(1).min() < 0.5 and scores.sum(1).max() > 1.5  # not shares of one


def test_predict_prints_every_label_that_is_likely(tagged, capsys):
    result, wrong = tagged
    paths, truth = held_out(result)
    expected = {path: {CLASSES[k] for k in np.flatnonzero(row)} for path, row in zip(paths, truth, strict=True)}
    right = [path for path in paths if path.rsplit("/", 1)[1] not in wrong]
    assert cli.main(["predict", str(result.export), *right]) == 0
    agreeing, counts = [], set()
    for line, path in zip(capsys.readouterr().out.splitlines(), right, strict=True):
        labels, probability, name = re.fullmatch(r"(.*?) +(\d\.\d+)  (.*)", line).groups()
        found = set() if labels == "(none)" else set(labels.split(", "))
        assert name == path and (float(probability) >= 0.5) == bool(found)
        agreeing.append(found == expected[path])
        counts.add(len(found))
    assert np.mean(agreeing) > 0.95 and counts >= {0, 1, 2}


def test_evaluate_gives_the_figures_of_the_job(tagged, capsys):
    result, _ = tagged
    assert cli.main(["evaluate", str(result.export), str(result.run / "catalog.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(result.accuracy)
    assert found["mean_average_precision"] == pytest.approx(result.metrics["mean_average_precision"], abs=1e-3)
    first, second, *classes = evaluate_command._format_text(found).splitlines()
    assert first.startswith("mean average precision ") and second.startswith("all labels correct ")
    assert [line.split()[-1] for line in classes] == list(CLASSES)


def test_single_label_data_cannot_evaluate_a_multi_label_version(tagged, capsys):
    version, table = str(tagged[0].export), str(tagged[0].run / "catalog.csv")
    assert cli.main(["evaluate", version, table, "--label", "label:red"]) == 2
    assert capsys.readouterr().err == (
        "keras-cnn evaluate: The SavedModel is multi-label. Received data with one label per image. Pass --label for each "
        "column of 0 and 1.\n"
    )


def test_the_report_shows_wrong_labels_among_the_most_confident_errors(tagged):
    result, wrong = tagged
    page = result.report.read_text()
    mistaken = {path.rsplit("/", 1)[1] for path in held_out(result)[0]} & wrong
    assert mistaken and all(re.search(rf'<span class="soft">{name}</span>', page) for name in mistaken)
    assert "mean average precision</p>" in page and "Confusion matrix" not in page


def test_the_summary_names_the_measure(tagged, capsys):
    print_summary(tagged[0])
    text = " ".join(capsys.readouterr().out.split())
    ranked = 100 * tagged[0].metrics["mean_average_precision"]
    every = f"{100 * tagged[0].accuracy:.1f} % of the images have all labels correct (95 % interval "
    assert f"Test {ranked:.1f} % mean average precision; {every}" in text


def test_the_command_line_and_a_whole_network_that_is_trained(tmp_path, capsys):
    """A job that trains all; what it keeps loads with Keras and is exported again."""
    table, _ = pictures(tmp_path, 120)
    network().model.save(tmp_path / "small.keras")
    labels = [part for name in CLASSES for part in ("--label", name)]
    options = [
        "--backbone",
        str(tmp_path / "small.keras"),
        "--train",
        "all",
        "--epochs",
        "2",
        "--crop-fraction",
        "1",
        "--json",
    ]
    assert cli.main(["fit", str(table), *labels, "--out", str(tmp_path / "out"), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mean_average_precision"] > 0.6 and found["verification"]["largest_difference"] <= 1e-4
    model = keras.models.load_model(tmp_path / "out" / "runs" / "1" / "model.keras")
    assert not model.compiled and model.output_shape == (None, 3)
    assert cli.main(["export", str(tmp_path / "out"), "--precision", "bfloat16"]) == 0
    assert "bfloat16" in capsys.readouterr().out


def test_a_class_that_validation_lacks(tmp_path):
    table, _ = pictures(tmp_path, 60)
    lines = [line.split(",") for line in table.read_text().splitlines()]
    for number, line in enumerate(lines[1:]):
        line[2] = str(int(number in (3, 40)))  # two framed pictures: one to train, one to test
    table.write_text("\n".join(map(",".join, lines)))
    result = done(tmp_path, table, epochs=0)
    assert result.metrics["by_class"][1]["images"] == 1
    assert np.isfinite(result.metrics["mean_average_precision"])


def test_a_split_without_a_label_is_refused():
    labels, splits = ((), ("a",), ("a", "b"), ("b",), ("a",)), ("test", *("train",) * 4)
    catalog = Catalog(tuple(f"{number}.png" for number in range(5)), labels, splits, ("",) * 5, ("",) * 5)
    with pytest.raises(InputError, match=r"^Each split needs an image with a label\. Received: none for test\. Add"):
        catalog.check().split()
