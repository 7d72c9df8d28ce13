"""One file per command of `keras-cnn`: its options, and what it prints."""
