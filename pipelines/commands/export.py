"""`keras-cnn export`: another version of a network that a job has trained, in another precision or for another server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipelines.errors import InputError
from pipelines.names import printable

MOST_EXAMPLES = 500


def add_to(commands) -> None:
    """Add the subcommand to the ones of `argparse`."""
    export = commands.add_parser("export", help="write another version of a network that `fit` has trained")
    export.add_argument(
        "trained", metavar="RUN", help="such as saved_models/photos/runs/1; saved_models/photos for the last"
    )
    export.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="of the convolutions: float32, bfloat16, float16 or int8 (default: %(default)s)",
    )
    export.add_argument(
        "--max-accuracy-drop",
        type=_share,
        default=0.01,
        metavar="SHARE",
        help="of the images it is judged on that another precision may cost, or one if that is more (default: %(default)s)",
    )
    export.add_argument("--out", metavar="DIR", help="the folder of versions (default: the one that RUN is in)")
    export.add_argument(
        "--warm-up-xla",
        action="store_true",
        help="let servers compile for their GPU when they load it; others refuse it",
    )
    export.add_argument("--json", action="store_true", help="print the result as JSON")
    export.set_defaults(run=_export)


def _export(options):
    import keras

    from keras_cnn import durable
    from keras_cnn.preprocessing import Preprocessing
    from keras_cnn.serving import PRECISIONS, VerificationError, export, model_card

    if options.precision not in PRECISIONS:
        names = ", ".join(PRECISIONS)
        raise InputError(f"--precision must be one of {names}. Received: {options.precision}.")
    run = _run(options.trained)
    settings, metrics = _read(run / "settings.json"), _read(run / "metrics.json")
    # A solved head learns from the validation images too, at the end.
    split = "validation" if metrics["kept"] == "fine-tuned" else "test"
    examples, targets = _examples(run, split, metrics)
    if options.precision == "int8" and not examples:
        raise InputError(f"--precision int8 needs the {split} images of {run}, and none of them is there any more.")
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
    about = model_card.read(version)
    if options.json:
        print(json.dumps({"export": str(version), **about}))
    else:
        print(_told(version, about, split))
    return 0


def _run(path):
    """The folder of a run, the last one if `path` is a folder of versions."""
    from keras_cnn.serving.layout import RUNS, highest_version

    path = Path(path)
    if not path.exists():
        raise InputError(f"The run {path} does not exist.")
    if not (path / "model.keras").is_file() and (highest := highest_version(path / RUNS)):
        path = path / RUNS / str(highest)
    if not (path / "model.keras").is_file():
        raise InputError(
            f"RUN must be a run that `keras-cnn fit` wrote, such as saved_models/photos/runs/1. Received: {path}."
        )
    return path.resolve()


def _read(file):
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The run holds no {file.name} that can be read: {error}.") from None


def _examples(run, split, metrics):
    """Paths of the images of a split that are still there, and their class numbers, or with several labels rows of 0 and 1."""
    from pipelines.catalog.csv_and_parquet import saved_rows

    classes = metrics["classes"]
    rows = [row for row in saved_rows(run / "catalog.csv") if row["split"] == split and Path(row["path"]).is_file()]
    rows = rows[:: -(-len(rows) // MOST_EXAMPLES) or 1]
    if "mean_average_precision" in metrics:
        targets = [[int(row[f"label:{name}"]) for name in classes] for row in rows]
    else:
        targets = [classes.index(row["label"]) for row in rows]
    return [Path(row["path"]) for row in rows], targets


def _told(version, about, split):
    measured = about["verification"]
    differences = ", ".join(f"{name} {value:.1e}" for name, value in measured["differences"].items())
    text = f"{version}: {about['precision']}, {measured['images']} images, largest differences: {differences}"
    for name in {"accuracy", "mean_average_precision"} & measured.keys():
        text += (
            f"\n{name.replace('_', ' ')} on the {split} images {measured[name]:.4f}, of the network itself "
            f"{measured[f'{name}_before']:.4f}; same answer for {100 * measured['agreement']:.1f} %; differences: median "
            f"{measured['median_difference']:.1e}, 99 % within {measured['percentile_99_difference']:.1e}"
        )
    return text


def _share(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to less than 1. Received: {text}")
    return value
