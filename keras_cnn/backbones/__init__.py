"""Pretrained networks, all in one record."""

from keras_cnn.backbones.backbone import Backbone, Source, Stage
from keras_cnn.backbones.loading import load_backbone

__all__ = ["Backbone", "Source", "Stage", "load_backbone"]
