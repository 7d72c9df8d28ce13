"""Operations on files that fail at any place: as if the process was killed there, or the disk was full from there on."""

import builtins
import errno
import io
import os
import warnings

CHANGING = ("rename", "replace", "unlink", "remove", "mkdir", "rmdir", "fsync", "link", "symlink", "utime", "truncate")
TAKING_ROOM = ("mkdir", "fsync", "link", "symlink", "open")


class Killed(BaseException):
    """The process is dead: no `except`, no `finally` and no exit has an effect on files any more."""


class Files:
    """Within `with Files(monkeypatch, ...)`, counts the operations that change files.

    Args:
        monkeypatch: Of pytest.
        at: The number of the operation that fails, from 1 on, and with it what follows; None: none fails.
        full: Whether the disk is full from there on; otherwise the process is dead.

    Attributes:
        count: Operations until now.
        failed: Whether that operation was reached.
    """

    def __init__(self, monkeypatch, at=None, full=False):
        self._context, self._at, self._full = monkeypatch.context(), at, full
        self.count, self.failed, self._open, self._torn = 0, False, [], []

    def __enter__(self):
        patch = self._context.__enter__()
        for name in CHANGING:
            patch.setattr(os, name, self._counted(name, getattr(os, name)))
        patch.setattr(
            os, "open", self._counted("open", os.open, lambda _, flags, *__: flags & (os.O_WRONLY | os.O_RDWR))
        )
        opened = self._counted(
            "open", io.open, lambda file, mode="r", *_: isinstance(mode, str) and set(mode) & set("wxa+")
        )
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        warnings.simplefilter("ignore", ResourceWarning)  # a dead process closes nothing
        return self

    def __exit__(self, kind, error, trace):
        self._context.__exit__(kind, error, trace)
        for file, length in self._torn:  # of what was being written, half has come to the disk
            if os.path.exists(file):
                os.truncate(file, length)
        return kind is Killed

    def _counted(self, name, function, counts=lambda *_: True):
        def call(*arguments, **options):
            if counts(*arguments, *(options[key] for key in ("mode", "flags") if key in options)):
                self._operation(name)
            result = function(*arguments, **options)
            if function is io_open and not isinstance(arguments[0], int):
                self._open.append(result)
            return result

        return call

    def _operation(self, name):
        self.count += 1
        if self._at is None or self.count < self._at:
            return
        if not self.failed:
            self.failed = True
            self._tear()
        if not self._full:
            raise Killed
        if name in TAKING_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _tear(self):
        if self._full:
            return
        for file in self._open:
            if not file.closed and file.writable():
                self._torn.append((file.name, file.tell() // 2))


io_open = io.open
