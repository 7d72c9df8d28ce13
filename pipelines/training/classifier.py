"""The classifier that a job ends with: the fine-tuned network where it is clearly better, else the linear probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.datasets.array_cache import ArrayCache
from pipelines.progress import Progress
from pipelines.training.feature_extractor import FeatureExtractor, in_batches, inference
from pipelines.training.head import HeadFit, refit_head
from pipelines.training.restarts import FitResult

LINEAR_PROBE, FINE_TUNED = "linear_probe", "fine_tuned"


@dataclass(frozen=True)
class Classifier:
    """A trained network.

    Attributes:
        head: Its head as it was fitted; `head.model` holds the weights.
        fitted: What fine-tuning gave, None without fine-tuning.
        selected: "linear_probe" or "fine_tuned".
        validation_probabilities: `(images, classes)`; for a linear probe, computed before it was fitted to these images.
        validation: Validation scores: of `linear_probe`, and of `fine_tuned` if there was fine-tuning.
    """

    head: HeadFit
    fitted: FitResult | None
    selected: str
    validation_probabilities: np.ndarray
    validation: dict[str, dict[str, float]]

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

    Where the probe is selected, the network gets the weights back that it had before fine-tuning, and the probe is fitted to
    the validation images too.
    """
    scores, targets = {LINEAR_PROBE: head.score}, head.data.targets("validation")
    if fitted and fitted.improved:
        tuned = _validation_probabilities(head)
        scores[FINE_TUNED] = head.task.score(tuned, targets)
        if head.task.is_clearly_better(tuned, head.probabilities, targets):
            return Classifier(head, fitted, FINE_TUNED, tuned, scores)
    elif fitted:  # no epoch was better than the linear probe: the network is the probe again, but for rounding
        scores[FINE_TUNED] = fitted.best
    if fitted:
        head.model.set_weights(fitted.start_weights)
    refit_head(head, progress)
    return Classifier(head, fitted, LINEAR_PROBE, head.probabilities, scores)


def _validation_probabilities(head):
    if head.settings.trains_on_images:
        return _on_images(head, "validation")
    features = head.validation_features  # exact enough to select by
    return in_batches(inference(head.partition.rest, len(features)), features)


def _on_images(head, split, progress=lambda count: None):
    run, found = inference(head.model, len(head.data.indices(split))), []
    for batch, _ in head.data.batches(split)():
        found.append(run(batch))
        progress(len(batch))
    return np.concatenate(found)
