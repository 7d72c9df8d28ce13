"""Receptive fields along the calls of a model: the view of each tensor, from the input to the output."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import keras

from keras_cnn.analysis.fields.axis_parts import sources_of, torn
from keras_cnn.analysis.fields.layer_rules import data_format
from keras_cnn.analysis.fields.merging import StrideError
from keras_cnn.analysis.fields.registry import rule
from keras_cnn.analysis.fields.tensor_field import constant, each, of_input, unknown
from keras_cnn.analysis.formatting import some

ATTENTION = (
    keras.layers.AdditiveAttention,
    keras.layers.Attention,
    keras.layers.GroupQueryAttention,
    keras.layers.MultiHeadAttention,
)


@dataclass
class Follower:
    """The views of all tensors so far, and what was found on the way."""

    inputs: list
    views: dict = field(default_factory=dict)
    misaligned: list = field(default_factory=list)
    bounded: list = field(default_factory=list)
    scattered: list = field(default_factory=list)
    apart: dict = field(default_factory=dict)
    unknown: list = field(default_factory=list)
    channels: int | None = -1
    channels_first: bool = False

    def __post_init__(self):
        first, *others = self.inputs
        self.sources = len(first.shape) - 1
        self.views[id(first)] = of_input(first.shape)
        self.views.update((id(x), constant(x.shape, self.sources)) for x in others)

    def follow(self, call):
        """Find the views of the call's outputs."""
        if call.parts:
            noted = len(self.bounded)
            for part in call.parts:
                self.follow(part)
            if type(call.operation) in ATTENTION:  # scores see less than all, what is made of them does not
                del self.bounded[noted:]
                if call.kwargs.get("use_causal_mask"):
                    self.bounded.append((call.name, each(range(self.sources))))
            return
        before = [self.views[id(x)] for x in call.inputs]
        self._note_channels(call, before)
        found = self._effect(call, before)
        if found is None:
            found = [unknown(x.shape, self.sources) for x in call.outputs]
            known = rule(call.operation)
            counted = known is not None and known[1](call).macs is not None
            self.unknown.append((call.name, type(call.operation).__name__, counted))
        for tensor, view in zip(call.outputs, found, strict=True):
            self.views[id(tensor)] = replace(view, misaligned=False, bounded=frozenset())
            self._note(call, tensor, view)

    def placed(self, tensor):
        """`View.placed` of the view of a tensor."""
        return self.views[id(tensor)].placed(self.spatial, 1 if self.channels_first else len(tensor.shape) - 1)

    def notes(self, spatial):
        """Sentences about the calls of which something is not known."""
        unknown = {}
        for name, *of in self.unknown:
            unknown.setdefault(tuple(of), []).append(name)
        for (kind, counted), names in unknown.items():
            names = list(dict.fromkeys(names))
            are, them, their = ("is", "it", "its") if len(names) == 1 else ("are", "them", "their")
            cost = "" if counted else f", and {their} operations are not counted"
            fields = f"fields behind {them} are unknown{cost}"
            yield f"{some(names)} ({kind}) {are} not known and cannot be followed: {fields}."
        bounded = [name for name, sources in self.bounded if any(together <= set(spatial) for together in sources)]
        if bounded:
            yield f"{some(dict.fromkeys(bounded))}: a unit there, and of what follows, may see less than is said here."
        scattered = [name for name, sources in self.scattered if sources & set(spatial)]
        if scattered:
            yield (
                f"{some(dict.fromkeys(scattered))}: units there do not lie one stride apart, so that no one size, stride and "
                "padding is theirs, until a layer puts them in order; `Row.box` has the cells of each."
            )

    def _note(self, call, tensor, view):
        """What is to be said of an output."""
        if view.misaligned:
            self.misaligned.append(call.name)
        if view.bounded:
            self.bounded.append((call.name, view.bounded))
        places = self.placed(tensor)[1]
        found = view.scattered | {self.spatial[place] for place in torn(places)}
        if found.difference(*(self.apart.get(id(x), ()) for x in call.inputs)):
            self.scattered.append((call.name, found))
        self.apart[id(tensor)] = found

    def _effect(self, call, views):
        if not views or len(call.outputs) == 0:
            return [constant(x.shape, self.sources) for x in call.outputs]
        known = rule(call.operation)
        try:
            found = known and known[0](call, views)
        except StrideError as error:
            raise ValueError(
                f"analyze: {call.name!r} joins branches whose units stand {error} input cells apart; a unit of it has no "
                "one receptive field. Give the branches equal strides."
            ) from None
        found = found if isinstance(found, list) or found is None else [found]
        # Keras does not always say the shape of what it gives; then it is not known what came of it.
        return found if found and all(map(_agree, found, call.outputs)) else None

    def _note_channels(self, call, views):
        """The input axis that the first layer with a data format has as channels; None if its channels are others."""
        form = data_format(call.operation)
        if not views or not any(views[0].local):  # it does not look at the input
            return
        if self.channels != -1 or form is None or isinstance(call.operation, keras.layers.Flatten):
            return
        self.channels_first = form == "channels_first"
        place = 1 if self.channels_first else len(views[0].axes) - 1
        view = views[0]
        alone = sources_of([view.axes[place]]) - sources_of(axis for n, axis in enumerate(view.axes) if n != place)
        whole = {source for source in alone if view.units(source) == self.inputs[0].shape[source + 1]}
        # As the input has it; or on no axis, as a reshape leaves a single channel; or cut or tiled.
        choices = (whole, set(range(self.sources)) - sources_of(view.axes), alone)
        self.channels = next((next(iter(found)) for found in choices if len(found) == 1), None)

    @property
    def spatial(self):
        """The input axes that are no channels."""
        channels = self.channels
        if channels == -1:
            channels = self.sources - 1 if self.sources > 1 else None
        return [source for source in range(self.sources) if source != channels]


def _agree(view, tensor):
    """Whether a view is that of a tensor of this shape."""
    sizes = zip(view.shape, tensor.shape, strict=False)
    return len(view.axes) == len(tensor.shape) and all(one == other or None in (one, other) for one, other in sizes)
