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
INK, BLUE, ORANGE = "#333333", "#1f6feb", "#d97706"
MOST_NAMED = 40


def thumbnail(path, preprocessing) -> str:
    """An image as the network saw it, small."""
    pixels = images.prepare(tf.io.read_file(os.fsencode(path)), preprocessing).numpy().clip(0, 255).astype("uint8")
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return _source("image/jpeg", buffer.getvalue())


def curves(history) -> str:
    """Loss and accuracy by epoch, of training and validation."""
    figure = matplotlib.figure.Figure(figsize=(9, 3), layout="constrained")
    epochs = np.arange(1, len(history) + 1)
    for axes, name, title in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        axes.plot(epochs, [row[name] for row in history], color=BLUE, label="training (with dropout)")
        axes.plot(epochs, [row[f"val_{name}"] for row in history], color=ORANGE, label="validation")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return _svg(figure)


def confusion(matrix, classes) -> str:
    """The confusion matrix, each row in shares of its class; counts are written in where there is room."""
    count = len(classes)
    side = min(12, 2.2 + 0.55 * count)
    figure = matplotlib.figure.Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="truth")
    if count <= MOST_NAMED:
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour)
    size = 10 if count <= 20 else 6
    axes.set_xticks(
        range(count), classes, rotation=90 if count > 12 else 45, ha="center" if count > 12 else "right", fontsize=size
    )
    axes.set_yticks(range(count), classes, fontsize=size)
    if count <= 12:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
    return _svg(figure)


def _svg(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return _source("image/svg+xml", buffer.getvalue())


def _source(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
