"""A drawing of a convolution, of its matrix, and of what the transposed matrix does."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from keras_cnn import arguments, geometry
from keras_cnn.analysis.drawing import figure_file
from keras_cnn.analysis.drawing.style import FAINT, INK
from keras_cnn.analysis.fields.taps import NUMPY_PADDING
from keras_cnn.analysis.matrices.matrix import convolution_matrix
from keras_cnn.layers.convolution import axis_paddings

OWNER = "plot_convolution_matrix"
MAX_CELLS = 100
# Inches: the side of a cell, the smallest that can be written in, and the width of the page.
CELL = 0.36
MIN_CELL = 0.22
PAGE_WIDTH = 17
# Colours of cells.
DATA = (0.86, 0.885, 0.92)
ZERO = (0.957, 0.957, 0.962)
WHITE = (1.0, 1.0, 1.0)


def plot_convolution_matrix(layer: keras.Layer, input_shape: Sequence[int], path: str | os.PathLike) -> None:
    """Draw a convolution on its map and as the matrix A of `convolution_matrix`, and next to both its transpose.

    On the left the convolution gathers: a cell of y is the sum of the cells of x under the kernel, a row of A. On the
    right the transposed convolution scatters: a cell of y is spread over the same cells, a column of Aᵀ. Each weight has
    one colour everywhere; its value does not matter.

    Args:
        layer: A `Conv1D` or `Conv2D` of Keras or keras_cnn with one filter.
        input_shape: Shape of one input without the batch, of one channel and at most 100 cells: `(height, width, 1)`.
        path: Image file to write; its ending chooses the format (.png, .svg, .pdf).

    Raises:
        TypeError: As `convolution_matrix`; if `layer` is neither of these two.
        ValueError: As `convolution_matrix`; if there are more channels, filters or cells; if `path` is not a .png, .svg or
            .pdf file in a folder that exists.
    """
    path = figure_file.check_path(OWNER, path)
    example = _Example(layer, input_shape)
    outputs, inputs = example.weight_positions.shape[1:]
    left_width = max(inputs + 6, example.kernel[1] + example.padded.shape[1] + example.y[1] + 7, 21)
    right_width = max(outputs + 6, example.x[1] + example.y[1] + 4, 13)
    maps_end = 3.6 + max(example.padded.shape[0], example.kernel[0])
    page = _Page(left_width + 2 + right_width, maps_end + 4.6 + max(inputs, outputs + 5.5))
    _draw_gathering_map(page, example, 0, maps_end)
    _draw_gathering_matrix(page, example, 0, maps_end)
    _draw_scattering_map(page, example, left_width + 2, maps_end)
    _draw_scattering_matrix(page, example, left_width + 2, maps_end)
    figure_file.save(page.figure, path)


class _Example:
    """What there is to draw; a single axis counts as a map of one row."""

    def __init__(self, layer, input_shape):
        self.weight_positions = _weight_positions(layer, input_shape)
        first = layer.data_format == "channels_first"
        sizes = tuple(input_shape[1:] if first else input_shape[:-1])
        axes = zip(sizes, layer.kernel_size, layer.strides, axis_paddings(layer), layer.dilation_rate, strict=True)
        axes = [(1, 1, 1, "valid", 1)] * (2 - layer.rank) + list(axes)
        self.x = [size for size, *_ in axes]
        self.kernel = [kernel_size for _, kernel_size, *_ in axes]
        self.y = [geometry.output_size(*axis) for axis in axes]
        amounts = [geometry.padding_amounts(*axis) for axis in axes]
        cells = np.arange(math.prod(self.x)).reshape(self.x)
        self.padded = np.pad(cells, amounts, **NUMPY_PADDING[getattr(layer, "padding_mode", "zeros")])
        self.inside = np.pad(np.ones(self.x, bool), amounts)
        unit = [size // 2 for size in self.y]
        self.index = int(np.ravel_multi_index(unit, self.y))  # the cell of y that is followed through the drawing
        self.window = np.ix_(
            *(
                start * strides + np.arange(kernel_size) * rate
                for start, (_, kernel_size, strides, _, rate) in zip(unit, axes, strict=True)
            )
        )
        spectrum = matplotlib.colormaps["Spectral"](np.linspace(0.04, 0.96, len(self.weight_positions)))[:, :3]
        self.colours = 0.3 + 0.7 * spectrum  # light enough to be written on
        self.names = [f"$w_{{{''.join(map(str, index))}}}$" for index in np.ndindex(*layer.kernel_size)]

    def weights(self, positions):
        """Colours and names of the weights in a matrix; where several meet, their mean colour."""
        count = positions.sum(axis=0)[..., None]
        colours = np.where(count > 0, np.tensordot(positions, self.colours, (0, 0)) / np.maximum(count, 1), ZERO)
        return colours, ["+".join(np.array(self.names)[here]) for here in positions.reshape(len(positions), -1).T > 0]

    def row(self):
        """The row of the matrix for the cell that is followed: (weights, 1, inputs)."""
        return self.weight_positions[:, self.index : self.index + 1]


def _weight_positions(layer, input_shape):
    """One matrix for each weight of the kernel, 1 where the weight is: (weights, outputs, inputs)."""
    if not isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D)):
        raise TypeError(arguments.message(OWNER, "layer", "a Conv1D or Conv2D", layer))
    convolution_matrix(layer, input_shape)  # for its errors, before anything else
    if layer.kernel.shape[-2:] != (1, 1) or math.prod(input_shape) > MAX_CELLS:
        expected = f"of at most {MAX_CELLS} cells and one channel, for a layer of one filter"
        raise ValueError(arguments.message(OWNER, "input_shape", expected, input_shape, "Draw a smaller example."))
    twin = type(layer).from_config({**layer.get_config(), "use_bias": False})
    twin.build((None, *input_shape))
    matrices = []
    for weight in np.eye(math.prod(layer.kernel_size), dtype="float32"):
        twin.set_weights([weight.reshape(twin.kernel.shape)])
        matrices.append(convolution_matrix(twin, input_shape).toarray())
    return np.stack(matrices)


def _draw_gathering_map(page, example, left, maps_end):
    """Kernel, input and output of the convolution."""
    index = example.index
    page.write(left, 0.5, "A convolution gathers", 15, weight="bold")
    page.write(left, 1.6, f"$y_{{{index}}}$ is the sum of the cells of x under the kernel, each times its weight.")
    middle = (3.6 + maps_end) / 2
    right = page.draw_cells(left, middle, example.colours.reshape(*example.kernel, 3), example.names, "kernel w")
    page.write(right + 1, middle, r"$\ast$", 16, ha="center")
    colours = np.where(example.inside[..., None], DATA, WHITE)
    colours[example.window] = example.colours.reshape(*example.kernel, 3)
    labels = ["0" if cell < 0 else str(cell) for cell in example.padded.ravel()]
    title = "x" if example.inside.all() else "x, padded"
    right = page.draw_cells(right + 2, middle, colours, labels, title, margin=~example.inside)
    page.write(right + 1.25, middle, r"$\rightarrow$", 16, ha="center")
    _draw_numbered(page, right + 2.5, middle, example.y, "y", marked=index)


def _draw_gathering_matrix(page, example, left, maps_end):
    """The same as a product with the matrix."""
    index = example.index
    outputs, inputs = example.weight_positions.shape[1:]
    top = maps_end + 4.6
    page.write(left, maps_end + 1.5, f"y = A x,  with A of {outputs} × {inputs}", 12, weight="bold")
    page.write(left, maps_end + 2.5, f"Row {index} is the kernel, at the cells of x that it meets for $y_{{{index}}}$.")
    right = _draw_numbered(page, left, top + outputs / 2, (outputs, 1), "y", marked=index)
    page.write(right + 0.9, top + outputs / 2, "=", 16, ha="center")
    colours, names = example.weights(example.weight_positions)
    right = page.draw_cells(right + 1.8, top + outputs / 2, colours, names, "A", outline=(index, None))
    colours, _ = example.weights(example.row().transpose(0, 2, 1))
    colours = np.where((colours == ZERO).all(axis=-1, keepdims=True), DATA, colours)
    page.draw_cells(right + 0.8, top + inputs / 2, colours, [str(cell) for cell in range(inputs)], "x")
    weights = np.count_nonzero(example.weight_positions.sum(axis=0))
    sentences = (
        f"{weights} of the {outputs * inputs} entries are weights; the rest is zero.",
        f"All rows share the same {len(example.weight_positions)} weights.",
        "Aᵀ gives back the size of x, not its values: it is not the inverse.",
    )
    for line, sentence in enumerate(sentences):
        page.write(left + 2.8, top + outputs + 1.2 + line, sentence)


def _draw_scattering_map(page, example, left, maps_end):
    """Input and output of the transposed convolution."""
    index = example.index
    page.write(left, 0.5, "Its transpose scatters", 15, weight="bold")
    page.write(left, 1.6, f"$y_{{{index}}}$ times each weight is added to those cells.")
    middle = (3.6 + maps_end) / 2
    right = _draw_numbered(page, left, middle, example.y, "y", marked=index)
    page.write(right + 1.25, middle, r"$\rightarrow$", 16, ha="center")
    colours, names = example.weights(example.row())
    page.draw_cells(right + 2.5, middle, colours.reshape(*example.x, 3), names, "x′")


def _draw_scattering_matrix(page, example, left, maps_end):
    """The same as a product with the transposed matrix."""
    index = example.index
    outputs, inputs = example.weight_positions.shape[1:]
    top = maps_end + 4.6
    transposed = example.weight_positions.transpose(0, 2, 1)
    page.write(left, maps_end + 1.5, f"x′ = Aᵀ y,  with Aᵀ of {inputs} × {outputs}", 12, weight="bold")
    page.write(left, maps_end + 2.5, f"Column {index} is row {index} of A.")
    colours, _ = example.weights(transposed[:, :, index : index + 1])
    right = page.draw_cells(left, top + inputs / 2, colours, [str(cell) for cell in range(inputs)], "x′")
    page.write(right + 0.9, top + inputs / 2, "=", 16, ha="center")
    colours, names = example.weights(transposed)
    right = page.draw_cells(right + 1.8, top + inputs / 2, colours, names, "Aᵀ", outline=(None, index))
    _draw_numbered(page, right + 0.8, top + outputs / 2, (outputs, 1), "y", marked=index)


def _draw_numbered(page, left, middle, shape, title, marked):
    """A map whose cells have their numbers, one of them with a frame."""
    labels = [str(cell) for cell in range(math.prod(shape))]
    colours = np.broadcast_to(DATA, (*shape, 3))
    return page.draw_cells(left, middle, colours, labels, title, outline=np.unravel_index(marked, shape))


class _Page:
    """Axes measured in cells, from the top left corner."""

    def __init__(self, width, height):
        margin = 0.8  # cells
        self.cell = min(max(MIN_CELL, PAGE_WIDTH / width), CELL)  # inches
        size = ((width + 2 * margin) * self.cell, (height + 2 * margin) * self.cell)
        self.figure = Figure(figsize=size)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(-margin, width + margin), ylim=(height + margin, -margin))
        self.axes.axis("off")

    def write(self, x, y, text, size=10, **options):
        self.axes.text(x, y, text, **{"va": "center", "fontsize": size, "color": INK, **options})

    def draw_cells(self, left, middle, colours, labels, title, outline=None, margin=None):
        """Coloured cells in rows, centred on the height `middle`; returns the column after the last.

        Args:
            outline: (row, column) of a cell to frame, None for all rows or all columns.
            margin: Which cells are padding: they are faint, in a dashed frame.
        """
        rows, columns = colours.shape[:2]
        top = middle - rows / 2
        edges = (np.arange(columns + 1) + left, np.arange(rows + 1) + top)
        self.axes.pcolormesh(*edges, colours, edgecolors="white", linewidth=max(3.5 * self.cell, 0.4))
        for index, label in enumerate(labels):
            row, column = divmod(index, columns)
            colour = FAINT if margin is not None and margin[row, column] else INK
            size = 25 * self.cell / (1 + 0.6 * label.count("+"))
            self.write(left + column + 0.5, top + row + 0.5, label, size, ha="center", color=colour)
        self.write(left + columns / 2, top - 0.3, title, ha="center", va="bottom", style="italic")
        if margin is not None and margin.any():
            self._draw_frame(left, top, columns, rows, FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        if outline is not None:
            row, column = outline
            size = (columns if column is None else 1, rows if row is None else 1)
            self._draw_frame(left + (column or 0), top + (row or 0), *size, INK, linewidth=1.8)
        return left + columns

    def _draw_frame(self, left, top, columns, rows, colour, **options):
        self.axes.add_patch(Rectangle((left, top), columns, rows, fill=False, edgecolor=colour, zorder=3, **options))
