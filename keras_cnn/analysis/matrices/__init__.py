"""A convolution as a matrix."""
