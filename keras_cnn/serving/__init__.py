"""SavedModels for TF Serving: written completely and verified before they get their name."""

from keras_cnn.serving.inspection import Inspection, inspect
from keras_cnn.serving.precisions import PRECISIONS
from keras_cnn.serving.publishing import export
from keras_cnn.serving.verification import Verification, VerificationError, verify
from keras_cnn.serving.version_folder import FolderError

__all__ = [
    "PRECISIONS",
    "FolderError",
    "Inspection",
    "Verification",
    "VerificationError",
    "export",
    "inspect",
    "verify",
]
