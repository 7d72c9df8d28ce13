"""Where several tensors meet: their sums, and one beside the other."""

from __future__ import annotations

from dataclasses import replace

from keras_cnn.analysis.fields.axis_field import centres_apart, chain, union, united
from keras_cnn.analysis.fields.axis_parts import Atom, sources_of
from keras_cnn.analysis.fields.tensor_field import View


class StrideError(ValueError):
    """Branches whose units stand at different distances meet."""


def merged(views, shape) -> View:
    """Units that read one unit of each view, broadcast to `shape`.

    Raises:
        StrideError: If the views stand at different distances along one input axis.
    """
    if len(views) == 1 and views[0].shape == tuple(shape):
        return views[0]
    views = [_broadcast(view, shape) for view in views]
    if _stray(views):
        views = [view.settled() for view in views]
    while stray := _stray(views):  # units see what the other views say, and more
        place, source = stray
        views[place] = views[place].blurred({source})
    axes = [_overlaid([view.axes[axis] for view in views]) for axis in range(len(shape))]
    local, whole, differ = [], [], False
    for source in range(len(views[0].local)):
        near = [view.local[source] for view in views if view.local[source]]
        far = [view.whole[source] for view in views if view.whole[source]]
        strides = dict.fromkeys(abs(reach.stride) for reach in near if reach.stride is not None)
        if len(strides) > 1:
            raise StrideError(" and ".join(map(str, strides)))
        local.append(union(near) if near else None)
        whole.append(union(far) if far else None)
        differ |= centres_apart(near) > 0
    local = _in_parts(views, local)
    return View(tuple(axes), tuple(local), tuple(whole), frozenset().union(*(view.bounded for view in views)), differ)


def _in_parts(views, local):
    """The rows of `merged`, which see the sum of what the views do; along axes that only some follow, each by itself."""
    views = [view for view in views if any(view.local)]
    if len(views) < 2:
        return local
    common = [s for s in range(len(local)) if all(view.local[s] for view in views)]
    together = united([[view.local[s] for s in common] for view in views]) if common else ()
    seen = dict(zip(common, together, strict=True))
    parts = max((len(rows) for rows in seen.values() if rows is not None), default=1)
    alone = [reach and reach.in_one_part(parts) for reach in local]
    return [replace(reach, seen=seen[s]) if s in seen else reach for s, reach in enumerate(alone)]


def besides(view, others) -> View:
    """`view` of which every unit also sees all that any unit of the others does."""
    axes = tuple((Atom(None, size),) for size in view.shape)
    return merged([view, *(replace(one.mixed(range(len(one.axes))), axes=axes) for one in others)], view.shape)


def joined(views, axis, shape) -> View:
    """Units of all views, end to end along `axis`.

    Raises:
        StrideError: As `merged`.
    """
    sources = sources_of(view.axes[axis] for view in views)
    within = {view.within(axis, source) for view in views for source in sources} - {None}
    if len(sources) > 1 or len(within) > 1 or () in within:
        # Parts of one row, or of several, that cannot be strung together.
        parts = [view.blurred({s for s in sources if view.local[s]}).resized(axis, shape[axis]) for view in views]
        return merged(parts, shape)
    source = next(iter(sources), None)
    others = [view if source is None else view.with_local(source, None) for view in views]
    differing = [s for s in range(len(views[0].local)) if _differ(others, s)]
    if source is None:
        if axis == len(shape) - 1 or sources_of(view.axes[-1] for view in views):
            differing = []  # it is the axis of channels
        views = [view.resized(axis, shape[axis]) for view in views]
    else:
        ((inner, _),) = within
        rows = chain([(view.local[source], view.shape[axis] and view.shape[axis] * inner) for view in views])
        whole = Atom(source, shape[axis], inner)
        views = [
            view.with_local(source, row).with_axis(axis, (whole if row else Atom(None, shape[axis]),))
            for view, row in zip(views, rows, strict=True)
        ]
    view = merged(views, shape)
    return replace(view, bounded=view.bounded | {frozenset((s, source)) - {None} for s in differing})


def _differ(views, source):
    """Whether units of the views see different cells of one input axis, as far as they see it."""
    local = {view.local[source].key for view in views if view.local[source]}
    whole = {view.whole[source] and view.whole[source].key for view in views if any(view.local) or any(view.whole)}
    return max(len(local), len(whole)) > 1


def _stray(views):
    """The number of a view, and an input axis that runs along it otherwise than along the others; None: there is none."""
    for source in range(len(views[0].local)):
        places = {number: _place(view, source) for number, view in enumerate(views) if view.local[source]}
        first = min(places.values(), key=lambda place: place[0][0], default=None)
        if stray := [number for number, place in places.items() if place != first]:
            return stray[0], source
    for axis in range(len(views[0].axes)):
        followed = {number: view.axes[axis] for number, view in enumerate(views) if sources_of([view.axes[axis]])}
        cuts = [[atom.size for atom in atoms] for atoms in followed.values()]
        if stray := [number for number, sizes in zip(followed, cuts, strict=True) if sizes != cuts[0]]:
            return stray[0], min(sources_of([followed[stray[0]]]))
    return None


def _place(view, source):
    """Where a view's row of `source` lies, as the axes with the atoms of no other one."""
    return tuple(
        (axis, tuple(atom if atom.source == source else Atom(None, atom.size) for atom in atoms))
        for axis, atoms in enumerate(view.axes)
        if source in sources_of([atoms])
    )


def _overlaid(axes):
    """One axis of several tensors, as cut in those where it follows the input, with what it follows in any."""
    followed = [atoms for atoms in axes if sources_of([atoms])] or axes[:1]
    return tuple(max(atoms, key=lambda atom: atom.source is not None) for atoms in zip(*followed, strict=True))


def _broadcast(view, shape):
    view = replace(view, axes=((Atom(None, 1),),) * (len(shape) - len(view.axes)) + view.axes)
    for axis, size in enumerate(shape):
        if view.shape[axis] == 1 and size != 1:
            view = view.mixed([axis]).resized(axis, size)
    return view
