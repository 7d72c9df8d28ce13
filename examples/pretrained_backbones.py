"""Which stage of a pretrained network tells drawings apart? Nearest neighbours in the mean features of each stage.

    python examples/pretrained_backbones.py [HANDLE …]

For each network (default: the one in the package, with its weights and with random ones) and each of its stages: the share
of the sample's drawings whose most similar other drawing is of the same class. Nothing is trained. Handles are those of
`keras_cnn.load_backbone`, such as keras:MobileNetV2, hub:FOLDER or my_model.keras.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_cnn as kc
from pipelines.sample import DIRECTORY

EMBEDDED = "efficientnet_lite0"
BATCH = 32


def drawings(preprocessing):
    """The images of the sample, and the class of each."""
    paths = sorted(DIRECTORY.glob("*/*.png"))
    images = np.stack([kc.images.prepare(path.read_bytes(), preprocessing) for path in paths])
    return images, np.array([path.parent.name for path in paths])


def stage_features(backbone, images):
    """Stage name -> the mean over all positions of its last feature map, `(images, channels)`."""
    pooled = {name: keras.layers.GlobalAveragePooling2D()(x) for name, x in backbone.features().items()}
    return keras.Model(backbone.model.input, pooled).predict(images, batch_size=BATCH, verbose=0)


def neighbours_agree(features, classes):
    """The share of rows whose nearest other row, by the angle between them, is of the same class."""
    features = features - features.mean(0)
    features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-12
    similarity = features @ features.T
    np.fill_diagonal(similarity, -np.inf)
    return float((classes[similarity.argmax(1)] == classes).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("handles", nargs="*", metavar="HANDLE", help="default: efficientnet_lite0, and it untrained")
    handles = parser.parse_args().handles
    keras.utils.set_random_seed(0)
    for handle, weights in [(one, "default") for one in handles] or [(EMBEDDED, "default"), (EMBEDDED, None)]:
        backbone = kc.load_backbone(handle, weights=weights)
        print(
            f"\n{backbone.source}\nimages of {backbone.preprocessing.size}, {backbone.model.count_params():,} parameters"
        )
        images, classes = drawings(backbone.preprocessing)
        features = stage_features(backbone, images)
        for stage in backbone.stages:
            share = neighbours_agree(features[stage.name], classes)
            print(f"{stage.name}  stride {stage.stride or 'none':>4}  {stage.channels:5} channels  {share:6.1%}")


if __name__ == "__main__":
    main()
