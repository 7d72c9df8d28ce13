"""The recipe of timm's training script for EfficientNets, with its parts: AdamW, cosine, RandAugment, mixup, EMA.

From the commands in timm's documentation: `--aa rand-m9-mstd0.5 --reprob 0.2 --remode pixel --drop 0.2 --model-ema`; and
what the script has for fine-tuning: `--opt adamw --weight-decay 0.05 --layer-decay 0.75 --mixup 0.2 --smoothing 0.1
--model-ema-warmup`. The average of the weights is validated and tested.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import timm
import torch
import torch_lite0
from job import MEAN, STD, Job, Record, epochs_within
from timm.data import Mixup, create_transform
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3, random_seed

LEARNING_RATE = 1e-3  # of the head; each layer before it has LAYER_DECAY of the next one's
LAYER_DECAY = 0.75
WEIGHT_DECAY = 0.05
DROPOUT = 0.2
WARMUP_FRACTION = 0.1
EMA_DECAY = 0.9998


class TrainingImages(torch.utils.data.Dataset):
    """Augmented training images, read from their files."""

    def __init__(self, job: Job):
        self.examples = [(job.paths[row], job.labels[row]) for row in job.rows("train")]
        self.transform = create_transform(
            (3, job.size, job.size),
            is_training=True,
            auto_augment="rand-m9-mstd0.5",
            re_prob=0.2,
            re_mode="pixel",
            mean=[MEAN / 255] * 3,
            std=[STD / 255] * 3,
        )

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.examples[index]
        return self.transform(torch_lite0.open_image(path)), label


class MixedBatches:
    """Batches of training images after mixup, with soft targets."""

    def __init__(self, job: Job):
        size = torch_lite0.batch_size(job)
        self._loader = torch.utils.data.DataLoader(TrainingImages(job), size, shuffle=True, drop_last=True)
        self._mixup = Mixup(mixup_alpha=0.2, label_smoothing=0.1, num_classes=len(job.classes))
        self.images = size * len(self._loader)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return itertools.starmap(self._mixup, self._loader)


def train(
    network: torch.nn.Module, batches: MixedBatches, loss: torch.nn.Module, epochs: int
) -> Iterator[torch.nn.Module]:
    """Train, and give the network with averaged weights after each epoch."""
    steps = epochs * len(batches)
    optimizer = create_optimizer_v2(
        network, opt="adamw", lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, layer_decay=LAYER_DECAY
    )
    schedule = CosineLRScheduler(optimizer, steps, warmup_t=round(WARMUP_FRACTION * steps), t_in_epochs=False)
    average = ModelEmaV3(network, decay=EMA_DECAY, use_warmup=True)
    step = 0
    for _ in range(epochs):
        network.train()
        for images, targets in batches:
            loss(network(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            schedule.step_update(step)
            average.update(network, step=step)
        yield average.module


def main() -> None:
    """Train within the seconds of the job, and test."""
    job = Job.load()
    random_seed(job.seed)
    network = timm.create_model(torch_lite0.ARCHITECTURE, num_classes=len(job.classes), drop_rate=DROPOUT)
    torch_lite0.load_weights(network, job)
    batches, loss = MixedBatches(job), SoftTargetCrossEntropy()
    images, labels = job.images("validation")
    record = Record()
    per_epoch = torch_lite0.seconds_per_epoch(network, batches, loss, images)
    random_seed(job.seed)
    start = record.seconds()
    epochs = epochs_within(job.seconds - start, per_epoch)
    for average in train(network, batches, loss, epochs):
        record.validated((torch_lite0.predict(average, images) == labels).mean())
    record.trained(epochs, batches.images, start)
    images, labels = job.images("test")
    correct = int((torch_lite0.predict(average, images) == labels).sum())
    record.write(job, correct, ("timm", "torch"))


if __name__ == "__main__":
    main()
