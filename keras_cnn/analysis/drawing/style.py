"""The colours that all figures share."""

INK = "#1f2328"
FAINT = "#7d858f"
RULE = "#d5d9df"
GREY = "#57606a"
BLUE = "#1f6feb"
ORANGE = "#d97706"
GREEN = "#1a7f4b"
