"""`keras-cnn analyze`: what a person and a program get, and what it says of wrong use."""

import argparse
import json

import keras
import pytest

from pipelines import analyze_command
from pipelines.errors import InputError


def run(*arguments):
    parser = argparse.ArgumentParser()
    analyze_command.add_to(parser.add_subparsers(required=True))
    options = parser.parse_args(["analyze", *map(str, arguments)])
    return options.run(options)


def test_a_backbone_as_text(capsys):
    """Parameters as TensorFlow's EfficientNet-Lite0 without its classifier: 4,652,008 less 1,281,000, plus statistics."""
    run("efficientnet_lite0")
    out = capsys.readouterr().out
    assert "Parameters   3,413,024 (3,371,008 trainable)" in out and "MACs         384 M" in out


def test_a_network_of_keras_at_another_size_as_json(capsys):
    run("keras:MobileNet", "--input", "320x256", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["input_shape"] == [320, 256, 3] and found["layers"][-1]["sees_whole_input"]
    convolutions = [row for row in found["layers"] if row["kind"] == "DepthwiseConv2D"]
    assert convolutions[-1]["receptive_field"] == [{"size": 315, "stride": 32, "padding": 126}] * 2


def test_a_file_and_a_picture(tmp_path, capsys):
    inputs = keras.Input((None, None, 1))
    keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs), name="m").save(tmp_path / "m.keras")
    run(tmp_path / "m.keras", "--input", "9x8", "--plot", tmp_path / "m.png")
    assert "7 × 6 × 2" in capsys.readouterr().out and (tmp_path / "m.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["keras:ResNet5"],
            "MODEL must be a network of keras.applications after 'keras:'. Received: ResNet5. There are: ",
        ),
        (
            ["resnet"],
            "Received: handle='resnet'. Files end in .keras; keras:ResNet50 is a network of keras.applications.",
        ),
        (["none.keras"], "MODEL must be an existing file. Received: none.keras, which does not exist."),
        (["broken.keras"], "MODEL must be a model that Keras can load. Received: broken.keras ("),
        (["keras:MobileNet", "--input", "big"], "--input must be sizes such as 320x320. Received: big."),
        (["keras:MobileNet", "--input", "320"], "analyze: `input_shape` must be of the rank of the model's own"),
        (["keras:MobileNet", "--plot", "x.doc"], "--plot must name a .png, .svg or .pdf file. Received: x.doc."),
        (
            ["keras:MobileNet", "--plot", "no/x.png"],
            "--plot must name a file in an existing folder. Received: no/x.png.",
        ),
    ],
)
def test_wrong_use_is_one_line(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.keras").write_bytes(b"?")
    with pytest.raises(InputError) as error:
        run(*arguments)
    assert str(error.value).startswith(sentence) or sentence in str(error.value)
    assert "\n" not in str(error.value)
