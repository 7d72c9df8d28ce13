"""What a tensor sees of the model's input: which input axis each of its axes follows, and how far it reaches there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from keras_cnn.analysis.reach import Reach, centres_differ, union


class StrideError(ValueError):
    """Branches whose units stand at different distances meet."""


class Atom(NamedTuple):
    """A part of a tensor axis, or all of it. An axis is the row-major product of its atoms.

    Attributes:
        source: The input axis that it follows; None if it follows none, as channels do.
        size: Units along it; None if unknown.
        step: Units of the row of `source` from one unit of the atom to the next: 1, unless a reshape split the row.
    """

    source: int | None
    size: int | None
    step: int = 1


@dataclass(frozen=True)
class View:
    """The receptive field of every unit of a tensor.

    Attributes:
        axes: For each axis of the tensor, batch first, its atoms.
        local: For each input axis, the reach of the row of units that follows it; None if no axis of the tensor does.
        whole: For each input axis, what every unit sees besides, through a global branch; None: nothing.
        bounded: Input axes along which the last call is known only to see no more than this.
        misaligned: Whether the last call joined branches whose centres differ.
    """

    axes: tuple
    local: tuple
    whole: tuple
    bounded: frozenset = frozenset()
    misaligned: bool = False

    @property
    def shape(self):
        sizes = [[atom.size for atom in axis] for axis in self.axes]
        return tuple(None if None in row else math.prod(row) for row in sizes)

    def resized(self, axis, size) -> View:
        """Axis `axis` with `size` units that follow no input axis."""
        axes = list(self.axes)
        axes[axis] = (Atom(None, size),)
        return replace(self, axes=tuple(axes))

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

    def along(self, axis, gather, size, shift=None) -> View:
        """Units along `axis` that each read some of the former ones: `gather` as `Reach.gather` takes it."""
        view = self._with_minor_channels_spread(axis)
        atoms = [atom for atom in view.axes[axis] if atom.source is not None or atom.size != 1]
        sources = {atom.source for atom in atoms} - {None}
        if not sources:
            return view.resized(axis, size)
        if len(atoms) > 1 or view._count(atoms[0].source) > 1:
            return replace(view, bounded=view.bounded | sources).mixed([axis]).resized(axis, size)
        (source,) = sources
        view = view._with_local(source, view.local[source].gather(*gather, shift))
        return view._with_axis(axis, (Atom(source, size),))

    def reshaped(self, shape) -> View:
        """Row-major, as `keras.ops.reshape`; sizes of -1 are not allowed."""
        atoms = [atom for axis in self.axes for atom in axis if atom.size != 1]
        axes = []
        for size in shape:
            taken, atoms = _take(atoms, size)
            if taken is None:
                return self._dissolved(shape)
            axes.append(_coalesced(taken) or (Atom(None, 1),))
        if atoms:
            return self._dissolved(shape)
        view = replace(self, axes=tuple(axes))
        # An input axis of which only cells of size 1 are left is seen by all units alike.
        gone = [s for s, reach in enumerate(view.local) if reach and not view._count(s)]
        return view._without(gone)

    def transposed(self, order) -> View:
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def collapsed(self) -> View:
        """No axis follows the input any more: each unit sees what all of them saw."""
        return self.mixed(range(len(self.axes)))

    def _dissolved(self, shape):
        """Of another shape, when it cannot be said which unit is which."""
        sources = {atom.source for axis in self.axes for atom in axis} - {None}
        axes = tuple((Atom(None, size),) for size in shape)
        return replace(self.collapsed(), axes=axes, bounded=self.bounded | sources)

    def _count(self, source):
        return sum(atom.source == source for axis in self.axes for atom in axis)

    def units(self, source):
        sizes = [atom.size for axis in self.axes for atom in axis if atom.source == source]
        return None if None in sizes else math.prod(sizes)

    def _with_axis(self, axis, atoms):
        return replace(self, axes=(*self.axes[:axis], tuple(atoms), *self.axes[axis + 1 :]))

    def _with_local(self, source, reach):
        return replace(self, local=(*self.local[:source], reach, *self.local[source + 1 :]))

    def _with_whole(self, source, reach):
        before = self.whole[source]
        reach = union([before, reach]) if before else reach
        return replace(self, whole=(*self.whole[:source], reach, *self.whole[source + 1 :]))

    def _mixed_source(self, source, atoms, keep):
        """Every unit reads all along these atoms of one input axis."""
        reach = self.local[source]
        if len(atoms) < self._count(source):  # a reshape left other parts of the row on axes that are not mixed
            if len(atoms) == 1 and atoms[0].step == 1 and atoms[0].size:  # the inner part, such as that of a patch
                size = atoms[0].size
                view = self._with_local(source, reach.gather(size, (tuple(range(size)),) * (size if keep else 1)))
                return view if keep else view._mapped(lambda atom: _contracted(atom, atoms[0]))
            self = replace(self, bounded=self.bounded | {source})
        if keep:
            return self._with_whole(source, reach.collapse(self.units(source)))
        return self._without([source])

    def _without(self, sources):
        """Rows that no axis follows any more have become part of what every unit sees."""
        view = self
        for source in sources:
            view = view._with_whole(source, view.local[source].collapse(view.units(source)))
            view = view._with_local(source, None)
        return view._mapped(lambda atom: Atom(None, atom.size) if atom.source in sources else atom)

    def _mapped(self, function):
        return replace(self, axes=tuple(tuple(map(function, axis)) for axis in self.axes))

    def _with_minor_channels_spread(self, axis):
        """Channels that a reshape laid beside a row (depth to space): each unit of the row is there several times."""
        atoms = _coalesced([atom for atom in self.axes[axis] if atom.size != 1])
        if len(atoms) != 2 or atoms[0].source is None or atoms[1].source is not None or None in self.shape[axis:][:1]:
            return self
        (source, units, _), (_, copies, _) = atoms
        if self._count(source) > 1 or self.local[source] is None:
            return self
        view = self._with_local(source, self.local[source].gather(1, ((0,),) * copies))
        return view._with_axis(axis, (Atom(source, units * copies),))


def of_input(shape) -> View:
    """The view of the input itself, of the given shape with the batch axis."""
    axes = tuple((Atom(axis - 1 if axis else None, size),) for axis, size in enumerate(shape))
    sources = len(shape) - 1
    return View(axes, (Reach(),) * sources, (None,) * sources)


def constant(shape, sources: int) -> View:
    """The view of a tensor that sees nothing of the input."""
    return View(tuple((Atom(None, size),) for size in shape), (None,) * sources, (None,) * sources)


def unknown(shape, sources: int) -> View:
    """The view of a tensor of which nothing is known."""
    view = constant(shape, sources)
    return replace(view, whole=(Reach(None, None),) * sources)


def merged(views, shape) -> View:
    """Units that read one unit of each view, broadcast to `shape`.

    Raises:
        StrideError: If the views stand at different distances along one input axis.
    """
    views = [_broadcast(view, shape) for view in views]
    owners = [{s: axis for axis, atoms in enumerate(v.axes) for s, *_ in atoms if s is not None} for v in views]
    sources = range(len(views[0].local))
    astray = [s for s in sources if len({_place(v, o, s) for v, o in zip(views, owners, strict=True)} - {None}) > 1]
    views = [view._without([s for s in astray if view.local[s]]) for view in views]
    axes = []
    for axis, size in enumerate(shape):
        following = [view.axes[axis] for view in views if any(atom.source is not None for atom in view.axes[axis])]
        axes.append(max(following, key=len) if following else (Atom(None, size),))
    local, whole, differ = [], [], False
    for source in sources:
        near = [view.local[source] for view in views if view.local[source]]
        far = [view.whole[source] for view in views if view.whole[source]]
        strides = list(dict.fromkeys(reach.stride for reach in near if reach.stride is not None))
        if len(strides) > 1:
            raise StrideError(" and ".join(map(str, strides)))
        local.append(union(near) if near else None)
        whole.append(union(far) if far else None)
        differ |= len(near) > 1 and centres_differ(near)
    bounded = frozenset(astray).union(*(view.bounded for view in views))
    return View(tuple(axes), tuple(local), tuple(whole), bounded, differ)


def _place(view, owner, source):
    """Where a view's row of `source` lies; None: nowhere."""
    if view.local[source] is None or source not in owner:
        return None
    return owner[source], view.axes[owner[source]], view._count(source)


