"""The files of a SavedModel, as text that the config of a layer can hold."""

from __future__ import annotations

import base64
import io
import tempfile
import weakref
import zipfile
from pathlib import Path

import keras

from keras_cnn import safety
from keras_cnn.scratch import ScratchFolder


class Program(str):
    """A SavedModel without the values of its variables: a zip archive in base64.

    Until it has been through a file it also knows the layer that it belongs to, so that a copy of that layer, which Keras
    makes from the config, needs neither trust nor the original folder.
    """

    layer = None

    @classmethod
    def of(cls, layer, text: str) -> Program:
        program = cls(text)
        program.layer = layer
        return program

    @classmethod
    def read(cls, layer, directory: Path) -> Program:
        files = [directory / "saved_model.pb", directory / "fingerprint.pb", *(directory / "assets").rglob("*")]
        buffer = io.BytesIO()
        # An archive cannot hold dates before 1980, which unpacked files may well have.
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for path in sorted(filter(Path.is_file, files)):
                archive.write(path, path.relative_to(directory))
        return cls.of(layer, base64.b64encode(buffer.getvalue()).decode())

    def unpack(self) -> Path:
        """A folder with the files. It stays as long as `layer` does: an export copies the files of lookup tables."""
        folder = ScratchFolder(tempfile.gettempdir(), ".keras_cnn-unpacked-")
        weakref.finalize(self.layer, folder.close)
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(self))) as archive:
            archive.extractall(folder.path)
        return folder.path

    def __deepcopy__(self, memo):
        return self  # Keras copies configs deeply, which must not copy the layer


def require_harmless(handle: str, directory: Path) -> None:
    """Raise if the SavedModel may do more than compute, before anything of it is loaded."""
    found = safety.suspicions(safety.read(directory), directory)
    if found:
        raise ValueError(
            f"HubLayer: the module must do nothing but compute. Received: {handle!r}, which may do more: "
            f"{'; '.join(found[:5])}. It was not loaded. If you trust where it comes from, say so by trust=True, which "
            "HubLayer and load_backbone take."
        )


def demand_trust() -> None:
    """Raise where Keras would not load a Lambda either.

    Its safe mode has no public name, so a Lambda is sent ahead.
    """
    config = keras.layers.Lambda(lambda x: x, name="sent_ahead").get_config()
    try:
        keras.layers.Lambda.from_config(config)
    except ValueError:
        raise ValueError(
            "HubLayer: what is being loaded holds a SavedModel, which is a program and runs with all your rights. If you "
            "trust the one who made it, load it by keras.models.load_model(path, safe_mode=False)."
        ) from None
