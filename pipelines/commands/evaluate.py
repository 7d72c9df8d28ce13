"""`keras-cnn evaluate`: how good an exported version is on labelled images."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from pipelines.commands import data_options
from pipelines.errors import InputError
from pipelines.names import printable


def add_to(commands) -> None:
    """Add the subcommand to the ones of `argparse`."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure an exported version on labelled images",
        description="Where DATA have official splits, only the images of test are taken, otherwise all.",
    )
    evaluate.add_argument(
        "saved_model", metavar="SAVED_MODEL", help="a version, or the folder of versions for the highest"
    )
    data_options.add_to(evaluate)
    evaluate.add_argument("--trust", action="store_true", help="load it even if it may do more than compute")
    evaluate.add_argument("--json", action="store_true", help="print the result as JSON")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options):
    catalog = data_options.read(options)
    evaluation, unreadable, seen = measure(options.saved_model, catalog, options.trust)
    found = {
        **evaluation.figures(),
        "images": len(evaluation.targets),
        "unreadable": unreadable,
        "left_out": _left_out(catalog),
        "used_to_train": seen,
        "by_class": evaluation.by_class(),
    }
    for path, reason in list(found["left_out"].items())[:1]:
        count = len(found["left_out"])
        text = f"{count:,} {'file is' if count == 1 else 'files are'} left out, such as {path}: {reason}"
        print(f"keras-cnn evaluate: {printable(text)}", file=sys.stderr)
    if seen and any(seen["images"].values()):
        print(f"keras-cnn evaluate: {_warned(seen, found['images'])}", file=sys.stderr)
    print(json.dumps(found) if options.json else _told(found))


def _left_out(catalog):
    """Path and reason of the files that are no images, apart from tables and notes."""
    from pipelines.catalog.kinds import is_companion

    rows = zip(catalog.paths, catalog.reasons, strict=True)
    return {path: reason for path, reason in rows if reason and not is_companion(reason)}


def measure(saved_model, catalog, trust: bool = False):
    """How good a version is on the official test split of a catalog or, without one, on all of it.

    Args:
        saved_model: As in `pipelines.evaluation.prediction.predict`.
        catalog: A `Catalog`, with several labels an image if that is what the version gives. A class of the version that it
            does not know is one that no image has.
        trust: As in `pipelines.evaluation.prediction.predict`.

    Returns:
        The `Evaluation` or `MultiLabelEvaluation`; the paths of the images that cannot be read, which it does not count; and
        which images the version was trained on: "images", a dict from the splits of its run to paths, and
        "accuracy_on_others", None where there is no other. None instead if its run is not beside it.

    Raises:
        InputError: If the version gives one label an image and the data several, or the other way round, if it does not know a
            label, or there is no image to measure it on.
    """
    import numpy as np
    import tensorflow as tf

    from pipelines.evaluation import prediction
    from pipelines.evaluation.multi_label import MultiLabelEvaluation
    from pipelines.evaluation.single_label import Evaluation
    from pipelines.evaluation.training_images import trained_on

    serve, names = prediction.load(saved_model, trust), prediction.class_names(saved_model)
    several = prediction.is_multi_label(saved_model)
    if catalog.multi_label != several:
        known, received = ("several labels", "one") if several else ("one label", "several")
        remedy = "--label for each column of 0 and 1" if several else "one label column"
        raise InputError(f"The SavedModel gives {known} an image. Received data with {received}. Name {remedy}.")
    rows = catalog.used("test") if len(catalog.used("test")) else catalog.used()
    targets, known = _targets(catalog, rows, names), trained_on(prediction.version_in(saved_model))
    scores, readable, splits = [], [], []
    for start in range(0, len(rows), prediction.BATCH_SIZE):
        paths = [catalog.paths[row] for row in rows[start : start + prediction.BATCH_SIZE]]
        batch = tf.constant([prediction.content(path) for path in paths])
        answer = serve(image_bytes=batch)
        splits += known.splits(paths, batch) if known else []
        scores.append(answer["all_probabilities"].numpy())
        readable.append(answer["labels"].numpy()[:, 0] != b"")
    good = np.concatenate(readable) if len(rows) else np.zeros(0, bool)
    if not good.any():
        raise InputError(f"There must be images to measure on. Received: {len(rows)} files, and none can be read.")
    unreadable = [catalog.paths[row] for row in rows[~good]]
    kind = MultiLabelEvaluation if several else Evaluation
    evaluation = kind(np.concatenate(scores)[good], targets[good], names)
    paths = [catalog.paths[row] for row in rows[good]]
    return evaluation, unreadable, _seen(evaluation, paths, np.array(splits)[good]) if known else None


def _seen(evaluation, paths, splits):
    """Which of the images were used to train, and how good the version is on the others."""
    from pipelines.evaluation.training_images import SPLITS

    images = {split: [path for path, own in zip(paths, splits, strict=True) if own == split] for split in SPLITS}
    others = splits == ""
    rest = replace(evaluation, scores=evaluation.scores[others], targets=evaluation.targets[others])
    return {"images": images, "accuracy_on_others": rest.accuracy if others.any() else None}


def _warned(seen, images):
    counts = {split: len(paths) for split, paths in seen["images"].items()}
    used = sum(counts.values())
    by_split = ", ".join(f"{count} {split}" for split, count in counts.items())
    text = f"{used} of {images} images were used to train this version ({by_split})"
    if seen["accuracy_on_others"] is None:
        return f"{text}: the accuracy says nothing about new images."
    return f"{text}; accuracy on the other {images - used}: {100 * seen['accuracy_on_others']:.1f} %."


def _targets(catalog, rows, names):
    """As `Catalog.targets` gives them, with the class numbers of a version."""
    import numpy as np

    from keras_cnn.arguments import join_some

    numbers = {name: number for number, name in enumerate(names)}
    labels = [label if isinstance(label, tuple) else (label,) for label in (catalog.labels[row] for row in rows)]
    for row, own in zip(rows, labels, strict=True):
        unknown = [name for name in own if name not in numbers]
        if unknown:
            raise InputError(
                f"The labels must be classes of the SavedModel: {join_some(names, 10)}. Received: {unknown[0]!r} for "
                f"{catalog.paths[row]}. Rename or remove it."
            )
    if catalog.multi_label:
        return np.array([[name in own for name in names] for own in labels], int)
    return np.array([numbers[name] for (name,) in labels])


def _told(found):
    low, high = found["interval_95"]
    several = "mean_average_precision" in found
    lines = [f"mean average precision {_percent(found['mean_average_precision'])}"] if several else []
    lines += [
        f"{'every label right' if several else 'accuracy'} {100 * found['accuracy']:.1f} % of {found['images']} images "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
    ]
    if found["unreadable"]:
        lines.append(f"{len(found['unreadable'])} files cannot be read, such as {printable(found['unreadable'][0])}")
    lines += [
        f"{row['images']:7} images  recall {_percent(row['recall'])}  precision {_percent(row['precision'])}  "
        + (f"average precision {_percent(row['average_precision'])}  " if several else "")
        + printable(row["class"])
        for row in found["by_class"]
        if row["images"] or row["precision"] is not None
    ]
    return "\n".join(lines)


def _percent(share):
    return "      -" if share is None else f"{100 * share:5.1f} %"
