"""The main job: from labelled images to a fine-tuned network that TF Serving loads. Read `fine_tune` from top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import keras_cnn as kc
from keras_cnn.serving import publishing
from keras_cnn.training import calibration
from pipelines import device, doctor, settings
from pipelines.catalog import Catalog, open_data
from pipelines.datasets.array_cache import Cache
from pipelines.errors import InputError
from pipelines.progress import Steps
from pipelines.report import write_report
from pipelines.runs import output_folder, records
from pipelines.training import job_state
from pipelines.training.learning import SOLVED, Learning
from pipelines.training.pretrained import load_network

EXAMPLES_TO_VERIFY = 16
IN_METRICS = 20  # sets of files of a finding


@dataclass(frozen=True)
class Result:
    """What a job gave.

    Attributes:
        accuracy: Share of the test images that are classified rightly: of several labels an image, each one.
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
    input_range=None,
    size=None,
    crop=None,
    train=None,
    epochs=None,
    seed=0,
    restart=False,
    progress=True,
    **overruled,
) -> Result:
    """Fine-tune a pretrained network on labelled images and export it.

    A job that was interrupted while it trained goes on where it was when it is started again with the same data and
    settings, and ends with the same weights to the bit (on a CPU). Seeds Python, NumPy and TensorFlow by `seed`. A
    `keras_cnn.Backbone` that is given is trained in place.

    Args:
        data: A folder with a folder of images for each class, a table (`Catalog.from_csv`), or a `Catalog`, which may have
            several labels an image.
        out: The folder to write; a second job into it writes version 2.
        backbone: A handle of `keras_cnn.load_backbone`, or a `keras_cnn.Backbone`.
        callbacks: Keras callbacks for the part that trains with `model.fit`. Their model has the weights of the network, but
            not its layers: batch norms are part of convolutions (`keras_cnn.fold_frozen`), and it cannot be saved.
        weights: As in `keras_cnn.load_backbone`.
        input_range: As in `keras_cnn.load_backbone`: (0, 1), (-1, 1) or (0, 255), for a `.keras` file that was trained on
            such values and does not scale images itself. None: what the handle's origin says. For handles.
        size: Height and width of the network's input in pixels; None for the one it was pretrained with. For handles.
        crop: Share of height and width, the middle of the picture, that the network sees; None for
            7/8, or with few images for what validation says.
        train: "head", "last" (the last stage too), the name of a stage (it and all behind it), "all" (the whole network);
            None for what fits the data and the machine: see `pipelines.settings.choose`.
        epochs: Passes over the training images; None for a number that fits the data, 0 to solve the head only.
        seed: Of splits, order, views and dropout: the same data and seed give the same split.
        restart: Whether to drop what an interrupted job has left, instead of going on with it.
        progress: Whether to show progress bars, on a terminal.
        overruled: Other values for attributes of `pipelines.settings.Settings`, such as `batch_size`, `learning_rate`,
            `mirror` (False where left and right matter: text, digits, traffic signs), `augmentation`, `layer_decay`,
            `views`, `average`, `patience`, `depthwise`, `mixed_precision`; None leaves the default.

    Returns:
        A `Result`.

    Raises:
        InputError: If no classifier can be learned from the data, an option is out of range, `out` is not a folder for it, or
            holds an unfinished job with other settings. Nothing is written then.
        TrainingError: If memory does not suffice to train by a batch of this size, or a disk is full.
    """
    _check_names(overruled)
    output_folder.check(out)
    catalog = data if isinstance(data, Catalog) else open_data(data, out)
    steps, cache = Steps(visible=progress), Cache()
    with output_folder.opened(out) as files, steps.shown():
        with steps.step("Loading the network"):
            network = load_network(backbone, weights, size, input_range)
        options = {"train": train, "epochs": epochs, "seed": seed, "multi_label": catalog.multi_label, **overruled}
        _chosen(network, max(1, len(catalog.used())), options)  # what is out of range is told before the work
        networks = _cropped(network, settings.crops(len(catalog.used()), crop))
        catalog, images, likeness = _examined(networks[0], catalog, seed, cache, steps)
        findings = doctor.examine(catalog, images, likeness, network.preprocessing.size)
        learning = min((_solved(one, catalog, images, options, cache, steps) for one in networks), key=_loss)
        network, catalog = learning.network, learning.catalog
        if not restart and (paths := files.published(learning.description)):  # it was killed after that
            return _result(out, *paths, records.read_metrics(paths[0]))
        if learning.chosen.epochs:
            try:
                learning.train(job_state.opened(out, learning.description, restart), callbacks)
            except kc.training.FrozenWeightsError:  # what was trained is not what was asked for: nothing to resume
                job_state.remove(out)
                raise
        with steps.step("Testing", len(catalog.used("test")) + len(catalog.used("validation"))) as advance:
            scores = {split: learning.scores(split, advance) for split in ("test", "validation")}
            temperature = calibration.fit_temperature(scores["validation"], learning.truth("validation"))
            scores = calibration.calibrated(scores["test"], temperature, independent=catalog.multi_label)
            evaluation = learning.objective.evaluation(scores, learning.truth("test"), catalog.classes)
        with steps.step("Exporting and verifying"):
            contents = (Path(catalog.paths[row]).read_bytes() for row in catalog.used("test")[:EXAMPLES_TO_VERIFY])
            about = {**evaluation.figures(), "data": learning.images.key}
            proof = publishing.write(
                learning.model,
                files.version,
                catalog.classes,
                network.preprocessing,
                contents,
                temperature=temperature,
                metadata=about,
            )
        metrics = records.metrics(
            catalog, evaluation, learning.validation, learning.selected, temperature, proof, steps.seconds
        )
        metrics["restarts"] = [restart.to_dict() for restart in learning.restarts]
        metrics |= _honest(evaluation, catalog, likeness, findings)
        records.write(files.run, learning, metrics)
        write_report(files.run, evaluation, catalog, network.preprocessing, learning.sheet)
        # A job of the head alone has left nothing unfinished, but another one may have.
        paths = files.publish(learning.description, unfinished=bool(learning.chosen.epochs))
    return _result(out, *paths, metrics)


