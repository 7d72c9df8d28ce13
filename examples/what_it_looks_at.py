"""What a network looks at: the evidence for a class (Grad-CAM), and how the field of a unit grows with depth.

    python examples/what_it_looks_at.py --image photo.jpg --out cat

writes cat_evidence.png and cat_fields.png, for the embedded ImageNet network. Half a minute on two cores. Without
--image it is the photo of a cat in scikit-image (`pip install scikit-image`).
"""

import argparse
import io
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import keras_cnn as kc
from keras_cnn.analysis import plot_effective_field, plot_grad_cam
from keras_cnn.backbones.efficientnet_lite import SIZE, imagenet_classifier

NAMES = {281: "tabby", 282: "tiger cat", 285: "Egyptian cat", 287: "lynx", 967: "espresso"}
STAGES = ("stage2", "stage3", "stage4")
SHIFTS = range(-8, 9, 4)


def read(path) -> bytes:
    if path:
        return Path(path).read_bytes()
    from skimage import data

    file = io.BytesIO()
    Image.fromarray(data.cat()).save(file, "png")
    return file.getvalue()


def shifted(image) -> np.ndarray:
    """The image, and itself moved by some pixels: a field is an average over images."""
    moves = [(0, 0)] + [(down, right) for down in SHIFTS for right in SHIFTS if (down, right) != (0, 0)]
    return np.stack([np.roll(image, move, axis=(0, 1)) for move in moves])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", help="photo (default: the cat of scikit-image)")
    parser.add_argument("--classes", type=int, default=2, help="how many classes, likely ones first (default: 2)")
    parser.add_argument("--out", default="what_it_looks_at", help="beginning of the file names (default: %(default)s)")
    arguments = parser.parse_args()

    image = keras.ops.convert_to_numpy(
        kc.images.prepare(read(arguments.image), kc.Preprocessing((SIZE, SIZE), "cover"))
    )
    classifier = imagenet_classifier()
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(classifier(image[None])))[0]
    likely = [int(index) for index in probabilities.argsort()[::-1][: arguments.classes]]
    classes = {f"{NAMES.get(index, f'class {index}')}: {probabilities[index]:.0%}": index for index in likely}
    plot_grad_cam(classifier, image, classes, f"{arguments.out}_evidence.png")

    backbone = kc.load_backbone("efficientnet_lite0").model
    plot_effective_field(backbone, shifted(image), STAGES, f"{arguments.out}_fields.png")
    print(f"{', '.join(classes)}\nwrote {arguments.out}_evidence.png and {arguments.out}_fields.png")


if __name__ == "__main__":
    main()
