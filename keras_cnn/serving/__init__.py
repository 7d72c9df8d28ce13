"""SavedModels for TF Serving, written atomically and proved before they get their name."""

from keras_cnn.serving.publishing import export
from keras_cnn.serving.verification import Verification, VerificationError, verify

__all__ = ["Verification", "VerificationError", "export", "verify"]
