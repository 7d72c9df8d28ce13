"""Progress bars and the time that each step took."""

from __future__ import annotations

import time
from contextlib import contextmanager

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Steps:
    """The steps of a job: a bar while each runs, seconds afterwards.

    Bars are shown on stderr where that is a terminal: output and logs stay clean.

    Attributes:
        seconds: Dict of step -> seconds, in all if it comes more than once.
    """

    def __init__(self, visible: bool = True):
        self.seconds: dict[str, float] = {}
        console = self._console = Console(stderr=True, quiet=not visible)
        self._progress = Progress(
            TextColumn("{task.description:<23}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (visible and console.is_terminal),
        )

    @contextmanager
    def shown(self):
        """Show bars within the `with` block."""
        with self._progress:
            yield self

    def report(self, text: str) -> None:
        """A line that stays, above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str, total: int = 1):
        """One step; gives a function `advance(count=1, note="")`. What is not counted inside is counted at the end."""
        task = self._progress.add_task(name, total=total, note="")
        start = time.perf_counter()
        yield lambda count=1, note=None: self._progress.update(
            task, advance=count, **({} if note is None else {"note": note})
        )
        self._progress.update(task, completed=total)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class EpochBar(keras.callbacks.Callback):
    """Moves a bar by one at each step of `fit` and notes what validation says.

    Args:
        advance: From `Steps.step`.
        measure: The name of the metric that is noted.
    """

    def __init__(self, advance, measure: str):
        super().__init__()
        self._advance, self._measure = advance, measure

    def on_train_batch_end(self, batch, logs=None):
        self._advance(1)

    def on_epoch_end(self, epoch, logs=None):
        value = logs.get(f"val_{self._measure}")
        if value is not None:
            self._advance(0, note=f"validation {self._measure.replace('_', ' ')} {value:.3f}")
