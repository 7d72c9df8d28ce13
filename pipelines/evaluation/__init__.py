"""How good a classifier is, and the predictions of an exported version."""
