"""Receptive fields along the calls of a model: the view of each tensor, from the input to the output."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import keras

from keras_cnn.analysis.effects import data_format
from keras_cnn.analysis.rules import rule
from keras_cnn.analysis.view import StrideError, constant, of_input, unknown


@dataclass
class Follower:
    """The views of all tensors so far, and what was found on the way."""

    inputs: list
    views: dict = field(default_factory=dict)
    misaligned: list = field(default_factory=list)
    bounded: list = field(default_factory=list)
    unknown: list = field(default_factory=list)
    channels: int | None = -1

    def __post_init__(self):
        first, *others = self.inputs
        self.sources = len(first.shape) - 1
        self.views[id(first)] = of_input(first.shape)
        self.views.update((id(x), constant(x.shape, self.sources)) for x in others)

    def follow(self, call):
        """Find the views of the call's outputs."""
        if call.parts:
            for part in call.parts:
                self.follow(part)
            return
        views = [self.views[id(x)] for x in call.inputs]
        self._note_channels(call, views)
        view = self._effect(call, views)
        if view is None:
            view = unknown(call.outputs[0].shape, self.sources)
            self.unknown.append((call.name, type(call.operation).__name__))
        if view.misaligned:
            self.misaligned.append(call.name)
        if view.bounded:
            self.bounded.append((call.name, view.bounded))
        self.views[id(call.outputs[0])] = replace(view, misaligned=False, bounded=frozenset())
        for other in call.outputs[1:]:
            self.views[id(other)] = unknown(other.shape, self.sources)

    def notes(self, spatial):
        """Sentences about the calls of which something is not known."""
        for name, kind in self.unknown:
            yield (
                f"{name} ({kind}) is not known and cannot be followed: fields behind it are unknown, and its operations "
                "are not counted."
            )
        for name, sources in self.bounded:
            if sources & set(spatial):
                yield f"{name}: a unit of it may see less than is said here."

    def _effect(self, call, views):
        if not views or len(call.outputs) == 0:
            return constant(call.outputs[0].shape, self.sources)
        known = rule(call.operation)
        try:
            return known and known[0](call, views)
        except StrideError as error:
            raise ValueError(
                f"analyze: {call.name!r} joins branches whose units stand {error} input cells apart; a unit of it has no "
                "one receptive field. Give the branches equal strides."
            ) from None

    def _note_channels(self, call, views):
        """The input axis that the first layer with a data format has as channels; None if its channels are others."""
        form = data_format(call.operation)
        if not views or not any(views[0].local):  # it does not look at the input
            return
        if self.channels != -1 or form is None or isinstance(call.operation, keras.layers.Flatten):
            return
        place = 1 if form == "channels_first" else len(views[0].axes) - 1
        followed = [{atom.source for atom in axis} for axis in views[0].axes]
        elsewhere = set().union(*(followed[:place] + followed[place + 1 :]))
        # Those on the axis of channels alone; or on none, as a reshape leaves a single channel.
        sources = (followed[place] - elsewhere - {None}) or set(range(self.sources)) - elsewhere
        self.channels = sources.pop() if len(sources) == 1 else None

    @property
    def spatial(self):
        """The input axes that are no channels."""
        channels = self.channels
        if channels == -1:
            channels = self.sources - 1 if self.sources > 1 else None
        return [source for source in range(self.sources) if source != channels]