def _result(out, run, export, metrics):
    interval = tuple(metrics["interval_95"])
    return Result(metrics["accuracy"], interval, export, run, Path(out) / "report.html", metrics)


def _check_names(overruled):
    unknown = [name for name in overruled if name not in settings.OVERRULED]
    if unknown:
        known = ", ".join(settings.OVERRULED)
        raise TypeError(f"fine_tune: a setting must be one of {known}. Received: {unknown[0]}.")


def _cropped(network, shares):
    """The network once for each share of height and width that it is to see."""
    try:
        return [replace(network, preprocessing=replace(network.preprocessing, crop_fraction=share)) for share in shares]
    except ValueError as error:
        raise InputError(str(error)) from None


def _examined(network, catalog, seed, cache, steps):
    """The catalog without files that cannot be read and with splits; its images, and which of them are the same."""
    with steps.step("Reading images", len(catalog.used())) as advance:
        catalog, images = doctor.read(catalog, network.preprocessing, cache, advance)
        likeness = doctor.likeness(images)
        return doctor.held_together(catalog.check(), likeness).split(seed), images, likeness


def _solved(network, catalog, images, options, cache, steps):
    """A network with its head solved."""
    if images.preprocessing != network.preprocessing:
        with steps.step("Reading images", len(catalog.used())) as advance:
            catalog, images = doctor.read(catalog, network.preprocessing, cache, advance)
    chosen = _chosen(network, len(catalog.used("train")), options)
    learning = Learning(network, catalog, images, chosen, cache, steps)
    learning.solve()
    return learning


def _chosen(network, training_images, options):
    try:
        machine = {"gpu": device.has_gpu(), "bfloat16": device.has_bfloat16()}
        return settings.choose(network, training_images, **machine, **options)
    except ValueError as error:
        raise InputError(str(error)) from None


def _honest(evaluation, catalog, likeness, findings):
    """What is to be known beside the accuracy: what the doctor found, and the accuracy without leaks into test."""
    told = {"findings": [finding.to_dict(IN_METRICS) for finding in findings]}
    clean = ~np.isin(catalog.used("test"), doctor.leaked(catalog, likeness))
    if clean.any() and not clean.all():
        rest = replace(evaluation, scores=evaluation.scores[clean], targets=evaluation.targets[clean])
        told["accuracy_without_leaks"] = rest.accuracy
    return told


def _loss(learning):
    return learning.validation[SOLVED]["loss"]  # with few images the accuracy is mostly chance
