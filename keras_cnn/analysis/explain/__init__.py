"""What moves one output of a network."""
