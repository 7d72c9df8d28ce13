"""What a network looks at, drawn over the image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import keras
import matplotlib
import numpy as np
from keras import ops
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from keras_cnn import arguments
from keras_cnn.analysis.drawing import figure_file
from keras_cnn.analysis.drawing.style import INK
from keras_cnn.analysis.explain.class_activation import grad_cam
from keras_cnn.analysis.explain.effective import effective_field
from keras_cnn.analysis.formatting import shorten_name
from keras_cnn.analysis.inspection import analyze

# Inches: the side of a panel, and what is above and below all panels.
PANEL = 3.4
HEAD = 0.6
FOOT = 1.6
TITLE_ROOM = 38  # characters over a panel
MAX_OPACITY = 0.6  # how much of the image the brightest pixel hides
DASHED = (0, (4, 3))


def plot_grad_cam(
    model: keras.Model,
    image: ArrayLike,
    classes: Mapping[str, int],
    path: str | os.PathLike,
    layer: str | None = None,
) -> None:
    """Draw an image, and next to it where the evidence for each of some classes is.

    Args:
        model: As in `grad_cam`.
        image: As in `grad_cam`.
        classes: Dict of a title -> the index of the class.
        path: Image file to write; its ending chooses the format (.png, .svg, .pdf).
        layer: As in `grad_cam`.

    Raises:
        ValueError: As `grad_cam`; if `path` is not a .png, .svg or .pdf file in a folder that exists.
    """
    path = figure_file.check_path("plot_grad_cam", path)
    shown = _as_rgb(image)
    figure, panels = _make_panels(shown, 1 + len(classes))
    _write_title(panels[0], "image")
    panels[0].imshow(shown)
    for axes, (title, index) in zip(panels[1:], classes.items(), strict=True):
        _write_title(axes, str(title))
        _draw_glow(axes, shown, grad_cam(model, image, index, layer))
    _draw_scale(figure, panels, "evidence for the class, 1: the most in this image")
    figure_file.save(figure, path, bbox_inches="tight", pad_inches=0.15)


def plot_effective_field(
    model: keras.Model, images: ArrayLike, outputs: Sequence[str], path: str | os.PathLike
) -> None:
    """Draw how the field of the unit in the middle grows: for each layer, what it can see and what moves it.

    The theoretical field is dashed, and its size is in the title; the part of it beyond the image is not drawn. The glow is
    the square root of `effective_field`, so that its tails are visible; the solid line is the smallest square around the
    centre of the theoretical field that holds half of the effective one.

    Args:
        model: As in `effective_field`, and one that `analyze` can follow.
        images: `(number, height, width, channels)`: the field is their average; it is drawn over the first.
        outputs: Names of layers, shallow to deep.
        path: Image file to write; its ending chooses the format (.png, .svg, .pdf).

    Raises:
        ValueError: As `effective_field` and `analyze`; if the field of a layer is not known; if `path` is not a .png,
            .svg or .pdf file in a folder that exists.
    """
    path = figure_file.check_path("plot_effective_field", path)
    images = np.asarray(images)
    shown = _as_rgb(images[0])
    analysis = analyze(model, images.shape[1:])
    figure, panels = _make_panels(shown, len(outputs))
    for axes, output in zip(panels, outputs, strict=True):
        theoretical = _theoretical_box(analysis.row(output))
        effective = effective_field(model, images, output)
        half = _half_box(effective, [start + (size - 1) / 2 for start, size in theoretical])
        sees = f" sees {_format_size(theoretical)} pixels"
        name = shorten_name(output, TITLE_ROOM - len(sees))
        _write_title(axes, name + sees, f"half of the effect within {_format_size(half)}")
        _draw_glow(axes, shown, np.sqrt(effective))
        _draw_frame(axes, theoretical, linestyle=DASHED)
        _draw_frame(axes, half)
    _draw_scale(figure, panels, "effect of a pixel on the unit (square root), 1: the strongest")
    _draw_key(figure, len(outputs))
    figure_file.save(figure, path, bbox_inches="tight", pad_inches=0.15)


def _theoretical_box(row):
    """(start, length) along each axis of what the unit in the middle sees, beyond the border as well."""
    if any(None in (axis.size, axis.stride, axis.padding) for axis in row.receptive_field):
        expected = "names of layers whose receptive field `analyze` knows"
        raise ValueError(arguments.message("plot_effective_field", "outputs", expected, row.name))
    units = [count // 2 for _, _, count in row.axis_fields]
    return [
        (float(unit * axis.stride - axis.padding), axis.size)
        for unit, axis in zip(units, row.receptive_field, strict=True)
    ]


def _half_box(field, centre):
    """(start, length) along each axis of the smallest square around `centre` that holds half of the field."""
    rows, columns = (np.arange(size) for size in field.shape)
    distance = np.maximum(abs(rows - centre[0])[:, None], abs(columns - centre[1]))
    order = np.argsort(distance, axis=None)
    inside = np.cumsum(field.ravel()[order]) >= field.sum() / 2
    radius = distance.ravel()[order][inside.argmax()]
    return [(middle - radius, int(2 * radius + 1)) for middle in centre]


def _write_title(axes, *lines):
    axes.set_title("\n".join(shorten_name(line, TITLE_ROOM) for line in lines), fontsize=11, parse_math=False)


def _format_size(box):
    return " × ".join(str(length) for _, length in box)


def _draw_glow(axes, shown, values):
    """`values` in 0..1 as light over the image in grey: nothing at 0."""
    axes.imshow(np.repeat(shown.mean(axis=-1, keepdims=True), 3, axis=-1), vmin=0, vmax=1)
    axes.imshow(values, cmap="inferno", vmin=0, vmax=1, alpha=np.minimum(values, MAX_OPACITY))


def _draw_scale(figure, panels, label):
    """Below the panels, the colours of `_draw_glow` over a middle grey."""
    values = np.linspace(0, 1, 40)[:, None]  # few enough to stay vectors in .svg
    alpha = np.minimum(values, MAX_OPACITY)
    colours = alpha * matplotlib.colormaps["inferno"](values[:, 0])[:, :3] + (1 - alpha) * 0.5
    shades = ScalarMappable(cmap=ListedColormap(colours))
    bar = figure.colorbar(shades, ax=panels, location="bottom", shrink=0.6, aspect=40, ticks=(0, 0.5, 1))
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _draw_key(figure, number):
    """What the two frames are."""
    lines = (("-", "holds half of the effect"), (DASHED, "theoretical field, where it ends in the image"))
    handles = [Line2D([], [], color=INK, linestyle=style, linewidth=1.2, label=label) for style, label in lines]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(number, 2), frameon=False, fontsize=9)


def _draw_frame(axes, box, linestyle="-"):
    """`box`: (start, length) of rows and of columns, in pixels, whose centres are at whole numbers."""
    (top, height), (left, width) = box
    for options in (
        {"edgecolor": "black", "linewidth": 2.4, "alpha": 0.45},
        {"edgecolor": "white", "linewidth": 1.2, "linestyle": linestyle},
    ):
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, **options))


def _make_panels(shown, number):
    height, width = shown.shape[:2]
    size = (PANEL * number + 0.3 * (number + 1), PANEL * height / width + HEAD + FOOT)
    figure = Figure(figsize=size, layout="compressed")
    panels = figure.subplots(1, number, squeeze=False)[0]
    for axes in panels:
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        axes.axis("off")
    return figure, panels


def _as_rgb(image):
    """RGB 0..1 of an image as a network takes it: 0..255, 0..1, or anything else, which is stretched."""
    image = ops.convert_to_numpy(image).astype("float32")
    low = image.min()
    high = image.max()
    if low >= 0 and high <= 255:
        low = 0
        high = 255 if high > 1 else 1
    image = (image - low) / (high - low)
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
