"""The HTML report of a run: one file that opens anywhere, with all its pictures inside."""

from pipelines.report.html import write_report

__all__ = ["write_report"]
