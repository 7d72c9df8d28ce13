"""What a tensor sees of the model's input: which input axis each of its axes follows, and how far it reaches there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keras_cnn.analysis.fields.axis_field import Reach, row_of, union
from keras_cnn.analysis.fields.axis_parts import (
    Atom,
    coalesced,
    cut,
    longer_than_one,
    places_of,
    product,
    restepped,
    size_of,
    sources_of,
    torn,
)
from keras_cnn.analysis.fields.taps import IDENTITY, OUTSIDE, Reading


@dataclass(frozen=True)
class View:
    """The receptive field of every unit of a tensor.

    Attributes:
        axes: For each axis of the tensor, batch first, its atoms.
        local: For each input axis, the reach of the row of units that follows it; None if no axis of the tensor does.
        whole: For each input axis, what every unit sees besides, through a global branch; None: nothing.
        bounded: Sets of input axes: if all axes of a set are spatial, the last call is known only to see no more along
            them than this.
        misaligned: Whether the last call joined branches whose centres differ.
    """

    axes: tuple
    local: tuple
    whole: tuple
    bounded: frozenset = frozenset()
    misaligned: bool = False

    @property
    def shape(self):
        return tuple(map(size_of, self.axes))

    def units(self, source):
        """How many units the row that follows an input axis has."""
        return product(atom.size for atom in self._atoms(source))

    def resized(self, axis, size) -> View:
        """Axis `axis` with `size` units that follow no input axis."""
        return self.with_axis(axis, (Atom(None, size),))

    def with_axis(self, axis, atoms) -> View:
        """Axis `axis` made of these atoms."""
        axis %= len(self.axes)
        return replace(self, axes=(*self.axes[:axis], tuple(atoms), *self.axes[axis + 1 :]))

    def mixed(self, axes, keep=False) -> View:
        """Every unit reads all units along `axes`, of its own position in the other ones.

        Args:
            keep: Whether it also stays what it was at its own position, as in a normalisation, where the local field
                and the global one are told apart.
        """
        view = self
        atoms = [atom for axis in axes for atom in self.axes[axis]]
        for source in dict.fromkeys(atom.source for atom in atoms if atom.source is not None):
            view = view._mixed_source(source, [atom for atom in atoms if atom.source == source], keep)
        return view

    def along(self, axis, reading: Reading, size) -> View:
        """Units along `axis`, `size` of them, that each read some of the former ones."""
        if reading == IDENTITY and size == self.shape[axis]:
            return self
        view = self._with_minor_channels_spread(axis)
        atoms = longer_than_one(view.axes[axis])
        sources = sources_of([atoms])
        if not sources:
            return view.resized(axis, size)
        if len(atoms) > 1:
            return view.blurred(sources).resized(axis, size)
        return view._read(axis, atoms[0], reading, size)

    def reshaped(self, shape) -> View:
        """Row-major, as `keras.ops.reshape`; sizes of -1 are not allowed."""
        if tuple(shape) == self.shape:
            return self
        atoms = [atom for axis in self.axes for atom in axis if atom.size != 1]
        axes = []
        for size in shape:
            taken, atoms = cut(atoms, size)
            if taken is None:
                return self._dissolved(shape)
            axes.append(coalesced(taken) or (Atom(None, 1),))
        if atoms:
            return self._dissolved(shape)
        view = replace(self, axes=tuple(axes))
        # An input axis of which only cells of size 1 are left is seen by all units alike.
        gone = [s for s, reach in enumerate(view.local) if reach and not view._atoms(s)]
        return view._without(gone)

    def transposed(self, order) -> View:
        """Axes in another order, the first one included."""
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def mixed_within(self, axis, groups, size) -> View:
        """`size` units along `axis`, each of which reads all units of its one of `groups` groups of neighbours."""
        outer, inner = cut(self.axes[axis], groups)
        if outer is None:
            return self.blurred(sources_of([self.axes[axis]])).resized(axis, size)
        view = self.with_axis(axis, (*outer, *inner))
        for source in sources_of([inner]):
            view = view._mixed_source(source, [atom for atom in inner if atom.source == source], keep=False)
        kept = view.axes[axis][: len(outer)]
        return view.with_axis(
            axis, coalesced((*kept, Atom(None, size // groups)) if size > groups or not kept else kept)
        )

    def blurred(self, sources) -> View:
        """It cannot be said which unit sees what along these input axes: at most what all of them see."""
        return replace(self._without(sources), bounded=self.bounded | each(sources))

    @property
    def scattered(self) -> frozenset:
        """Input axes along which units do not lie one stride apart."""
        return frozenset(s for s, reach in enumerate(self.local) if reach and reach.step is None)

    def placed(self, spatial, usual: int):
        """What places of the tensor see, each with all its channels.

        Args:
            spatial: Input axes that are no channels.
            usual: The axis that has the channels, if it leads along none of these.

        Returns:
            The view, in which a row that runs along several axes is `scattered`; and for each axis of the tensor but batch
            and channels its atoms, of which sources are places in `spatial`.
        """
        view = self.settled()
        axes = range(1, len(view.axes))
        outermost = [atom for source in spatial for atom in view._row(source)[:1]]
        leading = {axis for axis in axes if any(atom in view.axes[axis] for atom in outermost)}
        channels = next((axis for axis in (usual, *axes) if axis in axes and axis not in leading), None)
        view = view if channels is None else view.mixed([channels])
        places = [view.axes[axis] for axis in axes if axis != channels]
        for source in spatial:
            if len(view._atoms(source)) > 1 or source in torn(places):
                view = view.with_local(source, Reach(None, None, seen=view.local[source].seen))
        numbers = {source: place for place, source in enumerate(spatial)}
        return view, tuple(tuple(Atom(numbers.get(s), *rest) for s, *rest in atoms) for atoms in places)

    def settled(self) -> View:
        """Rows that channels lie beside, as behind a shuffle of sub-pixels, with a unit for each of these."""
        view = self
        for axis in range(1, len(self.axes)):
            view = view._with_minor_channels_spread(axis)
        return view

    def _dissolved(self, shape):
        """Of another shape, when it cannot be said which unit is which."""
        axes = tuple((Atom(None, size),) for size in shape)
        return replace(self.blurred(sources_of(self.axes)), axes=axes)

    def _atoms(self, source):
        return [atom for axis in self.axes for atom in axis if atom.source == source]

    def with_local(self, source, reach) -> View:
        """With another reach of the row that follows an input axis."""
        return replace(self, local=(*self.local[:source], reach, *self.local[source + 1 :]))

    def _with_whole(self, source, reach):
        before = self.whole[source]
        reach = union([before, reach]) if before else reach
        return replace(self, whole=(*self.whole[:source], reach, *self.whole[source + 1 :]))

    def _without(self, sources):
        """Rows that no axis follows any more have become part of what every unit sees."""
        view = self
        for source in sources:
            view = view._with_whole(source, view.local[source].collapse(view.units(source)))
            view = view.with_local(source, None)
        return view._mapped({atom: Atom(None, atom.size) for source in sources for atom in self._atoms(source)})

    def _mapped(self, exchange):
        return replace(self, axes=tuple(tuple(exchange.get(atom, atom) for atom in axis) for axis in self.axes))

    def _row(self, source):
        """Its atoms from the outermost to the innermost."""
        return sorted(self._atoms(source), key=lambda atom: -atom.step)

    def within(self, axis, source):
        """How many units of a row each unit of `axis` has, and where they are; None: none, (): `axis` is not its outermost."""
        row = self._row(source)
        if not row:
            return None
        if longer_than_one(self.axes[axis]) != tuple(row[:1]):
            return ()
        return row[0].step, tuple(
            (place, atom) for place, atoms in enumerate(self.axes) for atom in atoms if atom in row[1:]
        )

    def _mixed_source(self, source, gone, keep):
        """Every unit reads all along these atoms of one input axis."""
        rest = [atom for atom in self._row(source) if atom not in gone]
        if not rest:
            whole = self.local[source].collapse(self.units(source))
            return self._with_whole(source, whole) if keep else self._without([source])
        # A reshape left other parts of the row on axes that are not mixed.
        together, units = places_of(gone), self.units(source)
        if keep:
            others = dict(sorted((other + place, other) for other in places_of(rest) for place in together))
            reading = Reading(units, tuple(tuple(other + place for place in together) for other in others.values()))
            return self.with_local(source, self.local[source].gather(reading, reading.columns(units, units)))
        taps = tuple(tuple(other + place for place in together) for other in places_of(rest[1:]))
        reading = Reading(rest[0].step, taps)
        columns = reading.columns(units, product(atom.size for atom in rest))
        view = self.with_local(source, self.local[source].gather(reading, columns))
        resteps = dict(zip(rest, restepped(rest), strict=True))
        return view._mapped(resteps | {atom: Atom(None, atom.size) for atom in gone})

    def _read(self, axis, atom, reading, size):
        """Units along `atom`, which is all of `axis`, that each read some of the former ones."""
        source, units, step = atom
        row = self.units(source)
        columns = None if None in (units, size) else reading.columns(units, size)
        if row != units:  # of a row that a reshape split
            columns = [_of_row(column, units, step, row) for column in columns]
            taps = tuple(tuple(tap * step + inner for tap in taps) for taps in reading.taps for inner in range(step))
            cells = reading.cells and reading.cells * step
            if row != units * step:  # each part of the row has borders of its own
                cells, reads = row, zip(*(column.tolist() for column in columns), strict=True)
                taps = tuple(tuple(unit for unit in units if unit != OUTSIDE) for units in reads)
            reading = Reading(cells, taps)
        view = self.with_local(source, self.local[source].gather(reading, columns))
        before = self._row(source)
        after = restepped([Atom(source, size) if one == atom else one for one in before])
        return view._mapped(dict(zip(before, after, strict=True))).with_axis(axis, [after[before.index(atom)]])

    def _with_minor_channels_spread(self, axis):
        """Channels that a reshape laid beside a row (depth to space): each unit of the row is there several times."""
        atoms = coalesced(longer_than_one(self.axes[axis]))
        if len(atoms) != 2 or atoms[0].source is None or atoms[1].source is not None or atoms[1].size is None:
            return self
        row, copies = atoms
        return self.with_axis(axis, [row])._read(axis, row, Reading(1, ((0,),) * copies.size), size_of(atoms))


def of_input(shape) -> View:
    """The view of the input itself, of the given shape with the batch axis."""
    axes = tuple((Atom(axis - 1 if axis else None, size),) for axis, size in enumerate(shape))
    return View(axes, tuple(map(row_of, shape[1:])), (None,) * (len(shape) - 1))


def constant(shape, sources: int) -> View:
    """The view of a tensor that sees nothing of the input."""
    return View(tuple((Atom(None, size),) for size in shape), (None,) * sources, (None,) * sources)


def unknown(shape, sources: int) -> View:
    """The view of a tensor of which nothing is known."""
    view = constant(shape, sources)
    return replace(view, whole=(Reach(None, None),) * sources)


def each(sources) -> frozenset:
    """`View.bounded` along each of these input axes."""
    return frozenset(frozenset((source,)) for source in sources)


def _of_row(column, units, step, row):
    """What each unit of a row reads, of which `column` says it for one part of `units` units, `step` apart."""
    starts = np.arange(row // (units * step))[:, None, None] * units
    places = (starts + column[:, None]) * step + np.arange(step)
    return np.where(column[:, None] == OUTSIDE, OUTSIDE, places).ravel()
