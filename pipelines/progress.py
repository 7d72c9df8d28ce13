"""Progress bars, and the seconds of each phase of a job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
from rich import progress as bars
from rich.console import Console


class Progress:
    """The phases of a job: a bar while each runs, seconds afterwards.

    Bars are shown on stderr where that is a terminal: output and logs stay clean.

    Attributes:
        visible: As given: whether anything is shown.
        seconds: Phase -> seconds, added up if it comes more than once.
    """

    def __init__(self, visible: bool = True):
        self.visible = visible
        self.seconds: dict[str, float] = {}
        self._expected: Mapping[str, float] = {}
        self._counted: dict[str, float] = {}
        self._job: bars.TaskID | None = None
        console = self._console = Console(stderr=True, quiet=not visible)
        self._bars = bars.Progress(
            bars.TextColumn("{task.description:<23}"),
            bars.BarColumn(bar_width=16),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(elapsed_when_finished=True),
            bars.TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (visible and console.is_terminal),
        )

    @contextmanager
    def shown(self) -> Iterator[Progress]:
        """Show bars within the `with` block."""
        with self._bars:
            yield self

    def report(self, text: str) -> None:
        """A line that stays, above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Show one more bar, of the whole job from now on: it moves by the seconds that were expected, not by those it took.

        Args:
            seconds: Expected seconds per phase, for all its repetitions together. Other phases count nothing.
        """
        self._expected = dict(seconds)
        self._job = self._bars.add_task("The whole job", total=round(sum(seconds.values())), note="seconds as planned")

    @contextmanager
    def phase(self, name: str, total: int = 1) -> Iterator[Callable[..., None]]:
        """One phase; gives a function `advance(count=1, note="")`. What is not counted inside is counted at the end."""
        task = self._bars.add_task(name, total=total, note="")
        start, done = time.perf_counter(), 0

        def advance(count: int = 1, note: str | None = None) -> None:
            nonlocal done
            done += count
            fields: dict[str, Any] = {} if note is None else {"note": note}
            self._bars.update(task, advance=count, **fields)
            self._advance_job(name, count / total if total else 0.0)

        yield advance
        self._bars.update(task, completed=total)
        self._advance_job(name, 1 - done / total if total else 1.0)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def _advance_job(self, name, share):
        """Move the bar of the job by a share of a phase; a phase that comes again moves it no further than was expected."""
        left = self._expected.get(name, 0.0) - self._counted.get(name, 0.0)
        moved = min(left, share * self._expected.get(name, 0.0))
        self._counted[name] = self._counted.get(name, 0.0) + moved
        if self._job is not None:
            self._bars.update(self._job, advance=moved)


class EpochBar(keras.callbacks.Callback):
    """Moves a bar by one at each step of `fit` and shows the validation metric.

    Args:
        advance: From `Progress.phase`.
        metric: The name of the metric to show; None: none.
    """

    def __init__(self, advance: Callable[..., None], metric: str | None):
        super().__init__()
        self._advance, self._metric = advance, metric

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._advance(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = (logs or {}).get(f"val_{self._metric}")
        if self._metric is not None and value is not None:
            self._advance(0, note=f"validation {self._metric.replace('_', ' ')} {value:.3f}")
