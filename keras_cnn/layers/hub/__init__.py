"""SavedModels of TF Hub and Kaggle as a Keras 3 layer."""

from keras_cnn.layers.hub.layer import HubLayer

__all__ = ["HubLayer"]
