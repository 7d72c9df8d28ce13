"""Whether a SavedModel does nothing but compute, by its files alone: nothing of it is loaded or run.

A SavedModel is a program. Loading it runs what the object graph names, not only what a signature reaches: initialisers,
functions that save and restore, and every function of the library may be called by one of these. So each node of the graph
and of all its functions must be one of the operations that only compute (`operations.txt`). The operations that save and
restore variables are the one exception, where TensorFlow's own saver has them and nothing else can run them (`saver.py`).
That is a check of what a model asks for, not a sandbox: a model from a stranger can still use up memory and time, or make use
of a fault in a kernel of TensorFlow.
"""

from keras_cnn.safety.saved_model import nodes_of, read, suspicions
from keras_cnn.safety.saver import node_of

__all__ = ["node_of", "nodes_of", "read", "suspicions"]
