"""An analysis as a table and as a figure."""
