"""Images that can be recognized in batches, and a comparison of batches."""

import numpy as np

SIZE = (8, 6)


def numbered(count, size=SIZE):
    """A uint8 array of random images; all channels of the first pixel of an image are its index."""
    images = np.random.default_rng(1).integers(0, 256, (count, *size, 3), "uint8")
    images[:, 0, 0] = np.arange(count)[:, None]
    return images


def batches_are_equal(one, other):
    """Whether two lists of batches are equal, bit for bit."""
    pairs = list(zip(one, other, strict=True))
    return all(np.array_equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))
