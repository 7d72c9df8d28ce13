"""fastai's `vision_learner` and `fine_tune`: a frozen epoch, then all layers with discriminative rates and one cycle.

Data as in its course: a resize of each image, then `aug_transforms` of the batch. The resize squashes, as that of all
contenders does, and leaves room for the crop.
"""

from __future__ import annotations

import numpy as np
import torch_lite0
from fastai.vision.all import (
    Callback,
    CrossEntropyLossFlat,
    DataLoader,
    DataLoaders,
    Datasets,
    IntToFloatTensor,
    Normalize,
    PILImage,
    Resize,
    TensorCategory,
    TensorImage,
    TfmdDL,
    ToTensor,
    accuracy,
    aug_transforms,
    set_seed,
    vision_learner,
)
from job import MEAN, STD, Job, Record, epochs_within

PRESIZE = 4 / 3  # of the size, before the crop
MIN_SCALE = 0.75  # smallest area of the crop
FROZEN_EPOCHS = 1


class Validations(Callback):
    """Records the validation accuracy after each epoch."""

    order = 60  # after the recorder

    def __init__(self, record: Record):
        self.record = record

    def after_epoch(self) -> None:
        self.record.validated(self.recorder.values[-1][-1])


def training_batches(job: Job) -> TfmdDL:
    """Augmented training images, read from their files."""
    rows = job.rows("train")
    images = [lambda row: PILImage.create(np.asarray(torch_lite0.open_image(job.paths[row])))]
    targets = [lambda row: TensorCategory(job.labels[row])]
    mean, std = ([value / 255] * 3 for value in (MEAN, STD))
    augmentation = aug_transforms(size=job.size, min_scale=MIN_SCALE)
    return TfmdDL(
        Datasets(rows, [images, targets]),
        bs=torch_lite0.batch_size(job),
        shuffle=True,
        drop_last=True,
        num_workers=0,
        after_item=[Resize(round(PRESIZE * job.size), method="squash"), ToTensor()],
        after_batch=[IntToFloatTensor(), *augmentation, Normalize.from_stats(mean, std, cuda=False)],
    )


def validation_batches(job: Job) -> DataLoader:
    """The validation images as all contenders see them."""
    images, labels = job.images("validation")
    pairs = list(zip(map(TensorImage, torch_lite0.normalised(images)), map(TensorCategory, labels), strict=True))
    return DataLoader(pairs, bs=64, num_workers=0)


def main() -> None:
    """Train within the seconds of the job, and test."""
    job = Job.load()
    set_seed(job.seed)
    batches = training_batches(job)
    learner = vision_learner(
        DataLoaders(batches, validation_batches(job)),
        torch_lite0.ARCHITECTURE,
        pretrained=False,  # the weights of the job follow
        normalize=False,  # the batches are
        n_out=len(job.classes),
        loss_func=CrossEntropyLossFlat(),
        metrics=accuracy,
        path=job.folder,
    )
    torch_lite0.load_weights(learner.model[0].model, job)
    record = Record()
    per_epoch = torch_lite0.seconds_per_epoch(learner.model, batches, learner.loss_func, job.images("validation")[0])
    set_seed(job.seed)
    start = record.seconds()
    epochs = max(1, epochs_within(job.seconds - start, per_epoch) - FROZEN_EPOCHS)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs, freeze_epochs=FROZEN_EPOCHS, cbs=Validations(record))
    record.trained(epochs + FROZEN_EPOCHS, len(batches) * batches.bs, start)
    images, labels = job.images("test")
    correct = int((torch_lite0.predict(learner.model, images) == labels).sum())
    record.write(job, correct, ("fastai", "timm", "torch"))


if __name__ == "__main__":
    main()
