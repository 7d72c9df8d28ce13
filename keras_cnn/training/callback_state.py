"""The attributes of a callback that change in training, saved as plain values and arrays and restored into a new callback.

Keras makes some of them late: `EarlyStopping` and `ReduceLROnPlateau` select their comparison function at the end of the
first epoch, and change the sign of a number then. So every attribute that changes is saved, functions too.
"""

from __future__ import annotations

import hashlib
import json
import warnings

import keras
import numpy as np

from keras_cnn.keras_internals import model_of
from keras_cnn.training.plain_values import attributes, restore_attributes, to_plain


class CallbackState:
    """The attributes of a callback that change in training; all others come from the script that makes it.

    Args:
        callback: As it is before `fit`.
    """

    def __init__(self, callback: keras.callbacks.Callback):
        self._callback = callback
        self._warned: set[str] = set()
        self._when_made = self._at_start = self._digests()

    def begin(self) -> None:
        """Note the attributes after `on_train_begin`, which makes its own again, such as an open file."""
        self._at_start = self._digests()

    def save(self, arrays: list[np.ndarray]) -> dict:
        """The attributes that have changed, as JSON takes them; their arrays are appended to `arrays`."""
        saved = {}
        for name, (digest, unsupported) in self._digests().items():
            when_made, at_start = (digests.get(name, (None,))[0] for digests in (self._when_made, self._at_start))
            if unsupported and digest != at_start:
                self._warn_of(name, unsupported)
            elif not unsupported and not digest == when_made == at_start:
                saved[name] = to_plain(vars(self._callback)[name], arrays, self._skipped())
        return saved

    def restore(self, saved: dict, arrays: list[np.ndarray]) -> None:
        """Set the attributes that `save` returned."""
        restore_attributes(self._callback, saved, arrays)

    def _digests(self):
        return {name: _digest(value, self._skipped()) for name, value in attributes(self._callback).items()}

    def _skipped(self):
        """ids of the model's variables, which the checkpoint holds already."""
        model = model_of(self._callback)
        return frozenset(map(id, model.variables)) if model is not None else frozenset()

    def _warn_of(self, name, unsupported):
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                "ExactResume: what changes in `callbacks` must be plain values, arrays, variables or functions of a module. "
                f"Received: {type(self._callback).__name__}, whose `{name}` has changed and holds an object of class "
                f"{unsupported}, which is not saved: a resumed job starts with its initial value. Keep plain values there, or "
                "leave the callback out of `callbacks`.",
                stacklevel=2,
            )


def _digest(value, skipped):
    """A digest that differs for every other value, and the class of the first part that cannot be saved, or None."""
    arrays, unsupported = [], []
    plain = to_plain(value, arrays, skipped, unsupported)
    digest = hashlib.sha256(json.dumps([plain, [(str(x.dtype), x.shape) for x in arrays]]).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest(), unsupported[0] if unsupported else None
