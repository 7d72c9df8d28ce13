"""Images and figures of the report, encoded as text for the `src` of an HTML image."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_cnn import Preprocessing, images

THUMBNAIL = 160  # pixels, the longer side
BLUE, ORANGE, RED = "#1f6feb", "#d97706", "#d1242f"


def thumbnail(path: str, preprocessing: Preprocessing) -> str | None:
    """A small image of what the network sees of an image file; None if the file is no longer there."""
    try:
        content = tf.io.read_file(os.fsencode(path))
    except tf.errors.NotFoundError:
        return None
    return jpeg(images.prepare(content, preprocessing).numpy().clip(0, 255).astype("uint8"), THUMBNAIL)


def jpeg(pixels: np.ndarray, max_side: int = 1600) -> str:
    """An image `(height, width, 3)` uint8, scaled down if a side has more than `max_side` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return _data_url("image/jpeg", buffer.getvalue())


def curves(history: list[dict], metric: str, diverged: Sequence[int] = ()) -> str:
    """Training and validation curves of the cross-entropy and of `metric`.

    Args:
        history: One dict per epoch; without validation where cross-validation has decided.
        metric: The name of the metric.
        diverged: The epochs, from 1, in which training diverged: a line marks each, and the axis does not include their values.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 3), layout="constrained")
    epochs = np.arange(1, len(history) + 1)
    titles = {"crossentropy": "Cross-entropy", metric: metric.replace("_", " ").capitalize()}
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        curves = {"training (with dropout)": name, "validation": f"val_{name}"}
        found = {label: [row[key] for row in history] for label, key in curves.items() if key in history[0]}
        for (label, values), color in zip(found.items(), (BLUE, ORANGE), strict=False):
            axes.plot(epochs, values, "o-", color=color, markersize=3, label=label)
        axes.set(title=title, xlabel="epoch")
        for epoch in diverged:
            axes.axvline(epoch, color=RED, linestyle=":", label="diverged" if epoch == diverged[0] else None)
        finite = [
            value
            for values in found.values()
            for epoch, value in zip(epochs, values, strict=True)
            if epoch not in diverged
        ]
        if diverged and finite:
            axes.set_ylim(0, 1.1 * max(finite))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return _svg(figure)


def _svg(figure: matplotlib.figure.Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return _data_url("image/svg+xml", buffer.getvalue())


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
