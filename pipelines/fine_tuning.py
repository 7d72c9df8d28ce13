"""The main job: from labelled images to a fine-tuned network that TF Serving loads. Read `fine_tune` from top to bottom."""

from __future__ import annotations

import csv
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

import keras
import numpy as np

import keras_cnn as kc
from keras_cnn import heads, surgery
from keras_cnn.builder import attach
from keras_cnn.serving import publishing
from keras_cnn.training import solve_head
from pipelines import doctor, features, output, settings
from pipelines import input as inputs
from pipelines.cached import CachedBatches
from pipelines.catalog import Catalog
from pipelines.errors import InputError
from pipelines.evaluate import Evaluation
from pipelines.progress import EpochBar, Steps
from pipelines.report import write_report

EXAMPLES_TO_VERIFY = 16


@dataclass(frozen=True)
class Result:
    """What a job gave.

    Attributes:
        accuracy: Share of the test images that are classified rightly.
        interval: Its 95 % interval.
        export: Path of the version that TF Serving loads.
        run: Path of the run's records.
        report: Path of the HTML report.
        metrics: All that is in the run's `metrics.json`.
    """

    accuracy: float
    interval: tuple[float, float]
    export: Path
    run: Path
    report: Path
    metrics: dict


def fine_tune(
    data, out, backbone="efficientnet_lite0", callbacks=(), *, weights="default", epochs=None, seed=0, progress=True
):
    """Fine-tune a pretrained network on labelled images and export it.

    Seeds Python, NumPy and TensorFlow by `seed`. A `keras_cnn.Backbone` that is given is trained in place.

    Args:
        data: A folder with a folder of images for each class, or a `Catalog`.
        out: The folder to write; a second job into it writes version 2.
        backbone: A handle of `keras_cnn.load_backbone`, or a `keras_cnn.Backbone`.
        callbacks: Keras callbacks for the part that trains with `model.fit`.
        weights: As in `keras_cnn.load_backbone`.
        epochs: Passes over the training images; None for a number that fits the data, 0 to solve the head only.
        seed: Of splits, order and dropout: the same data and seed give the same split.
        progress: Whether to show progress bars.

    Returns:
        A `Result`.

    Raises:
        InputError: If no classifier can be learned from the data, or `out` is not a folder for it. Nothing is written then.
    """
    output.check(out)
    catalog = data if isinstance(data, Catalog) else _from_folder(data, out)
    steps = Steps(visible=progress)
    with steps.shown():
        with steps.step("Loading the network"):
            network = _load(backbone, weights) if isinstance(backbone, str) else backbone
        with steps.step("Reading images", len(catalog.used())) as advance:
            catalog = doctor.leave_out_unreadable(catalog, network.preprocessing, advance).check().split(seed)
        chosen = settings.choose(network, len(catalog.used("train")), seed=seed, epochs=epochs)
        with output.opened(out) as files:
            model, history, validation = _train(network, catalog, chosen, callbacks, steps)
            with steps.step("Testing", len(catalog.used("test"))) as advance:
                evaluation = _test(model, catalog, network.preprocessing, advance)
            with steps.step("Exporting and verifying"):
                proof = publishing.write(
                    model, files.version, catalog.classes, network.preprocessing, _contents(catalog)
                )
            metrics = _metrics(catalog, evaluation, validation, proof, steps.seconds)
            _record(files.run, model, network, catalog, chosen, history, metrics)
            write_report(files.run, evaluation, catalog, network.preprocessing)
            run, export = files.publish()
    return Result(evaluation.accuracy, evaluation.interval, export, run, Path(out) / "report.html", metrics)


def _from_folder(data, out):
    if Path(out).resolve().is_relative_to(Path(data).resolve()):
        raise InputError(
            f"The output must not be inside the data, where it would be a class. Received: {out}. Name another folder."
        )
    return Catalog.from_folder(data)


def _load(handle, weights):
    try:
        return kc.load_backbone(handle, weights=weights)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from None


def _train(network, catalog, chosen, callbacks, steps):
    """The trained model, its history by epoch, and what validation said of the solved head and of the fine-tuned network."""
    keras.utils.set_random_seed(chosen.seed)
    model = attach(network.model, heads.classification(len(catalog.classes), dropout=chosen.dropout))
    kc.freeze(model)
    kc.unfreeze(model, from_=chosen.trained_from)
    front, rest = surgery.split(model, chosen.frozen_through)
    run = features.inference(front)
    train = _activations("train", run, catalog, network.preprocessing, steps, mirror=chosen.mirror)
    (validation,) = _activations("validation", run, catalog, network.preprocessing, steps)
    targets = {split: catalog.targets(catalog.used(split)) for split in ("train", "validation")}
    with steps.step("Solving the head"):
        _solve(rest, train, targets["train"], validation, targets["validation"], len(catalog.classes))
    run_rest = features.inference(rest)
    found = {"solved head": _score(run_rest, validation, targets["validation"])}
    history = []
    if chosen.epochs:
        solved = rest.get_weights()
        batches = CachedBatches(train, targets["train"], chosen.batch_size, len(catalog.classes), chosen.seed)
        with steps.step("Fine-tuning", chosen.epochs * len(batches)) as advance, kc.check_frozen(model):
            history = _fit(rest, batches, validation, targets["validation"], chosen, [EpochBar(advance), *callbacks])
        found["fine-tuned"] = _score(run_rest, validation, targets["validation"])
        if _best(found) == "solved head":
            rest.set_weights(solved)
    return model, history, found


