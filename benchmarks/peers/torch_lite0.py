"""What the contenders on PyTorch share: the network's weights, batches of arrays, and how long an epoch takes."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from job import BATCH_SIZE, CHECKED, MEAN, STD, Job
from lite0 import for_timm
from PIL import Image, ImageOps

ARCHITECTURE = "tf_efficientnet_lite0"  # the name in timm
WARMUP_STEPS, TIMED_STEPS = 2, 4
TIMED_IMAGES = 64


def load_weights(network: torch.nn.Module, job: Job) -> None:
    """Give a network of timm the weights of the job, and stop unless it then computes the same features.

    It also gets the memory format in which processors compute faster, as by `--channels-last` of timm's script.
    """
    with np.load(job.weights) as arrays:
        state = {name: torch.from_numpy(array) for name, array in for_timm(arrays).items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.startswith("classifier.") and "num_batches_tracked" not in name]
    if missing or unexpected:
        raise SystemExit(f"The weights must have timm's names. Received: {missing} missing, {unexpected} unknown.")
    network.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        features = network.eval().forward_features(normalised(job.images("test")[0][:CHECKED]))
    job.check_features(features.mean((2, 3)).numpy())


def normalised(images: np.ndarray) -> torch.Tensor:
    """Uint8 `(images, height, width, 3)` as the float32 input of the network, `(images, 3, height, width)`."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    return (pixels - MEAN) / STD


def open_image(path: str) -> Image.Image:
    """An image file as RGB, upright, transparent pixels over white."""
    image = ImageOps.exif_transpose(Image.open(path))
    if "A" in image.getbands() or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def batch_size(job: Job) -> int:
    """`BATCH_SIZE`, or as many training images as there are; even, which mixup asks for."""
    return min(BATCH_SIZE, len(job.rows("train")) // 2 * 2)


def predict(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """The class numbers that a network answers for uint8 images."""
    network.eval()
    with torch.inference_mode():
        parts = [network(normalised(images[start : start + 64])) for start in range(0, len(images), 64)]
    return torch.cat(parts).argmax(1).numpy()


def seconds_per_epoch(
    network: torch.nn.Module,
    batches: Iterable,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    validation: np.ndarray,
) -> float:
    """Processor seconds of an epoch and of validation, from a few steps with a copy of the network."""
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-6)
    start = 0.0
    for step, (images, targets) in enumerate(itertools.islice(_endless(batches), WARMUP_STEPS + TIMED_STEPS)):
        loss(network(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        start = time.process_time() if step < WARMUP_STEPS else start
    training = (time.process_time() - start) / TIMED_STEPS * len(batches)
    start = time.process_time()
    few = validation[:TIMED_IMAGES]
    predict(network, few)
    return training + (time.process_time() - start) * len(validation) / len(few)


def _endless(batches):
    return itertools.chain.from_iterable(itertools.repeat(batches))
