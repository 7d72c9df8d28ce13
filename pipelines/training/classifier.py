"""The classifier that a job ends with: the fine-tuned network where it is clearly better, else the linear probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from keras_cnn.training import LinearProbe
from pipelines.datasets.array_cache import ArrayCache
from pipelines.progress import Progress
from pipelines.training import class_prior
from pipelines.training.class_prior import Adjustment
from pipelines.training.decisions import Decision
from pipelines.training.feature_extractor import FeatureExtractor, in_batches, inference
from pipelines.training.head import HeadFit, set_probe
from pipelines.training.interpolation import COEFFICIENTS, MARGIN, best_coefficient, interpolate
from pipelines.training.refit import (
    PooledFeatures,
    features_of_probe,
    features_of_tuned,
    fit_again,
    fit_to_validation_too,
)
from pipelines.training.restarts import FitResult
from pipelines.training.size_after_training import SizeChoice, choose_size, takes_size, with_size
from pipelines.training.task import calibrated_loss, is_clear

LINEAR_PROBE, FINE_TUNED = "linear_probe", "fine_tuned"


@dataclass(frozen=True)
class Classifier:
    """A trained network.

    Attributes:
        head: Its head as it was fitted; `head.model` holds the weights.
        fitted: What fine-tuning gave, None without fine-tuning.
        selected: "linear_probe" or "fine_tuned".
        validation_probabilities: Of the images in `head.truth`, `(images, classes)`, from a network that did not learn from
            them.
        validation: Validation scores: of `linear_probe`, and of `fine_tuned` if there was fine-tuning.
        coefficient: The share of fine-tuning in the weights, as in `pipelines.training.interpolation`; 0 for a linear probe.
        adjustment: The shift of the logits that evens out uneven classes; None where they are even.
        gain: By how much the fine-tuned network is better, and the standard error; None where no epoch was better.
        head_losses: The losses of the fine-tuned network with its trained head and with one that was fitted again; None: not
            tried.
        size: The choice of the size of images after training; None: not tried.
    """

    head: HeadFit
    fitted: FitResult | None
    selected: str
    validation_probabilities: np.ndarray
    validation: dict[str, dict[str, float]]
    coefficient: float = 0.0
    gain: tuple[float, float] | None = None
    adjustment: Adjustment | None = None
    head_losses: tuple[float, float] | None = None
    size: SizeChoice | None = None

    @property
    def decisions(self) -> list[Decision]:
        """What the job has decided from the data, in order."""
        found = list(self.head.decisions)
        if self.fitted and self.fitted.race:
            head = self.head
            found += self.fitted.race.decisions(calibrated_loss(head.task, head.probabilities, head.truth))
        if FINE_TUNED in self.validation:
            found += self._selection()
        if self.size is not None:
            found.append(self.size.decision(self._judge))
        if self.adjustment is not None:
            found.append(self.adjustment.decision(self._judge))
        return found

    @property
    def _rule(self):
        if self.selected == FINE_TUNED:
            return ""
        if self.fitted.out_of_time and self.head.fold_of is not None:
            return "; the time limit ended the training on all images, which cross-validation stands for"
        return "; the simpler network wins without a clear gain"

    @property
    def has_learned_from_validation(self) -> bool:
        """Whether the network was fitted to the validation images too, at last."""
        of_probe = self.head.fold_of is not None or self.selected == LINEAR_PROBE
        return of_probe or self._head_fitted_again or self._has_other_size

    @property
    def _has_other_size(self):
        """Then the head is fitted to images of that size, whatever was better before."""
        return self.size is not None and self.size.chosen != self.size.sizes[0]

    @property
    def _head_fitted_again(self):
        return self.head_losses is not None and self.head_losses[1] < self.head_losses[0] - MARGIN

    @property
    def _judge(self):
        images = len(self.head.truth)
        return f"{images} validation images" if self.head.fold_of is None else f"cross-validation of {images} images"

    def _selection(self):
        """Which network, and why."""
        metric = self.head.task.primary_metric
        validation = {**self.validation, FINE_TUNED: self.size.score} if self._has_other_size else self.validation
        scores = [f"{100 * validation[name][metric]:.1f} %" for name in (FINE_TUNED, LINEAR_PROBE)]
        compared = f"{metric.replace('_', ' ')} {scores[0]} against {scores[1]} of the linear probe"
        gained = "" if self.gain is None else f", a gain of {100 * self.gain[0]:.1f} ± {100 * self.gain[1]:.1f} points"
        yield Decision("selected", self.selected, f"{compared}{gained} ({self._judge}){self._rule}")
        if self.selected == FINE_TUNED and self.coefficient < 1:
            reason = f"lower loss than with all of the change by fine-tuning ({self._judge})"
            yield Decision("fine_tuned_share", self.coefficient, reason)
        if self.selected == FINE_TUNED and self.head_losses and not self._has_other_size:
            trained, again = self.head_losses
            reason = (
                f"loss {again:.3g} fitted to the features after fine-tuning, {trained:.3g} as trained ({self._judge})"
            )
            yield Decision("head", "fitted again" if self._head_fitted_again else "as trained", reason)

    def test_probabilities(
        self, cache: ArrayCache, progress: Callable[[int], object] = lambda count: None
    ) -> np.ndarray:
        """Of the test images, `(images, classes)`, computed in float32; features are cached in float16 on the way.

        Args:
            cache: Where features are cached.
            progress: Called with the number of images done since the last call.
        """
        head, data = self.head, self.head.data
        if head.settings.trains_on_images:
            return _on_images(head, "test", progress)
        images = len(data.indices("test"))
        extractor = FeatureExtractor(head.partition.frozen, head.backbone, cache, images, exact=True)
        features = extractor.features(data.batches("test"), data.cache_key("test"), progress)
        return in_batches(inference(head.partition.rest, images), features)


def select(head: HeadFit, fitted: FitResult | None, progress: Progress) -> Classifier:
    """Choose between the linear probe and the fine-tuned network by validation.

    Where the probe is selected, the network gets the weights back that it had before fine-tuning. A head that is a linear
    probe is fitted to the validation images too, at last.
    """
    scores, gain = {LINEAR_PROBE: head.score}, None
    if fitted and (fitted.improved or head.fold_of is not None):
        tuned = _tune(head, fitted, progress)
        scores[FINE_TUNED] = head.task.score(tuned.probabilities, head.truth)
        gain = head.task.gain(tuned.probabilities, head.probabilities, head.truth)
        if fitted.improved and is_clear(*gain) and _knows_what_it_learned(head):
            if tuned.refit is not None:
                with progress.phase("Fitting the head again"):
                    set_probe(head.partition, fit_to_validation_too(head, *tuned.refit))
            return Classifier(
                *(head, fitted, FINE_TUNED, tuned.probabilities, scores, tuned.coefficient, gain),
                head_losses=tuned.head_losses,
            )
    elif fitted:  # no epoch was better than the linear probe: the network is the probe again, but for rounding
        scores[FINE_TUNED] = fitted.best
    if fitted:
        head.model.set_weights(fitted.start_weights)
    if head.fold_of is None:  # otherwise it is fitted to all images
        with progress.phase("Fitting the head again"):
            set_probe(head.partition, fit_to_validation_too(head, features_of_probe(head), head.probe))
    return Classifier(head, fitted, LINEAR_PROBE, head.probabilities, scores, gain=gain)


def at_other_size(classifier: Classifier, cache: ArrayCache, progress: Progress) -> Classifier:
    """A fine-tuned network on images of the test size, its head fitted to these, if that has a lower validation loss.

    Where the user gave the test size, it goes there in any case. A linear probe stays as it is, and so does a network that
    does not take other sizes.

    Args:
        classifier: The trained network.
        cache: Where decoded images are cached.
        progress: Shows how far it is.

    Raises:
        InputError: If an image cannot be read any more.
    """
    head, task, truth = classifier.head, classifier.head.task, classifier.head.truth
    given, size = head.settings.test_input_size, head.backbone.preprocessing.size
    other_size = choose_size(head.settings, size)
    if classifier.selected != FINE_TUNED or other_size == size or not takes_size(head.backbone, other_size):
        if given is None or size == (given, given):
            return classifier
        return replace(classifier, size=SizeChoice((size, (given, given)), None, {}, size, given=True))
    other = with_size(head, other_size, cache, progress)
    features = features_of_tuned(other, progress)
    with progress.phase("Fitting the head again"):
        probe, found = fit_again(other, features)
        losses = [calibrated_loss(task, each, truth) for each in (classifier.validation_probabilities, found)]
        stays = given is None and losses[1] >= losses[0] - MARGIN
        choice = SizeChoice(
            sizes=(size, other_size),
            losses=(losses[0], losses[1]),
            score=classifier.validation[FINE_TUNED],
            chosen=size if stays else other_size,
            given=given is not None,
        )
        if stays:
            return replace(classifier, size=choice)
        set_probe(other.partition, fit_to_validation_too(other, features, probe))
    validation = {**classifier.validation, FINE_TUNED: task.score(found, truth)}
    return replace(classifier, head=other, validation_probabilities=found, validation=validation, size=choice)


def even_out_classes(classifier: Classifier) -> Classifier:
    """The same classifier; of uneven classes with a shift of the logits, if that is better on the images that decide."""
    head = classifier.head
    if head.settings.class_balance is not None:
        return classifier
    found = head.task.adjustment(classifier.validation_probabilities, head.truth, head.targets)
    if found is None or not found.tau:
        return replace(classifier, adjustment=found)
    logits = head.model.get_layer("logits")
    kernel, bias = logits.get_weights()
    logits.set_weights([kernel, bias + found.bias])
    adjusted = class_prior.adjust(classifier.validation_probabilities, found.bias)
    return replace(classifier, adjustment=found, validation_probabilities=adjusted)


def _knows_what_it_learned(head: HeadFit) -> bool:
    """Whether a network that cross-validation stands for knows its own images as well as the probe knows images it never saw.

    It is trained once more, on all images, and nothing else would show that this one training went wrong.
    """
    if head.fold_of is None:
        return True
    known = in_batches(inference(head.partition.rest), head.copies[0])
    metric = head.task.primary_metric
    return head.task.score(known, head.targets)[metric] >= head.score[metric]


@dataclass(frozen=True)
class _Tuned:
    """The fine-tuned network at its best, which is in the model now.

    Attributes:
        probabilities: Of the images that decide.
        coefficient: The share of fine-tuning in its weights.
        head_losses: The loss with the head that was trained, and with one that is fitted again; None: not tried.
        refit: What that one was fitted to, and the head, where it is the better one.
    """

    probabilities: np.ndarray
    coefficient: float
    head_losses: tuple[float, float] | None = None
    refit: tuple[PooledFeatures, LinearProbe] | None = None


def _tune(head: HeadFit, fitted: FitResult, progress: Progress) -> _Tuned:
    """The fine-tuned network with the share of fine-tuning and with the head that are best on the images that decide."""
    end = head.model.get_weights()
    if head.fold_of is not None:  # the network has learned from all images; those of the race had not
        head.model.set_weights(interpolate(fitted.start_weights, end, fitted.race.coefficient))
        return _Tuned(fitted.race.probabilities, fitted.race.coefficient)
    if head.settings.trains_on_images:
        coefficient, found = 1.0, _on_images(head, "validation")
    else:
        coefficient, found = _interpolate(head, fitted, end)
    features = features_of_tuned(head, progress)
    with progress.phase("Fitting the head again"):
        probe, again = fit_again(head, features)
        trained_loss, loss = (calibrated_loss(head.task, each, head.truth) for each in (found, again))
        if loss >= trained_loss - MARGIN:
            return _Tuned(found, coefficient, (trained_loss, loss))
        set_probe(head.partition, probe)
        return _Tuned(again, coefficient, (trained_loss, loss), (features, probe))


def _interpolate(head, fitted, end):
    """The coefficient with the lowest loss, and what that network, which the model is now, gives for the validation images."""
    features = head.validation_features  # exact enough to select by
    run, found = inference(head.partition.rest), []
    for coefficient in COEFFICIENTS:
        head.model.set_weights(interpolate(fitted.start_weights, end, coefficient))
        found.append(in_batches(run, features))
    best = best_coefficient([calibrated_loss(head.task, each, head.truth) for each in found])
    head.model.set_weights(interpolate(fitted.start_weights, end, COEFFICIENTS[best]))
    return COEFFICIENTS[best], found[best]


def _on_images(head, split, progress=lambda count: None):
    run, found = inference(head.model, len(head.data.indices(split))), []
    for batch, _ in head.data.batches(split)():
        found.append(run(batch))
        progress(len(batch))
    return np.concatenate(found)
