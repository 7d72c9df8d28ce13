"""What a job has decided from the data, and why: for the summary and the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Decision:
    """One choice that the user left to the job.

    Attributes:
        name: Of the setting, or of the result, as in `settings.json` and `metrics.json`.
        value: What was chosen.
        reason: Why, a clause with the figures.
    """

    name: str
    value: Any
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """One line."""
        return f"{self.name.replace('_', ' ')} {format_choice(self.value)}: {self.reason}"


def format_choice(value: Any) -> str:
    """A chosen value, for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")
