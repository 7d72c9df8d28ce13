"""Whether a SavedModel only computes, found out from its files alone: nothing of it is loaded or run.

A SavedModel is a program. Loading it runs what the object graph names, not only what a signature reaches: initialisers and
functions that save and restore, which may call any function of the library. So each node of the graph and of all its
functions must be one of the operations that only compute (`operations.txt`). The only exceptions are the operations that save
and restore variables, where they belong to TensorFlow's own saver and nothing else can run them (`saver.py`).

This checks what a model asks for; it is not a sandbox. A model from a stranger can still use up memory and time, or exploit a
bug in a kernel of TensorFlow.
"""

from keras_cnn.safety.saved_model import nodes_of, read, suspicions
from keras_cnn.safety.saver import node_of

__all__ = ["node_of", "nodes_of", "read", "suspicions"]
