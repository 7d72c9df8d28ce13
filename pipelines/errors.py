"""Errors that the command line turns into one line."""


class InputError(ValueError):
    """Data, a path or an option that no job can work with; the text says what, what was expected and what to do.

    Exit status 2.
    """


class TrainingError(Exception):
    """Training broke down; the text says how, and what to do.

    Exit status 1.
    """
