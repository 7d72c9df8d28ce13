"""The main job: from labelled images to a fine-tuned network that TF Serving loads. Read `fine_tune` from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_cnn as kc
from keras_cnn.serving import publishing
from keras_cnn.training import calibration
from pipelines import defaults, device, doctor, settings
from pipelines.catalog import Catalog, open_data
from pipelines.datasets.array_cache import ArrayCache
from pipelines.doctor import Duplicates, Finding, Images
from pipelines.errors import InputError
from pipelines.progress import Progress
from pipelines.recipes import within_a_time_limit
from pipelines.report import write_report
from pipelines.runs import output_folder, records
from pipelines.training import job_state
from pipelines.training.classifier import at_other_size, even_out_classes, select
from pipelines.training.decisions import Decision
from pipelines.training.fitting import fit
from pipelines.training.head import HeadFit, fit_head
from pipelines.training.plan import Counts, Plan, make_plan
from pipelines.training.pretrained import load_network
from pipelines.training.restarts import FitResult
from pipelines.training.size_after_training import check_input_size
from pipelines.training.speed import measure_speed
from pipelines.training.split_images import SplitImages
from pipelines.training.task import Evaluation, task_for

EXAMPLES_TO_VERIFY = 16
IN_METRICS = 20  # sets of files per finding


@dataclass(frozen=True)
class Result:
    """What a job gave.

    Attributes:
        accuracy: Share of the test images that are classified correctly; with several labels per image, all labels.
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
    metrics: dict[str, Any]


@settings.with_setting_keywords
def fine_tune(
    data: str | Path | Catalog,
    out: str | Path,
    backbone: str | Path | kc.Backbone = "efficientnet_lite0",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    weights: str | None = "default",
    input_range: tuple[float, float] | None = None,
    size: int | None = None,
    crop_fraction: float | None = None,
    restart: bool = False,
    progress: bool = True,
    **overrides: Any,
) -> Result:
    """Fine-tune a pretrained network on labelled images and export it.

    When a job was interrupted while it trained, the same call resumes it; it ends with bit-for-bit the same weights (on a
    CPU, unless `callbacks` have a state of their own that changes training). Seeds Python, NumPy and TensorFlow. A
    `keras_cnn.Backbone` is trained in place.

    Args:
        data: A folder with one folder of images per class, a table (`Catalog.from_csv`), or a `Catalog`, which may have
            several labels per image.
        out: The folder to write; a second job into it writes version 2.
        backbone: A handle of `keras_cnn.load_backbone`, or a `keras_cnn.Backbone`.
        callbacks: Keras callbacks for the part that trains with `model.fit`. Their model has the weights of the network, but
            not its layers: batch norms are part of convolutions (`keras_cnn.fold_frozen`), and it cannot be saved.
        weights: As in `keras_cnn.load_backbone`.
        input_range: As in `keras_cnn.load_backbone`: (0, 1), (-1, 1) or (0, 255), for a `.keras` file that was trained on
            such values and does not scale images itself. None: as the origin of the handle says. For handles.
        size: Height and width of the network's input in pixels; None: as pretrained. For handles.
        crop_fraction: Share of height and width, from the centre of the image, that the network sees. None: 7/8, or with
            few images the better of 7/8 and 1 on validation.
        restart: Whether to discard what an interrupted job has left, instead of resuming it.
        progress: Whether to show progress bars, on a terminal.
        {settings}

    Returns:
        A `Result`.

    Raises:
        InputError: If no classifier can be trained on the data, an option is out of range, `out` is not a folder for it, or
            holds an unfinished job with other settings. Nothing is written then.
        FrozenWeightsError: If a frozen weight has changed in training, as a callback may do.
        TrainingError: If memory does not suffice for a batch of this size, features are not finite, or a disk is full.
        TypeError: If there is no such setting.
    """
    settings.check_names(overrides)
    output_folder.check(out)
    catalog = data if isinstance(data, Catalog) else open_data(data, out)
    seed = 0 if overrides.get("seed") is None else overrides["seed"]
    started, phases, cache = time.monotonic(), Progress(visible=progress), ArrayCache()
    with output_folder.open_output(out) as files, phases.shown():
        planned = {} if restart else job_state.planned(out, overrides, files.interrupted)
        with phases.phase("Loading the network"):
            network = load_network(backbone, weights, size, input_range)
        # Both refuse before the work.
        choose_settings(network, catalog, len(catalog.included()), overrides)
        check_input_size(network, overrides)
        networks = with_crop_fractions(network, defaults.crop_fractions(len(catalog.included()), crop_fraction))
        catalog, images, duplicates = read_and_split(networks[0], catalog, seed, cache, phases)
        findings = doctor.examine(catalog, images, duplicates, network.preprocessing.size)
        tried = within_a_time_limit(overrides) if overrides.get("time_limit") and not planned else [{}]
        plan = plan_job(networks, catalog, images, {**overrides, **planned}, tried, phases, started)
        overrides = {**overrides, **planned, **(plan.overrides if plan else {})}
        heads = [fit_head_on(each, catalog, images, overrides, cache, phases) for each in networks]
        head = min(heads, key=lambda each: each.score["loss"])  # with few images accuracy is mostly chance
        if not restart and (paths := files.already_published(head.description)):  # killed after that
            return _result(out, *paths)
        fitted = None
        if head.settings.epochs:
            try:
                state = job_state.open_or_create(out, head.description, restart)
                fitted = fit(head, state, cache, phases, callbacks, plan.training_ends if plan else None)
            except kc.training.FrozenWeightsError:  # not what was asked for: nothing to resume
                job_state.remove(out)
                raise
        classifier = at_other_size(select(head, fitted, phases), cache, phases)
        classifier = even_out_classes(classifier)
        head, catalog = classifier.head, classifier.head.data.catalog
        with phases.phase("Testing", len(catalog.included("test"))) as advance:
            temperature = calibration.fit_temperature(classifier.validation_probabilities, head.truth)
            tested = classifier.test_probabilities(cache, advance)
            tested = calibration.calibrated(tested, temperature, independent=catalog.multi_label)
            evaluation = head.task.evaluation(tested, head.data.targets("test"), catalog.classes)
        with phases.phase("Exporting and verifying"):
            contents = (
                Path(catalog.paths[index]).read_bytes() for index in catalog.included("test")[:EXAMPLES_TO_VERIFY]
            )
            proof = publishing.write(
                head.model,
                files.version,
                catalog.classes,
                head.backbone.preprocessing,
                contents,
                temperature=temperature,
                metadata={**evaluation.metrics(), "data": head.data.images.key},
            )
        decisions = [*time_decisions(plan, fitted), *crop_decision(heads, head)]
        metrics = records.metrics(classifier, evaluation, temperature, proof, phases.seconds, decisions)
        metrics |= leak_report(evaluation, catalog, duplicates, findings)
        records.write(files.run, classifier, evaluation, metrics)
        write_report(files.run)
        # A job that trains the head only has left nothing unfinished, but another one may have.
        paths = files.publish(head.description, remove_checkpoints=bool(head.settings.epochs))
    return _result(out, *paths)


