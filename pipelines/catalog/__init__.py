"""Where examples come from: one table of image files with label, split, group, and the reason for every excluded file."""

from pipelines.catalog.opening import open_data
from pipelines.catalog.splits import SPLITS
from pipelines.catalog.table import COLUMNS, Catalog

__all__ = ["COLUMNS", "SPLITS", "Catalog", "open_data"]
