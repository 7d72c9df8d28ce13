"""What moves one output of a network: gradients as maps over the image."""