def _activations(split, run, catalog, preprocessing, steps, mirror=False):
    """The views of a split's images at the freeze boundary: as they are, and mirrored."""
    paths = [catalog.paths[row] for row in catalog.used(split)]
    views = (False, True) if mirror else (False,)
    with steps.step(f"Features of {split}", len(paths) * len(views)) as advance:
        return [features.compute(run, paths, preprocessing, advance, mirror=view) for view in views]


def _solve(rest, train, train_targets, validation, validation_targets, classes):
    """Put the solved head into the network."""
    pool, _ = surgery.split(rest, "pool")
    run = features.inference(pool)
    pooled = np.concatenate([features.predict(run, view) for view in train])
    targets = np.tile(train_targets, len(train))
    head = solve_head(pooled, targets, classes, features.predict(run, validation), validation_targets)
    rest.get_layer("logits").set_weights([head.kernel, head.bias])


def _fit(rest, batches, validation, validation_targets, chosen, callbacks):
    """Train the later stages on the kept activations; the best epoch on validation stays. One dict an epoch comes back."""
    total = chosen.epochs * len(batches)
    warm_up = round(chosen.warm_up * total)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, total - warm_up, warmup_target=chosen.learning_rate, warmup_steps=warm_up
    )
    rest.compile(
        keras.optimizers.AdamW(rate, weight_decay=chosen.weight_decay),
        keras.losses.CategoricalCrossentropy(label_smoothing=chosen.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # on the CPU a compiled step is several times slower
    )
    best = keras.callbacks.EarlyStopping("val_loss", patience=chosen.epochs, restore_best_weights=True)
    history = rest.fit(
        batches,
        epochs=chosen.epochs,
        shuffle=False,  # the batches come shuffled
        validation_data=(validation.astype("float32"), np.eye(rest.output_shape[-1])[validation_targets]),
        callbacks=[best, *callbacks],
        verbose=0,
    ).history
    return [{name: float(values[epoch]) for name, values in history.items()} for epoch in range(len(history["loss"]))]


def _score(run, activations, targets):
    """Accuracy and loss (cross-entropy in nats) on activations."""
    scores = features.predict(run, activations)
    likelihood = scores[np.arange(len(targets)), targets]
    return {"accuracy": float((scores.argmax(1) == targets).mean()), "loss": float(-np.log(likelihood + 1e-12).mean())}


def _best(validation):
    return max(validation, key=lambda name: (validation[name]["accuracy"], -validation[name]["loss"]))


def _test(model, catalog, preprocessing, advance):
    """Evaluate the whole network on the files of the test split, which nothing before has looked at."""
    rows = catalog.used("test")
    run, scores = features.inference(model), []
    for _, images in inputs.batches([catalog.paths[row] for row in rows], preprocessing, features.BATCH_SIZE):
        scores.append(run(images))
        advance(len(images))
    return Evaluation(np.concatenate(scores), catalog.targets(rows), catalog.classes)


def _contents(catalog):
    return [Path(catalog.paths[row]).read_bytes() for row in catalog.used("test")[:EXAMPLES_TO_VERIFY]]


def _metrics(catalog, evaluation, validation, proof, seconds):
    return {
        "accuracy": evaluation.accuracy,
        "interval_95": evaluation.interval,
        "classes": list(catalog.classes),
        "images": {split: len(catalog.used(split)) for split in ("train", "validation", "test")},
        "left_out": sum(bool(reason) for reason in catalog.reasons),
        "kept": _best(validation),
        "validation": validation,
        "by_class": evaluation.by_class(),
        "verification": {"images": proof.images, "largest_difference": proof.difference},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def _record(run, model, network, catalog, chosen, history, metrics):
    """Write what the run was and gave, as files that other programs read."""
    versions = {name: installed_version(name) for name in ("tensorflow", "keras", "keras-cnn")}
    about = {
        **chosen.to_dict(),
        "backbone": network.model.name,
        "weights": network.source,
        "preprocessing": network.preprocessing.to_dict(),
        "versions": {"python": platform.python_version(), **versions},
    }
    for name, content in (("settings.json", about), ("metrics.json", metrics)):
        (run / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    catalog.to_csv(run / "catalog.csv")
    with open(run / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *(history[0] if history else ())])
        writer.writeheader()
        writer.writerows({"epoch": number, **row} for number, row in enumerate(history, 1))
    model.save(run / "model.keras")
