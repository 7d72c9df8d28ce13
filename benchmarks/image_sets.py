"""Image sets of other kinds than photos of things, made with NumPy, SciPy, scikit-image and fonts.

Each function writes PNG files into a folder per class and is a pure function of its seed. `benchmarks/stability.py` trains on
them, because a default must not work on photos only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, rotate

SHARES = {"sound": 0.55, "crack": 0.25, "inactive": 0.14, "broken_finger": 0.06}
GLYPHS = "AEGKMQRSXaegkmqr358&"
SHAPES = ("circle", "ellipse", "rectangle", "triangle")


def gray_textures(folder: Path, images: int = 1_650, side: int = 160, seed: int = 0) -> Path:
    """Gray photos of crystalline plates with faults as faint as the texture itself: four classes, from 55 to 6 %.

    Like photos from an inspection line: one subject, little contrast, classes that differ in small details, and faults down to
    where nobody can see them.
    """
    random = np.random.default_rng(seed)
    labels = random.choice(list(SHARES), size=images, p=list(SHARES.values()))
    for number, label in enumerate(labels):
        plate = _plate(random, side)
        _FAULTS[label](plate, random, random.uniform(0, 0.25))
        noisy = plate + random.normal(0, 0.04, plate.shape)
        save_image(folder / label / f"{number:04}.png", np.clip(255 * noisy, 0, 255).astype("uint8"))
    return folder


def icons(folder: Path, images: int = 1_650, side: int = 16, seed: int = 0) -> Path:
    """Letters and digits on 16 x 16 pixels, in random fonts, colours and places: twenty classes."""
    import matplotlib

    random = np.random.default_rng(seed)
    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("[DS][eT][jI]*.ttf"))
    fonts = [font for font in fonts if not any(word in font.stem for word in ("NonUni", "Siz", "Display"))]
    for number in range(images):
        glyph = GLYPHS[number % len(GLYPHS)]
        paper, ink = _two_colours(random)
        icon = Image.new("RGB", (side, side), paper)
        font = ImageFont.truetype(fonts[random.integers(len(fonts))], int(random.integers(10, 15)))
        position = tuple(side / 2 + random.uniform(-2, 2, 2))
        ImageDraw.Draw(icon).text(position, glyph, fill=ink, font=font, anchor="mm")
        noisy = np.asarray(icon, "float32") + random.normal(0, 8, (side, side, 3))
        save_image(folder / f"glyph_{ord(glyph)}" / f"{number:04}.png", np.clip(noisy, 0, 255).astype("uint8"))
    return folder


def left_or_right(folder: Path, images: int = 80, side: int = 160, seed: int = 0, test_images: int = 200) -> Path:
    """Arrows that point to the left, or to the right, in random colours, sizes and places: one is the flip of the other.

    The folders `train` and `test` hold an official split: few training images, and enough test images to measure the result.
    """
    random = np.random.default_rng(seed)
    for number in range(images + test_images):
        ground = (0.7 + 0.2 * _texture(random, side)[..., None]) * random.uniform(100, 255, 3)
        scene = Image.fromarray(np.clip(ground, 0, 255).astype("uint8"))
        x, y, length = (
            side * random.uniform(0.05, 0.15),
            side * random.uniform(0.4, 0.6),
            side * random.uniform(0.6, 0.8),
        )
        half = length * random.uniform(0.25, 0.4)
        upper = [(x, y), (x + half, y - half), (x + half, y - half / 2), (x + length, y - half / 2)]
        lower = [(a, 2 * y - b) for a, b in upper[:0:-1]]
        ImageDraw.Draw(scene).polygon(upper + lower, fill=tuple(int(value) for value in random.integers(0, 90, 3)))
        if number % 2:
            scene = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        split = "train" if number < images else "test"
        save_image(folder / split / ("left", "right")[number % 2] / f"{number:04}.png", np.asarray(scene))
    return folder


def skimage_shapes(folder: Path, images: int = 800, side: int = 96, seed: int = 0) -> Path:
    """A shape of one colour on textured ground, drawn by `skimage.draw.random_shapes`: circle, ellipse, rectangle, triangle.

    Sizes and places are random. Ellipses may be nearly round.
    """
    try:
        from skimage.draw import random_shapes
    except ImportError:
        raise SystemExit("image_sets.skimage_shapes needs scikit-image: pip install scikit-image") from None

    random = np.random.default_rng(seed)
    for number in range(images):
        shape = SHAPES[number % len(SHAPES)]
        sizes = {"min_size": side // 6, "max_size": side // 2}
        scene, _ = random_shapes((side, side), 1, shape=shape, intensity_range=((0, 200),), rng=random, **sizes)
        ground = (0.7 + 0.2 * _texture(random, side)[..., None]) * random.uniform(100, 255, 3)
        pixels = np.where((scene == 255).all(-1, keepdims=True), np.clip(ground, 0, 255), scene)
        save_image(folder / shape / f"{number:04}.png", pixels.astype("uint8"))
    return folder


def _plate(random, side):
    """Crystals of several grays, two bright bars, thin lines across them, darker towards the rim."""
    grains = np.digitize(gaussian_filter(random.normal(size=(side, side)), side / 16), np.linspace(-0.04, 0.04, 7))
    plate = 0.45 + 0.03 * grains + 0.05 * _texture(random, side)
    plate[:, side // 3 - 2 : side // 3 + 2] = plate[:, 2 * side // 3 - 2 : 2 * side // 3 + 2] = 0.85
    plate[:: max(4, side // 32)] *= 0.92
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return plate * (1 - 0.15 * (rows**2 + columns**2)) * random.uniform(0.8, 1.1)


def _texture(random, side):
    smooth = gaussian_filter(random.normal(size=(side, side)), 2)
    return 0.5 + smooth / (4 * smooth.std())


def _crack(plate, random, depth):
    side = len(plate)
    position, heading = random.uniform(0.2, 0.8, 2) * side, random.uniform(0, 2 * np.pi)
    for _ in range(int(random.integers(side // 4, side // 2))):
        row, column = (int(value) % side for value in position)
        plate[row : row + 2, column : column + 2] *= 1 - depth
        heading += random.normal(0, 0.25)
        position = position + 1.5 * np.array([np.sin(heading), np.cos(heading)])


def _inactive(plate, random, depth):
    side = len(plate)
    patch = np.zeros_like(plate)
    row, column = (int(value) for value in random.integers(side // 8, side // 2, 2))
    patch[row : row + side // 4, column : column + side // 3] = 1
    patch = rotate(patch, random.uniform(0, 90), reshape=False, order=1)
    plate *= 1 - depth / 2 * gaussian_filter(patch, 2)


def _broken_finger(plate, random, depth):
    side = len(plate)
    for _ in range(3):
        row, column = (int(value) for value in random.integers(8, side - 32, 2))
        plate[row : row + 3, column : column + 24] *= 1 - depth


_FAULTS = {
    "sound": lambda plate, random, depth: None,
    "crack": _crack,
    "inactive": _inactive,
    "broken_finger": _broken_finger,
}


def _two_colours(random):
    """Dark and light, in either order."""
    dark, light = random.integers(0, 110, 3), random.integers(150, 256, 3)
    pair = (tuple(map(int, light)), tuple(map(int, dark)))
    return pair if random.random() < 0.5 else pair[::-1]


def save_image(file: Path, pixels: np.ndarray) -> None:
    """Write uint8 pixels as an image file, and make its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
