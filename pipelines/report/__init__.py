"""The HTML pages: of a run, and of the doctor; one file each that opens anywhere, with all its pictures inside."""

from pipelines.report.html import doctor_page, write_report

__all__ = ["doctor_page", "write_report"]
