"""How good a classifier is, and what an exported one answers."""
