"""`keras-cnn analyze`: receptive field, parameters and cost of each layer of a network."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from pipelines.errors import InputError

Size = tuple[int, ...] | None

FILES = (".keras", ".h5")
MIN_WIDTH = 60


def add_to(commands: Any) -> None:
    """Add the subcommand to the subparsers of `argparse`."""
    analyze = commands.add_parser(
        "analyze",
        help="print receptive field, parameters and cost of each layer of a network",
        description="Prints receptive field, parameters and cost of each layer of a network. No weights are downloaded.",
    )
    analyze.add_argument(
        "model",
        metavar="MODEL",
        help="a file such as my_model.keras, or a backbone such as efficientnet_lite0 or keras:ResNet50, which is analyzed "
        "without its classification head",
    )
    analyze.add_argument(
        "--input",
        metavar="SIZE",
        help="height and width of the input in pixels, such as 320x320, or with channels, 320x320x1 (default: the model's)",
    )
    analyze.add_argument("--json", action="store_true", help="print the result as JSON")
    analyze.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the network, and how receptive field and cost grow, to FILE: .png, .svg or .pdf",
    )
    analyze.set_defaults(run=_analyze)


def _analyze(options: argparse.Namespace) -> None:
    from keras_cnn.analysis import analyze
    from keras_cnn.analysis.drawing.figure_file import expected_file

    if options.plot and (expected := expected_file(options.plot)):
        raise InputError(f"--plot must name {expected}. Received: {options.plot}.")
    size = _parse_size(options.input)
    if Path(options.model).is_file() or (Path(options.model).suffix in FILES and ":" not in options.model):
        model = _load_file(Path(options.model))
        shape = _input_shape(model, size, options.input)
    else:
        model, shape = _load_backbone(options.model, size, options.input), None
    try:
        analysis = analyze(model, shape)
    except ValueError as error:
        raise InputError(str(error).removeprefix("analyze: ")) from None
    if options.plot:
        analysis.plot(options.plot)
    if options.json:
        print(json.dumps(analysis.to_dict()))
    else:
        print(analysis.to_text(width=max(MIN_WIDTH, shutil.get_terminal_size((120, 24)).columns)))


def _parse_size(text: str | None) -> Size:
    """The numbers of a size such as 320x320; None for None."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--input must be sizes joined by x, such as 320x320. Received: {text!r}.")
    return tuple(map(int, parts))


def _load_backbone(handle: str, size: Size, text: str | None) -> Any:
    """A backbone with random weights: the analysis does not depend on them, so none are downloaded."""
    from keras_cnn import load_backbone

    if size and len(size) not in (2, 3):
        raise InputError(
            f"--input must be height and width, such as 320x320, or these and channels. Received: {text!r}."
        )
    shape = size and (*size, 3)[:3]
    try:
        return load_backbone(handle, shape, weights="default" if handle.startswith("hub:") else None)
    except (ValueError, OSError) as error:
        _refuse_folder(Path(handle))
        # Replace names of Python arguments by those of the command line.
        sentence = re.sub(r"^\w+: ", "", str(error)).replace("handle=", "")
        raise InputError(sentence.replace("`handle`", "MODEL").replace("`input_shape`", "--input")) from None


def _load_file(path: Path) -> Any:
    import keras

    _refuse_folder(path)
    if not path.exists():
        raise InputError(f"MODEL must be an existing file. Received: {path}, which does not exist.")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise InputError(f"MODEL must be a .keras file that Keras saved. Received: {path}, which is damaged.")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a file may contain anything, and Keras raises all kinds of errors
        reason = " ".join(str(error).rpartition("Exception encountered: ")[2].split()).partition(". ")[0].rstrip(".")
        raise InputError(
            f"MODEL must be a file that Keras can load. Received: {path} ({reason}). In Python, kc.analyze takes any model "
            "that your own code can load."
        ) from None


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        runs = sorted(path.glob("runs/*/model.keras"), key=lambda file: file.stat().st_mtime)
        of_version = path.parent / "runs" / path.name / "model.keras"
        found = [file for file in (of_version, path / "model.keras", *runs[-1:]) if file.exists()]
        remedy = f"Analyze {found[0]}." if found else "A SavedModel has no layers: analyze the .keras file."
        raise InputError(f"MODEL must be a file such as my_model.keras. Received: {path}, which is a folder. {remedy}")


def _input_shape(model: Any, size: Size, text: str | None) -> tuple | None:
    """The model's input shape with the sides of `size`, and with its channels if there are any in `size`."""
    import keras

    from keras_cnn.analysis.model_inputs import built_shapes

    if not model.built:
        raise InputError(
            f"MODEL must be built. Received: {model.name}, which has no weights yet. Build it before you save it."
        )
    shapes = built_shapes(model)
    if size is None and not shapes:
        raise InputError("--input is required, such as 224x224x3: MODEL does not define the shape of its input.")
    if size is None or not shapes:
        return size
    if len(shapes) > 1:
        raise InputError(
            f"--input is for models with one input. MODEL has {len(shapes)}; in Python, pass a list of shapes."
        )
    if len(size) == len(shapes[0]):
        return size
    if len(size) != len(shapes[0]) - 1:
        *sides, channels = (str(side or 224) for side in shapes[0])
        examples = f"{'x'.join(sides)} or {'x'.join((*sides, channels))}"
        raise InputError(f"--input must be sizes such as {examples} for this model. Received: {text!r}.")
    channels_first = keras.config.image_data_format() == "channels_first"
    return (shapes[0][0], *size) if channels_first else (*size, shapes[0][-1])
