"""The pictures of the report, as texts that HTML takes in an `src`."""

from __future__ import annotations

import base64
import io
import os

import matplotlib.figure
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_cnn import images

THUMBNAIL = 160
BLUE, ORANGE = "#1f6feb", "#d97706"


def thumbnail(path, preprocessing) -> str | None:
    """An image as the network saw it, small; None if the file is no longer there."""
    try:
        content = tf.io.read_file(os.fsencode(path))
    except tf.errors.NotFoundError:
        return None
    return jpeg(images.prepare(content, preprocessing).numpy().clip(0, 255).astype("uint8"), THUMBNAIL)


def jpeg(pixels, longest: int = 1600) -> str:
    """An image `(height, width, 3)` uint8, with sides of at most `longest` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return _source("image/jpeg", buffer.getvalue())


def curves(history: list[dict], measure: str, diverged: tuple[int, ...] = ()) -> str:
    """Cross-entropy and the metric `measure` by epoch, of training and validation.

    Args:
        history: A dict per epoch.
        measure: Name of the metric.
        diverged: The epochs, from 1, in which training diverged: a line marks each, and the axis does not follow them.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 3), layout="constrained")
    epochs = np.arange(1, len(history) + 1)
    titles = {"crossentropy": "Cross-entropy", measure: measure.replace("_", " ").capitalize()}
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axes.plot(
            epochs, [row[name] for row in history], "o-", color=BLUE, markersize=3, label="training (with dropout)"
        )
        axes.plot(epochs, [row[f"val_{name}"] for row in history], "o-", color=ORANGE, markersize=3, label="validation")
        axes.set(title=title, xlabel="epoch")
        for epoch in diverged:
            axes.axvline(epoch, color="#d1242f", linestyle=":", label="diverged" if epoch == diverged[0] else None)
        sound = [
            row[key] for epoch, row in enumerate(history, 1) for key in (name, f"val_{name}") if epoch not in diverged
        ]
        if diverged and sound:
            axes.set_ylim(0, 1.1 * max(sound))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return _svg(figure)


def _svg(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return _source("image/svg+xml", buffer.getvalue())


def _source(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
