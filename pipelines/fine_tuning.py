"""The main job: from labelled images to a fine-tuned network that TF Serving loads. Read `fine_tune` from top to bottom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

import keras_cnn as kc
from keras_cnn import heads, surgery
from keras_cnn.builder import attach
from keras_cnn.serving import publishing
from keras_cnn.training import solve_head
from pipelines import doctor, features, output, records, settings
from pipelines import input as inputs
from pipelines.cached import CachedBatches
from pipelines.catalog import Catalog
from pipelines.errors import InputError
from pipelines.evaluate import Evaluation
from pipelines.keep_best import KeepBest
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
    data,
    out,
    backbone="efficientnet_lite0",
    callbacks=(),
    *,
    weights="default",
    epochs=None,
    mirror=True,
    seed=0,
    progress=True,
) -> Result:
    """Fine-tune a pretrained network on labelled images and export it.

    Seeds Python, NumPy and TensorFlow by `seed`. A `keras_cnn.Backbone` that is given is trained in place.

    Args:
        data: A folder with a folder of images for each class, or a `Catalog`.
        out: The folder to write; a second job into it writes version 2.
        backbone: A handle of `keras_cnn.load_backbone`, or a `keras_cnn.Backbone`.
        callbacks: Keras callbacks for the part that trains with `model.fit`.
        weights: As in `keras_cnn.load_backbone`.
        epochs: Passes over the training images; None for a number that fits the data, 0 to solve the head only.
        mirror: Whether to learn from mirror images too. False where left and right matter: text, digits, traffic signs.
        seed: Of splits, order and dropout: the same data and seed give the same split.
        progress: Whether to show progress bars, on a terminal.

    Returns:
        A `Result`.

    Raises:
        InputError: If no classifier can be learned from the data, or `out` is not a folder for it. Nothing is written then.
    """
    output.check(out)
    catalog = data if isinstance(data, Catalog) else _from_folder(data, out)
    steps = Steps(visible=progress)
    with output.opened(out) as files, steps.shown():
        with steps.step("Loading the network"):
            network = _load(backbone, weights) if isinstance(backbone, str) else backbone
        with steps.step("Reading images", len(catalog.used())) as advance:
            catalog = doctor.leave_out_unreadable(catalog, network.preprocessing, advance).check().split(seed)
        chosen = settings.choose(network, len(catalog.used("train")), seed=seed, epochs=epochs, mirror=mirror)
        model, history, validation = _train(network, catalog, chosen, callbacks, steps, files.staging)
        with steps.step("Testing", len(catalog.used("test"))) as advance:
            evaluation = _test(model, catalog, network.preprocessing, advance)
        with steps.step("Exporting and verifying"):
            examples = (Path(catalog.paths[row]).read_bytes() for row in catalog.used("test")[:EXAMPLES_TO_VERIFY])
            proof = publishing.write(model, files.version, catalog.classes, network.preprocessing, examples)
        metrics = records.metrics(catalog, evaluation, validation, proof, steps.seconds)
        records.write(files.run, model, network, catalog, chosen, history, metrics)
        write_report(files.run, evaluation, catalog, network.preprocessing)
        run, export = files.publish()
    return Result(evaluation.accuracy, evaluation.interval, export, run, Path(out) / "report.html", metrics)


def _from_folder(data, out):
    if Path(out).resolve().is_relative_to(Path(data).resolve()) and Path(out).resolve() != Path(data).resolve():
        raise InputError(
            f"The output must not be inside the data, where it would be a class. Received: {out}. Name another."
        )
    return Catalog.from_folder(data)


def _load(handle, weights):
    try:
        return kc.load_backbone(handle, weights=weights)
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise InputError(str(error)) from None


def _train(network, catalog, chosen, callbacks, steps, folder):
    """The trained model, its history by epoch, and what validation said of the solved head and of the fine-tuned network."""
    keras.utils.set_random_seed(chosen.seed)
    classes = len(catalog.classes)
    model = attach(network.model, heads.classification(classes, dropout=chosen.dropout))
    kc.freeze(model)
    kc.unfreeze(model, from_=chosen.trained_from)
    front, rest = surgery.split(model, chosen.frozen_through)
    views = ("plain", "mirrored") if chosen.mirror else ("plain",)
    run_front, run_rest = features.inference(front), features.inference(rest)
    train = _activations(run_front, "train", catalog, network, steps, [folder / f"train_{view}.npy" for view in views])
    validation = _activations(run_front, "validation", catalog, network, steps, [folder / "validation.npy"])
    targets, truth = (catalog.targets(catalog.used(split)) for split in ("train", "validation"))
    with steps.step("Solving the head"):
        _solve(rest, train, targets, validation[0], truth, classes)
        scores = {"solved head": _score(run_rest, validation[0], truth)}
    if not chosen.epochs:
        return model, [], scores
    batches = CachedBatches(train, targets, chosen.batch_size, classes, chosen.seed)
    best = KeepBest(scores["solved head"])
    with steps.step("Fine-tuning", chosen.epochs * len(batches)) as advance, kc.check_frozen(model):
        callbacks = [best, EpochBar(advance), *callbacks]
        history = _fit(rest, batches, (validation[0].astype("float32"), np.eye(classes)[truth]), chosen, callbacks)
    return model, history, {**scores, "fine-tuned": best.best}


def _activations(run, split, catalog, network, steps, files):
    """The views of a split's images at the freeze boundary."""
    paths = [catalog.paths[row] for row in catalog.used(split)]
    with steps.step(f"Features of {split}", len(paths)) as advance:
        return features.compute(run, paths, network.preprocessing, advance, files)


