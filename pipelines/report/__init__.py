"""The HTML pages of a run and of the doctor. Each is one file with all its images inside."""

from pipelines.report.html import doctor_page, write_report

__all__ = ["doctor_page", "write_report"]
