"""Errors that the command line prints as one line."""


class InputError(ValueError):
    """Data, a path or an option is wrong. The text says what was expected, what was received and what to do.

    The command line exits with status 2.
    """


class TrainingError(Exception):
    """Training failed. The text says why, and what to do.

    The command line exits with status 1.
    """
