"""`keras-cnn analyze`: what a network sees and costs, on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pipelines.errors import InputError


def add_to(commands) -> None:
    """Add the subcommand to the ones of `argparse`."""
    analyze = commands.add_parser("analyze", help="receptive field, parameters and cost of each layer of a network")
    analyze.add_argument(
        "model",
        metavar="MODEL",
        help="a backbone such as efficientnet_lite0, a file such as my_model.keras, or keras:ResNet50 and the others of "
        "keras.applications",
    )
    analyze.add_argument(
        "--input", metavar="SIZE", help="input such as 320x320, or 320x320x1 (default: the model's own)"
    )
    analyze.add_argument("--json", action="store_true", help="print the result as JSON")
    analyze.add_argument("--plot", metavar="FILE", help="draw the network to FILE, .png, .svg or .pdf")
    analyze.set_defaults(run=_analyze)


def _analyze(options):
    from keras_cnn.analysis import analyze

    size = _size(options.input)
    if options.plot and Path(options.plot).suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot must name a .png, .svg or .pdf file. Received: {options.plot}.")
    if options.plot and not Path(options.plot).absolute().parent.is_dir():
        raise InputError(f"--plot must name a file in an existing folder. Received: {options.plot}.")
    model = _load(options.model)
    try:
        analysis = analyze(model, size and _input_shape(model, size))
    except ValueError as error:
        raise InputError(str(error)) from None
    if options.plot:
        analysis.plot(options.plot)
    if options.json:
        print(json.dumps(analysis.to_dict()))
    else:
        print(analysis.to_text(width=max(100, shutil.get_terminal_size((120, 24)).columns)))


def _size(text):
    """Sides, and channels if there is a third number; None for None."""
    parts = text.lower().split("x") if text else []
    if text and not (1 <= len(parts) <= 4 and all(part.isdigit() and int(part) > 0 for part in parts)):
        raise InputError(f"--input must be sizes such as 320x320. Received: {text}.")
    return tuple(map(int, parts)) or None


def _input_shape(model, size):
    """The model's input shape with other sides; its channels stay if `size` has none."""
    import keras

    shapes = [x.shape[1:] for x in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or len(size) != len(shapes[0]) - 1:
        return size
    first = keras.config.image_data_format() == "channels_first"
    return (shapes[0][0], *size) if first else (*size, shapes[0][-1])


def _load(handle):
    import keras

    from keras_cnn import load_backbone

    if handle.startswith("keras:"):
        return _application(handle.removeprefix("keras:"))
    if handle.endswith(".keras"):
        if not Path(handle).is_file():
            raise InputError(f"MODEL must be an existing file. Received: {handle}, which does not exist.")
        try:
            return keras.models.load_model(handle, compile=False)
        except (ValueError, TypeError, OSError) as error:
            raise InputError(f"MODEL must be a model that Keras can load. Received: {handle} ({error}).") from None
    try:
        return load_backbone(handle, weights=None).model
    except ValueError as error:
        remedy = "Files end in .keras; keras:ResNet50 is a network of keras.applications."
        raise InputError(f"{error} {remedy}") from None


def _application(name):
    """A network of `keras.applications` with random weights: they matter to nothing here."""
    import keras

    make = getattr(keras.applications, name, None)
    if not callable(make):
        known = ", ".join(sorted(one for one, value in vars(keras.applications).items() if callable(value)))
        raise InputError(
            f"MODEL must be a network of keras.applications after 'keras:'. Received: {name}. There are: {known}."
        )
    return make(weights=None)