def _solve(rest, train, targets, validation, truth, classes):
    """Put the solved head into the network."""
    pool = features.inference(surgery.split(rest, "pool")[0])
    pooled = np.concatenate([features.in_batches(pool, view) for view in train])
    head = solve_head(pooled, np.tile(targets, len(train)), classes, features.in_batches(pool, validation), truth)
    rest.get_layer("logits").set_weights([head.kernel, head.bias])


def _score(run, activations, truth):
    """Accuracy and loss (cross-entropy in nats) on activations."""
    scores = features.in_batches(run, activations)
    likelihood = scores[np.arange(len(truth)), truth]
    return {"accuracy": float((scores.argmax(1) == truth).mean()), "loss": float(-np.log(likelihood + 1e-12).mean())}


def _fit(rest, batches, validation, chosen, callbacks):
    """Train the later stages on the kept activations; one dict an epoch comes back."""
    total = chosen.epochs * len(batches)
    warm_up = round(chosen.warm_up * total)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, total - warm_up, warmup_target=chosen.learning_rate, warmup_steps=warm_up
    )
    rest.compile(
        keras.optimizers.AdamW(rate, weight_decay=chosen.weight_decay),
        keras.losses.CategoricalCrossentropy(label_smoothing=chosen.label_smoothing),
        metrics=["accuracy", keras.metrics.CategoricalCrossentropy(name="crossentropy")],
        jit_compile=False,  # on the CPU a compiled step is several times slower
    )
    history = rest.fit(
        batches,
        epochs=chosen.epochs,
        shuffle=False,  # the batches come shuffled
        validation_data=validation,
        callbacks=callbacks,
        verbose=0,
    ).history
    return [{name: float(values[epoch]) for name, values in history.items()} for epoch in range(len(history["loss"]))]


def _test(model, catalog, preprocessing, advance):
    """Evaluate the whole network on the files of the test split, which nothing before has looked at."""
    rows = catalog.used("test")
    run, scores = features.inference(model), []
    for batch in inputs.complete_batches([catalog.paths[row] for row in rows], preprocessing, features.BATCH_SIZE):
        scores.append(run(batch))
        advance(len(batch))
    return Evaluation(np.concatenate(scores), catalog.targets(rows), catalog.classes)
