"""The files of a SavedModel, as text that fits into the config of a layer."""

from __future__ import annotations

import base64
import io
import tempfile
import weakref
import zipfile
from pathlib import Path
from typing import Any

import keras

from keras_cnn import safety
from keras_cnn.arguments import join_some
from keras_cnn.scratch import ScratchFolder


class Program(str):
    """A SavedModel without the values of its variables: a zip archive in base64.

    A string, because the config of a layer is stored as JSON. In memory it also refers to its layer: a copy of that
    layer, which Keras makes from the config, needs neither trust nor the original directory. A file drops the reference.
    """

    layer: keras.layers.Layer | None = None

    @classmethod
    def of(cls, layer: keras.layers.Layer, text: str) -> Program:
        """The program `text` of `layer`."""
        program = cls(text)
        program.layer = layer
        return program

    @classmethod
    def read(cls, layer: keras.layers.Layer, directory: Path) -> Program:
        """The program of the SavedModel in `directory`, which `layer` uses."""
        files = [directory / "saved_model.pb", directory / "fingerprint.pb", *(directory / "assets").rglob("*")]
        buffer = io.BytesIO()
        # A zip archive cannot hold dates before 1980, which unpacked files may have.
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for path in sorted(filter(Path.is_file, files)):
                archive.write(path, path.relative_to(directory))
        return cls.of(layer, base64.b64encode(buffer.getvalue()).decode())

    def unpack(self) -> Path:
        """A directory with the files. It exists as long as `layer`: an export copies the files of lookup tables."""
        folder = ScratchFolder(tempfile.gettempdir(), ".keras_cnn-unpacked-")
        weakref.finalize(self.layer, folder.close)
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(self))) as archive:
            archive.extractall(folder.path)
        return folder.path

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self  # Keras makes deep copies of configs; the layer must not be copied with them


def require_harmless(handle: str, directory: Path) -> None:
    """Raise if the SavedModel may do more than compute, before anything of it is loaded."""
    found = safety.suspicions(safety.read(directory), directory)
    if found:
        raise ValueError(
            f"HubLayer: the module must do nothing but compute. Received: {handle!r}, which may do more: "
            f"{join_some(found, 5, '; ')}. It was not loaded. If you trust where it comes from, say so by trust=True, which "
            "HubLayer and load_backbone take."
        )


def check_trust() -> None:
    """ValueError if Keras loads in safe mode.

    Safe mode has no public name, so this tries to load a Lambda, which safe mode does not allow.
    """
    config = keras.layers.Lambda(lambda x: x, name="safe_mode_probe").get_config()
    try:
        keras.layers.Lambda.from_config(config)
    except ValueError:
        raise ValueError(
            "HubLayer: the file holds a SavedModel, which is a program and runs with all your rights. If you trust its "
            "author, load it with keras.models.load_model(path, safe_mode=False)."
        ) from None
