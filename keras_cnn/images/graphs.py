"""How the graph is cut up, so that a file costs what its own kind needs."""

from __future__ import annotations

import functools

import tensorflow as tf

# A function that stays one operation in the graph that calls it. Branches are otherwise dissolved into that graph, and
# then each image takes time for all operations of all kinds of files that it is not, and each pipeline to prepare them.
apart = functools.partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})