def choose_settings(
    network: kc.Backbone, catalog: Catalog, training_images: int, overrides: dict[str, Any]
) -> settings.Settings:
    """The settings for a network and so many training images.

    Raises:
        InputError: If an option is out of range.
    """
    machine = {"gpu": device.has_gpu(), "bfloat16": device.has_bfloat16()}
    try:
        return defaults.choose(
            network,
            max(1, training_images),
            multi_label=catalog.multi_label,
            classes=len(catalog.classes),
            **machine,
            **overrides,
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def with_crop_fractions(network: kc.Backbone, crop_fractions: Sequence[float]) -> list[kc.Backbone]:
    """The network once per crop fraction.

    Raises:
        InputError: If one is out of range.
    """
    try:
        return [
            replace(network, preprocessing=replace(network.preprocessing, crop_fraction=crop_fraction))
            for crop_fraction in crop_fractions
        ]
    except ValueError as error:
        raise InputError(str(error)) from None


def read_and_split(
    network: kc.Backbone, catalog: Catalog, seed: int, cache: ArrayCache, phases: Progress
) -> tuple[Catalog, Images, Duplicates]:
    """The catalog with splits and without files that cannot be read; its images, and which of them are duplicates."""
    with phases.phase("Reading images", len(catalog.included())) as advance:
        catalog, images = doctor.read(catalog, network.preprocessing, cache, advance)
        duplicates = doctor.find_duplicates(images)
        return doctor.group_duplicates(catalog.check(), duplicates).split(seed), images, duplicates


def plan_job(
    networks: Sequence[kc.Backbone],
    catalog: Catalog,
    images: Images,
    overrides: dict[str, Any],
    tried: Sequence[dict[str, Any]],
    phases: Progress,
    started: float,
) -> Plan | None:
    """What the job will do: without a time limit what the settings say. None where nobody reads it, or memory does not suffice.

    Args:
        networks: The network, once per crop fraction.
        catalog: With splits.
        images: Its images.
        overrides: Settings by name.
        tried: More settings, to choose one from: the best first.
        phases: Shows the plan.
        started: When the job began, in seconds of `time.monotonic`.
    """
    limit = overrides.get("time_limit")
    if limit is None and not phases.visible:
        return None
    network, data = networks[0], SplitImages(catalog, images, networks[0].preprocessing)
    task, learned = task_for(catalog), len(data.indices("train"))
    with phases.phase("Measuring the speed"):
        candidates = [(each, choose_settings(network, catalog, learned, {**overrides, **each})) for each in tried]
        some, _ = next(iter(data.batches("train")()))
        chosen = [settings for _, settings in candidates]
        speed = measure_speed(network, task.head(chosen[0].dropout), some.numpy(), chosen, learned)
    reading = phases.seconds["Reading images"] / max(1, len(catalog.included()))
    splits = {split: len(data.indices(split)) for split in ("train", "validation", "test")}
    counts = Counts(
        **splits,
        classes=len(catalog.classes),
        features=network.model.output_shape[-1],
        reading=reading,
        crops=len(networks),
        size=network.preprocessing.size,
    )
    plan = make_plan(candidates, counts, speed, limit and limit - (time.monotonic() - started))
    if not math.isfinite(plan.total):  # not even a small batch fits into memory, as training will say
        return None
    phases.report(plan.to_text())
    phases.expect(plan.seconds)
    return plan


def fit_head_on(
    network: kc.Backbone,
    catalog: Catalog,
    images: Images,
    overrides: dict[str, Any],
    cache: ArrayCache,
    phases: Progress,
) -> HeadFit:
    """A head on a network, fitted to images; they are read again where the network sees another part of them."""
    if images.preprocessing != network.preprocessing:
        with phases.phase("Reading images", len(catalog.included())) as advance:
            catalog, images = doctor.read(catalog, network.preprocessing, cache, advance)
    chosen = choose_settings(network, catalog, len(catalog.included("train")), overrides)
    keras.utils.set_random_seed(chosen.seed)
    return fit_head(network, SplitImages(catalog, images, network.preprocessing), chosen, cache, phases)


def time_decisions(plan: Plan | None, fitted: FitResult | None) -> list[Decision]:
    """What a time limit has decided: the plan, and the end of training if that came earlier than planned."""
    if plan is None or plan.limit is None:
        return []
    found = [plan.decision()]
    if fitted and fitted.out_of_time:
        epoch, planned = len(fitted.history), plan.settings.epochs
        found.append(Decision("epochs", epoch, f"the time limit ended training in epoch {epoch} of {planned}"))
    return found


def crop_decision(heads: Sequence[HeadFit], chosen: HeadFit) -> list[Decision]:
    """The choice of the crop fraction, if there was one."""
    if len(heads) < 2:
        return []
    losses = {each.backbone.preprocessing.crop_fraction: each.score["loss"] for each in heads}
    listed = ", ".join(f"{loss:.3g} at {fraction:g}" for fraction, loss in losses.items())
    return [
        Decision("crop_fraction", chosen.backbone.preprocessing.crop_fraction, f"loss of the linear probe: {listed}")
    ]


def leak_report(
    evaluation: Evaluation, catalog: Catalog, duplicates: Duplicates, findings: Sequence[Finding]
) -> dict[str, Any]:
    """What to know beside the accuracy: what the doctor found, and the accuracy without test images that leaked."""
    found: dict[str, Any] = {"findings": [finding.to_dict(IN_METRICS) for finding in findings]}
    clean = ~np.isin(catalog.included("test"), doctor.cross_split_test_images(catalog, duplicates))
    if clean.any() and not clean.all():
        rest = replace(evaluation, probabilities=evaluation.probabilities[clean], targets=evaluation.targets[clean])
        found["accuracy_without_leaks"] = rest.accuracy
    return found


def _result(out, run: Path, export: Path) -> Result:
    metrics = records.read_metrics(run)
    low, high = metrics["interval_95"]
    return Result(metrics["accuracy"], (low, high), export, run, Path(out) / "report.html", metrics)
