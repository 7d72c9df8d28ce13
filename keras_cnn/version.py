"""The version, in a module that imports nothing, so that building a wheel does not import Keras."""

__version__ = "0.1.0"
