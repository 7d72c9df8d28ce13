"""Every default of a job, as a pure function of the data and the backbone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from keras_cnn import Backbone, surgery


@dataclass(frozen=True)
class Settings:
    """What a job does, in numbers.

    Attributes:
        frozen_through: Name of the last stage that is left as it was pretrained; its activations are computed once.
        trained_from: Name of the stage after it, the first one that is trained; "pool" where that is the head.
        epochs: Passes over the training images while what is behind is trained; 0 leaves the solved head as it is.
        batch_size: Images a step.
        learning_rate: Peak of AdamW's rate: reached after `warm_up` of all steps, falling to zero along a cosine.
        warm_up: Share of all steps.
        weight_decay: AdamW's, decoupled.
        label_smoothing: Share of the truth that is spread over all classes.
        dropout: Share of the pooled features dropped in training.
        mirror: Whether a mirrored picture is as good an example as the picture itself.
        seed: Of splits, order and dropout.
    """

    frozen_through: str
    trained_from: str
    epochs: int
    batch_size: int
    learning_rate: float
    warm_up: float
    weight_decay: float
    label_smoothing: float
    dropout: float
    mirror: bool
    seed: int

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def choose(backbone: Backbone, training_images: int, seed: int = 0, epochs: int | None = None, mirror=True) -> Settings:
    """The defaults: all but the last stage frozen, about 1,500 steps but 5 to 12 epochs, gentle where there is little data.

    A network that cannot be taken apart before its last stage (a module of TF Hub, which is one stage; NASNet, whose paths
    run beside each other) stays frozen as a whole. Its head is solved then, and 0 epochs remain.

    Args:
        backbone: The network; its last stage is the one that is trained.
        training_images: Number of images in the training split.
        seed: Of splits, order and dropout.
        epochs: To overrule the number of epochs.
        mirror: Whether a mirrored picture is as good an example as the picture itself.
    """
    batch_size = 32
    steps_an_epoch = math.ceil(training_images / batch_size)
    stages = [stage.name for stage in backbone.stages]
    divided = len(stages) > 1 and surgery.divides(backbone.model, stages[-2])
    frozen_through, trained_from = stages[-2:] if divided else (stages[-1], "pool")
    if epochs is None:
        epochs = min(12, max(5, 1500 // steps_an_epoch)) if divided else 0
    return Settings(
        frozen_through=frozen_through,
        trained_from=trained_from,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=1e-4 if training_images < 500 else 3e-4,
        warm_up=0.1,
        weight_decay=0.02,
        label_smoothing=0.1,
        dropout=0.2,
        mirror=mirror,
        seed=seed,
    )
