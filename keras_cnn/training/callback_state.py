"""What a callback remembers, kept as plain values and arrays, and put back into another one that was made alike.

Keras makes some of it as late as it is needed: `EarlyStopping` and `ReduceLROnPlateau` choose a function that compares at the
end of the first epoch, and change the sign of a number as they do. So all that changes is kept, functions as well.
"""

from __future__ import annotations

import hashlib
import json
import warnings

import keras

from keras_cnn.training.plain_values import attributes, put_back, to_plain


class CallbackState:
    """The attributes of a callback that change in training; all others are as the script makes them.

    Args:
        callback: As it is before `fit`.
    """

    def __init__(self, callback: keras.callbacks.Callback):
        self._callback, self._warned = callback, set()
        self._made = self._begun = self._marks()

    def begin(self) -> None:
        """`on_train_begin` has run: what it makes, such as an open file, it makes again."""
        self._begun = self._marks()

    def save(self, arrays: list) -> dict:
        """What has changed, as JSON takes it; its arrays go to the end of `arrays`."""
        kept = {}
        for name, (mark, unkept) in self._marks().items():
            if unkept and mark != self._begun.get(name, (None,))[0]:
                self._warn_of(name, unkept)
            elif not unkept and not mark == self._made.get(name, (None,))[0] == self._begun.get(name, (None,))[0]:
                kept[name] = to_plain(vars(self._callback)[name], arrays, self._skipped())
        return kept

    def restore(self, kept: dict, arrays: list) -> None:
        """Put back what `save` gave."""
        put_back(self._callback, kept, arrays)

    def _marks(self):
        return {name: _mark(value, self._skipped()) for name, value in attributes(self._callback).items()}

    def _skipped(self):
        """ids of the variables of the model, which are kept with it."""
        model = getattr(self._callback, "_model", None)  # of one that does not call its base class
        return frozenset(map(id, model.variables)) if model else frozenset()

    def _warn_of(self, name, unkept):
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                "ExactResume: what changes in `callbacks` must be plain values, arrays, variables or functions of a module. "
                f"Received: {type(self._callback).__name__}, whose `{name}` has changed and holds an object of class {unkept}: "
                "it is not kept, and after an interruption it is as at the beginning. Keep plain values there, or leave the "
                "callback out of `callbacks`.",
                stacklevel=2,
            )


def _mark(value, skipped):
    """A digest that another value does not have, and the class of what cannot be kept in it, or None."""
    arrays, unkept = [], []
    plain = to_plain(value, arrays, skipped, unkept)
    digest = hashlib.sha256(json.dumps([plain, [(str(x.dtype), x.shape) for x in arrays]]).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest(), unkept[0] if unkept else None
