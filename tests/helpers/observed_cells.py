"""Which cells of the input the outputs of a real network depend on, and whether the analysis says the same."""

import numpy as np
from keras import ops

from keras_cnn.analysis import analyze


def visible_cells(model, axis):
    """(cells, *units): whether each unit depends on a slab of cells across `axis`.

    The networks here are linear and their weights positive, so the response to a slab of ones is the sum of the input
    gradient over it, of all units at once, and cannot cancel.
    """
    *sizes, channels = model.input_shape[1:]
    slabs = np.zeros((sizes[axis], *sizes, channels), "float32")
    for cell in range(sizes[axis]):
        np.moveaxis(slabs[cell], axis, 0)[cell] = 1
    return ops.convert_to_numpy(model(slabs)).sum(-1) > 0


def extent(cells):
    """First and last of these cells."""
    indices = np.flatnonzero(cells)
    return (int(indices[0]), int(indices[-1])) if len(indices) else (None, None)


def units_along_lines(sizes):
    """Units from border to border along each axis: at the first, the middle and the last index of the others."""
    for axis, count in enumerate(sizes):
        for part in (0, 0.5, 1):
            others = [round(part * (size - 1)) for size in sizes]
            yield from ((*others[:axis], index, *others[axis + 1 :]) for index in range(count))


def assert_as_observed(model, cells_of=visible_cells):
    """Assert that the box of each unit, at the border too, is the extent of what it depends on."""
    row = analyze(model).rows[-1]
    for axis in range(len(model.input_shape) - 2):
        cells = cells_of(model, axis)
        for unit in dict.fromkeys(units_along_lines(cells.shape[1:])):
            assert row.box(unit)[axis] == extent(cells[(slice(None), *unit)]), (axis, unit)


def changed_cells(model, axis, amount=100.0, threshold=1e-4, seed=0):
    """(cells, *units): whether each unit changes with a slab of cells across `axis`, up or down."""
    *sizes, channels = model.input_shape[1:]
    base = np.random.default_rng(seed).normal(size=(1, *sizes, channels)).astype("float32")
    slabs = np.zeros((sizes[axis], *sizes, channels), "float32")
    for cell in range(sizes[axis]):
        np.moveaxis(slabs[cell], axis, 0)[cell] = amount
    batch = np.concatenate([base, base + slabs, base - slabs])
    found = ops.convert_to_numpy(model(batch))
    changes = np.abs(found[1:] - found[:1]).max(-1) > threshold
    return changes[: sizes[axis]] | changes[sizes[axis] :]