def _broadcast(view, shape):
    view = replace(view, axes=((Atom(None, 1),),) * (len(shape) - len(view.axes)) + view.axes)
    for axis, size in enumerate(shape):
        if view.shape[axis] == 1 and size != 1:
            view = view.mixed([axis]).resized(axis, size)
    return view


def _take(atoms, size):
    """Atoms that make up an axis of `size`, and the rest; (None, None) if no cut gives that size."""
    taken, product = [], 1
    atoms = list(atoms)
    while product != size:
        if not atoms:
            return None, None
        atom = atoms.pop(0)
        if size is None or atom.size is None:
            return ([atom], atoms) if size is None and atom.size is None and not taken else (None, None)
        if product * atom.size > size:
            if size % product or atom.size % (size // product):
                return None, None
            outer = size // product
            inner = atom.size // outer
            atoms.insert(0, Atom(atom.source, inner, atom.step))
            atom = Atom(atom.source, outer, atom.step * inner)
        taken.append(atom)
        product *= atom.size
    return taken, atoms


def _coalesced(atoms):
    """Neighbouring parts of one row, or of channels, as one atom."""
    result = []
    for atom in atoms:
        joined = _joined(result[-1], atom) if result else None
        result[-1:] = [joined] if joined else [*result[-1:], atom]
    return tuple(result)


def _joined(outer, inner):
    if outer.source != inner.source or None in (outer.size, inner.size):
        return None
    if outer.source is None:
        return Atom(None, outer.size * inner.size)
    return Atom(outer.source, outer.size * inner.size, inner.step) if outer.step == inner.step * inner.size else None


def _contracted(atom, gone):
    """An atom after `gone`, the inner part of its row, has been read as one."""
    if atom == gone:
        return Atom(None, atom.size)
    return Atom(atom.source, atom.size, atom.step // gone.size) if atom.source == gone.source else atom
