"""The one kind of error that is the input's fault: the command line turns it into one line and exit status 2."""


class InputError(ValueError):
    """Data, a path or an option that no job can work with; the text says what, what was expected and what to do."""
