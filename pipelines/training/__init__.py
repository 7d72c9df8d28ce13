"""From a pretrained network to a classifier: cached features, the head, `model.fit`, exact resume."""
