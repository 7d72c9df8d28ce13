"""How far float32 rounds the probabilities of an exported network, and how much of the limit of `export` that takes.

    python benchmarks/float32_rounding.py [--networks EfficientNetLite0,MobileNetV2] [--json]

Each network gets a random linear head whose kernel is scaled so that the logits of one photo have at most the range in the
row. `keras_cnn.export` writes the network, and its fresh process runs it on the synthetic images that a version stores and on
photos of scikit-image. EfficientNet-Lite0 has its embedded weights. The weights of the others are random, with the statistics
of their batch norms from one pass over noise, so that features differ between images and are as large as in training.

"limit used" is the largest difference of a logit as a share of the limit of `export`, on photos and synthetic images; it
follows for the synthetic images alone, as in `keras-cnn verify`.
"""

import io
import tempfile
from pathlib import Path

import harness
import keras
import numpy as np
from PIL import Image
from skimage import data

import keras_cnn as kc
from keras_cnn.serving import examples, verification

SIDE = 224
PHOTOS = (
    *("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "hubble_deep_field"),
    *("immunohistochemistry", "moon", "retina", "rocket"),
)
# Network -> number of classes, range of the logits.
HEADS = {
    "EfficientNetLite0": [(classes, size) for classes in (3, 81, 1000) for size in (5, 50, 500)],
    "MobileNetV2": [(81, 50)],
    "ResNet50": [(81, 50)],
    "DenseNet121": [(81, 50)],
    "EfficientNetV2B0": [(81, 50)],
}


def photo(name):
    """The content of a PNG file of the size of the networks."""
    buffer = io.BytesIO()
    image = Image.fromarray(getattr(data, name)()).convert("RGB")
    image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def body(name):
    """Images 0..255 -> features."""
    keras.utils.set_random_seed(0)
    if name == "EfficientNetLite0":
        backbone = kc.load_backbone("efficientnet_lite0").model
        return keras.Model(backbone.input, keras.layers.GlobalAveragePooling2D()(backbone.output))
    network = getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(SIDE, SIDE, 3)
    )
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    network(np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE, 3)).astype("float32"), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return network


def with_head(network, features, classes, size):
    """A classifier whose logits have a range of at most `size` for each of the photos with these features."""
    kernel = np.random.default_rng(classes).normal(size=(features.shape[1], classes))
    kernel *= size / np.ptp(features @ kernel, axis=1).max()
    dense = keras.layers.Dense(classes, "softmax")
    model = keras.Model(network.input, dense(network.output))
    dense.set_weights([kernel, np.zeros(classes)])
    return model


def measure(model, contents, folder):
    """The differences that the fresh process finds in the exported model."""
    preprocessing = kc.Preprocessing(SIDE)
    version = kc.export(model, folder, preprocessing=preprocessing, examples=contents)
    reference = examples.keras_reference(model, preprocessing)
    both = verification._run(version, [reference.record(content) for content in contents])
    pairs = np.array([*both["differences"]["serving_default"], *both["example_differences"]])
    found = {"largest_logit": both["largest_logit"], "probability": pairs[:, 0].max(), "logit": pairs[:, 1].max()}
    found["logit / largest"] = found["logit"] / found["largest_logit"]
    found["limit_used"] = found["logit"] / verification.float32_limit(both["largest_logit"])
    synthetic = verification._run(version, ())
    differences = np.array(synthetic["differences"]["serving_default"])[:, 1]
    found["synthetic_alone"] = differences.max() / verification.float32_limit(synthetic["largest_logit"])
    return {**found, "features": both["differences"]["features"][0][0]}


def rows(name):
    """A row for each head of a network."""
    network, contents = body(name), [photo(one) for one in PHOTOS]
    images = np.stack([kc.images.prepare(content, kc.Preprocessing(SIDE)) for content in contents])
    features = network.predict(images, verbose=0)
    for classes, size in HEADS[name]:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(with_head(network, features, classes, size), contents, Path(folder, "model"))
        yield {"network": name, "classes": classes, "range": size, **found}


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--networks", default=",".join(HEADS), help="names with commas (default: %(default)s)")
    options = parser.parse_args()
    found = (row for name in options.networks.split(",") for row in rows(name))
    harness.show(harness.echo(found), options.json)


if __name__ == "__main__":
    main()
