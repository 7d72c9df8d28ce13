"""The HTML pages: of a run, and of the doctor; one file each, which opens anywhere because it holds its images."""

from pipelines.report.html import doctor_page, write_report

__all__ = ["doctor_page", "write_report"]
