"""The classifier that a job ends with: the fine-tuned network where it is clearly better, else the linear probe."""

from __future__ import annotations

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
        validation_probabilities: `(images, classes)`; of a linear probe those from before it learned from these images.
    """

    head: HeadFit
    fitted: FitResult | None
    selected: str
    validation_probabilities: np.ndarray

    @property
    def validation(self) -> dict[str, dict[str, float]]:
        """The validation scores of the linear probe, and of the fine-tuned network if there is one."""
        tuned = {} if self.fitted is None else {FINE_TUNED: self.fitted.best}
        return {LINEAR_PROBE: self.head.score, **tuned}

    def test_probabilities(self, cache: ArrayCache, progress=lambda count: None) -> np.ndarray:
        """Of the test images, `(images, classes)`, all computed in float32.

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
    if fitted:
        tuned = _validation_probabilities(head)
        if head.task.is_clearly_better(tuned, head.probabilities, head.data.targets("validation")):
            return Classifier(head, fitted, FINE_TUNED, tuned)
        head.model.set_weights(fitted.start_weights)
    refit_head(head, progress)
    return Classifier(head, fitted, LINEAR_PROBE, head.probabilities)


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
