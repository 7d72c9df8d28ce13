"""`keras-cnn export`: exports a trained network again, in another precision or for another server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pipelines.errors import InputError
from pipelines.names import printable

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
MAX_EXAMPLES = 500


def add_to(commands: Any) -> None:
    """Add the subcommand to the subparsers of `argparse`."""
    export = commands.add_parser(
        "export",
        help="export a network that `fit` trained again, as a new version, for example with smaller weights",
        description="Exports a network that `fit` trained again, as a new version. The new version must predict as the trained "
        "network does: it is compared on images of the run before it is published.",
    )
    export.add_argument(
        "run_folder",
        metavar="RUN",
        help="the run of the trained network, such as saved_models/photos/runs/1, or saved_models/photos for the last run",
    )
    export.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="number format of the convolutions; int8 stores weights in a quarter of the size (default: %(default)s)",
    )
    export.add_argument(
        "--max-accuracy-drop",
        type=_share,
        default=0.01,
        metavar="SHARE",
        help="how much accuracy another precision may cost, from 0 to 1; one wrong image is always allowed unless this is 0 "
        "(default: %(default)s)",
    )
    export.add_argument(
        "--out", metavar="DIR", help="the folder of versions to write to (default: the folder of versions of RUN)"
    )
    export.add_argument(
        "--warm-up-xla",
        action="store_true",
        help="have the server compile the network with XLA when it loads it; only for servers with a GPU, others refuse it",
    )
    export.add_argument("--json", action="store_true", help="print the result as JSON")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    import keras

    from keras_cnn import durable
    from keras_cnn.preprocessing import Preprocessing
    from keras_cnn.serving import VerificationError, export, model_card

    run = _find_run(options.run_folder)
    settings, metrics = _read_json(run / "settings.json"), _read_json(run / "metrics.json")
    split = "test" if metrics["judged"]["trained_on"] else "validation"
    examples, targets = _examples(run, split, metrics)
    if options.precision == "int8" and not examples:
        raise InputError(f"--precision int8 needs the {split} images of {run}, and none of them exists any more.")
    try:
        model = keras.models.load_model(run / "model.keras", compile=False)
        version = export(
            model,
            options.out or run.parent.parent,
            metrics["classes"],
            Preprocessing.from_dict(settings["preprocessing"]),
            warm_up_xla=options.warm_up_xla,
            precision=options.precision,
            temperature=metrics.get("temperature", 1.0),
            metadata={"accuracy": metrics["accuracy"], "run": run.name},
            examples=examples,
            targets=targets,
            max_accuracy_drop=options.max_accuracy_drop,
        )
    except VerificationError as error:
        print(f"keras-cnn export: {printable(error)}", file=sys.stderr)
        return 1
    except (ValueError, OSError, KeyError) as error:
        if durable.is_disk_full(error):
            raise
        raise InputError(str(error)) from None
    card = model_card.read(version)
    if options.json:
        print(json.dumps({"export": str(version), **card}))
    else:
        print(_format_text(version, card, split))
    return 0


def _find_run(name: str) -> Path:
    """The folder of a run; the last run if it is a folder of versions."""
    from keras_cnn.serving.layout import RUNS, highest_version

    path = Path(name)
    if not path.exists():
        raise InputError(f"The run {path} does not exist.")
    if not (path / "model.keras").is_file() and (highest := highest_version(path / RUNS)):
        path = path / RUNS / str(highest)
    if not (path / "model.keras").is_file():
        raise InputError(
            f"RUN must be a run that `keras-cnn fit` wrote, such as saved_models/photos/runs/1. Received: {path}."
        )
    return path.resolve()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The run has no readable {file.name}: {error}.") from None


def _examples(run: Path, split: str, metrics: dict[str, Any]) -> tuple[list[Path], list[Any]]:
    """Paths and targets of the images of a split that still exist, at most about `MAX_EXAMPLES`."""
    from pipelines.catalog.csv_and_parquet import LABEL_PREFIX, saved_rows

    classes = metrics["classes"]
    rows = [row for row in saved_rows(run / "catalog.csv") if row["split"] == split and Path(row["path"]).is_file()]
    rows = rows[:: -(-len(rows) // MAX_EXAMPLES) or 1]
    if metrics["task"] == "multi_label":
        targets = [[int(row[LABEL_PREFIX + name]) for name in classes] for row in rows]
    else:
        targets = [classes.index(row["label"]) for row in rows]
    return [Path(row["path"]) for row in rows], targets


def _format_text(version: Path, card: dict[str, Any], split: str) -> str:
    measured = card["verification"]
    differences = ", ".join(f"{name} {value:.1e}" for name, value in measured["differences"].items())
    text = f"{version}: {card['precision']}, {measured['images']} images, largest difference of each signature: {differences}"
    for name in {"accuracy", "mean_average_precision"} & measured.keys():
        text += (
            f"\n{name.replace('_', ' ')} on the {split} images {measured[name]:.4f}, of the trained network "
            f"{measured[f'{name}_before']:.4f}; same prediction for {100 * measured['agreement']:.1f} %; differences: median "
            f"{measured['median_difference']:.1e}, 99 % within {measured['percentile_99_difference']:.1e}"
        )
    return text


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to less than 1. Received: {text}")
    return value
