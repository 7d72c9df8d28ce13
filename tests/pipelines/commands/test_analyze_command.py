"""`keras-cnn analyze`: text, JSON and figure, and one sentence for each error."""

import argparse
import json
import zipfile

import keras
import pytest

from pipelines import cli
from pipelines.commands import analyze as analyze_command
from pipelines.errors import InputError


def run(*arguments):
    parser = argparse.ArgumentParser()
    analyze_command.add_to(parser.add_subparsers(required=True))
    options = parser.parse_args(["analyze", *map(str, arguments)])
    return options.run(options)


def test_a_backbone_as_text(capsys, monkeypatch):
    """Parameters of TensorFlow's EfficientNet-Lite0 without its classifier: 4,652,008 less 1,281,000, plus statistics."""
    monkeypatch.setenv("COLUMNS", "80")
    run("efficientnet_lite0")
    out = capsys.readouterr().out
    assert out.startswith("efficientnet_lite0, backbone without its head: 224 × 224 × 3 → 7 × 7 × 1280\n")
    assert "Parameters   3,413,024 (3,371,008 trainable)" in out and "MACs         384 M" in out
    assert 70 < max(map(len, out.splitlines())) <= 80


def test_a_network_of_keras_at_another_size_as_json(capsys):
    run("keras:MobileNet", "--input", "320x256", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["input_shape"] == [320, 256, 3] and found["backbone"] and found["sees_whole_input"] is False
    assert found["last_map"]["receptive_field"] == [{"size": 315, "stride": 32, "padding": 126}] * 2
    known = {found["inputs"][0]["id"], *(row["id"] for row in found["layers"])}
    assert len(known) == 1 + len(found["layers"]) and all(set(row["inputs"]) <= known for row in found["layers"])


def test_a_file_and_a_figure(tmp_path, capsys):
    inputs = keras.Input((None, None, 1))
    keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs), name="m").save(tmp_path / "m.keras")
    run(tmp_path / "m.keras", "--input", "9x8", "--plot", tmp_path / "m.png")
    assert "7 × 6 × 2" in capsys.readouterr().out and (tmp_path / "m.png").stat().st_size > 5000
    with pytest.raises(InputError, match=r"^--input must be sizes such as 224x224 or 224x224x1 for this model"):
        run(tmp_path / "m.keras", "--input", "9")
    with pytest.raises(
        InputError, match=r"^the model does not take an input of 9 × 9 × 3: 'conv' does not take a map of"
    ):
        run(tmp_path / "m.keras", "--input", "9x9x3")


LOAD = "MODEL must be a file that Keras can load. Received: "
SENTENCES = {
    "efficientnet_lite9": "Received: 'efficientnet_lite9'. Did you mean 'efficientnet_lite",
    "keras:ResNet5": "MODEL must be a network of keras.applications after \"keras:\". Received: 'keras:ResNet5'. Did you me",
    "none.keras": "MODEL must be an existing file. Received: none.keras, which does not exist.",
    "torn.keras": "MODEL must be a .keras file that Keras saved. Received: torn.keras, which is damaged.",
    "other.keras": f"{LOAD}other.keras (\"There is no item named 'config.json' in the archive\"). In Python, kc.analyze",
    "mine.keras": f"{LOAD}mine.keras (Could not locate class 'Mine'). In Python, kc.analyze takes any model that your own",
    "folder.keras": "MODEL must be a file such as my_model.keras. Received: folder.keras, which is a folder. A SavedModel",
    "photos/1": "Received: photos/1, which is a folder. Analyze photos/runs/1/model.keras.",
    "photos": "Received: photos, which is a folder. Analyze photos/runs/1/model.keras.",
    "two.keras --input 9x9": "--input is for models with one input. MODEL has 2; in Python, pass a list of shapes.",
    "efficientnet_lite0 --input big": "--input must be sizes joined by x, such as 320x320. Received: 'big'.",
    "efficientnet_lite0 --input 320x": "--input must be sizes joined by x, such as 320x320. Received: '320x'.",
    "efficientnet_lite0 --input 320": "--input must be height and width, such as 320x320, or these and channels. Receive",
    "efficientnet_lite0 --input 0x320": "--input must be sizes joined by x, such as 320x320. Received: '0x320'.",
    "none.keras --plot x.doc": "--plot must name a .png, .svg or .pdf file. Received: x.doc.",
    "none.keras --plot no/x.png": "--plot must name a file in a folder that exists and can be written to. Received: no/x.",
    "none.keras --plot folder.png": "--plot must name a file in a folder that exists and can be written to. Received: fo",
}


@pytest.fixture(scope="module")
def no_models(tmp_path_factory):
    """A folder with files that are no models."""
    directory = tmp_path_factory.mktemp("no_models")
    for folder in ("folder.keras", "folder.png", "photos/1", "photos/runs/1"):
        (directory / folder).mkdir(parents=True)
    (directory / "photos/runs/1/model.keras").touch()

    class Mine(keras.layers.Layer):
        """Known to this test only."""

    keras.Sequential([keras.Input((2,)), Mine()]).save(directory / "mine.keras")
    (directory / "torn.keras").write_bytes((directory / "mine.keras").read_bytes()[:200])
    with zipfile.ZipFile(directory / "other.keras", "w") as archive:
        archive.writestr("image.png", "?")
    pair = [keras.Input((4, 4, 1), name=name) for name in ("image", "mask")]
    keras.Model(pair, keras.layers.Multiply()(pair)).save(directory / "two.keras")
    return directory


@pytest.mark.parametrize("arguments", SENTENCES)
def test_errors_are_one_line(arguments, no_models, monkeypatch, capsys):
    monkeypatch.chdir(no_models)
    before = sorted(no_models.rglob("*"))
    assert cli.main(["analyze", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    # The error follows the name of the command, without names of Python functions and arguments.
    assert out == "" and err.startswith("keras-cnn analyze: ") and err.count("\n") == 1
    assert SENTENCES[arguments] in err and not any(word in err for word in ("analyze: analyze", "load_backbone", "`"))
    assert sorted(no_models.rglob("*")) == before
