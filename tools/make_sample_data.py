"""Make the images of `pipelines/sample` and their contact sheet from Debian's package openclipart-png.

    apt install openclipart-png
    python tools/make_sample_data.py

`sample_data.txt` lists what is taken, chosen by eye. Each drawing is cut to its visible part,
scaled down (never up) to a longest side of 224 pixels with its transparency, and stored without metadata, with a
palette where that cannot be seen. A file that is missing, unreadable, empty or nearly the same as an earlier one is
excluded and reported. The images already in the target folder are replaced. The same source gives the same images again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LIST = Path(__file__).with_name("sample_data.txt")
SOURCE = Path("/usr/share/openclipart/png")
TARGET = Path(__file__).parent.parent / "pipelines" / "sample"

LONGEST_SIDE = 224  # pixels
VISIBLE = 8  # alpha, of 255: fainter pixels at the border are cut off
PALETTE_ERROR = 2.0  # root mean square difference on white, in levels of 255 (42 dB): above it, no palette
# Of 512 bits. Of 13 drawings that the package has in two colourings, 10 differ by 2 to 30 and 3 by 37, 45 and 78, which
# only the eye can exclude: the two most alike of the different drawings in the list differ by 38.
NEAR_DUPLICATE = 32

COLUMNS = 9  # images per class on the contact sheet
CELL, GAP, LABEL = 74, 12, 104  # pixels


def read_list(path: Path) -> dict[str, str]:
    """The wanted images in order: "class/name" to the path inside the package."""
    lines = path.read_text(encoding="ascii").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def prepare(path: Path) -> Image.Image:
    """The visible part of one file in RGBA, its longest side at most `LONGEST_SIDE`; ValueError where nothing shows."""
    with Image.open(path) as file:
        image = file.convert("RGBA")
    visible = image.getchannel("A").point(lambda alpha: 255 * (alpha > VISIBLE)).getbbox()
    if visible is None:
        raise ValueError("no visible pixel")
    image = image.crop(visible)
    scale = LONGEST_SIDE / max(image.size)
    if scale < 1:
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
    pixels = np.array(image)
    pixels[pixels[..., 3] == 0] = 0  # colour that nobody sees, which would cost bytes
    return Image.fromarray(pixels)


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB on a white ground, as a page shows it."""
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def fingerprint(image: Image.Image) -> np.ndarray:
    """512 booleans that small changes leave alone: is a pixel lighter than its neighbour, along rows and columns?

    The image stands in the middle of a white square, shrunk to 17 x 16 and 16 x 17 gray pixels: a difference hash.
    """
    side = max(image.size)
    square = Image.new("L", (side, side), 255)
    square.paste(on_white(image).convert("L"), ((side - image.width) // 2, (side - image.height) // 2))
    across, down = (np.asarray(square.resize(size, Image.Resampling.BOX), int) for size in ((17, 16), (16, 17)))
    return np.concatenate([(np.diff(across, axis=1) > 0).ravel(), (np.diff(down, axis=0) > 0).ravel()])


def with_palette(image: Image.Image) -> Image.Image:
    """The image with a palette of at most 256 of its own RGBA colours; as it came where that could be seen.

    The palette starts from the most frequent colour and grows by the one that it serves worst, by the squared distance
    to the nearest entry (colours weighted by alpha) times the number of pixels.
    """
    colours, place, counts = np.unique(np.array(image).reshape(-1, 4), axis=0, return_inverse=True, return_counts=True)
    seen = colours * np.where(np.arange(4) < 3, colours[:, 3:] / 255, 1.0)
    chosen, nearest = [int(counts.argmax())], np.zeros(len(colours), np.uint8)
    distance = ((seen - seen[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(256, len(colours)):
        worst = int((distance * counts).argmax())
        candidate = ((seen - seen[worst]) ** 2).sum(axis=1)
        nearest[candidate < distance] = len(chosen)
        distance = np.minimum(distance, candidate)
        chosen.append(worst)
    result = Image.fromarray(nearest[place.ravel()].reshape(image.height, image.width))
    result.putpalette(colours[chosen].tobytes(), "RGBA")
    error = np.subtract(on_white(image), on_white(result), dtype=float)
    return result if np.sqrt(np.mean(error**2)) <= PALETTE_ERROR else image


def gather(wanted: dict[str, str], source: Path) -> tuple[dict[str, Image.Image], dict[str, str]]:
    """The prepared images by "class/name", and the reason for each one that is excluded."""
    images, prints, excluded = {}, {}, {}
    for name, file in wanted.items():
        try:
            image = prepare(source / file)
        except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's word for a broken PNG chunk
            excluded[name] = f"cannot be used: {error}"
            continue
        bits = fingerprint(image)
        differences = {other: int((bits != known).sum()) for other, known in prints.items()}
        closest = min(differences, key=differences.get, default=None)
        if closest is not None and differences[closest] <= NEAR_DUPLICATE:
            excluded[name] = f"nearly the same as {closest}: {differences[closest]} of {bits.size} bits differ"
        else:
            images[name], prints[name] = image, bits
    return images, excluded


def by_class(images: dict[str, Image.Image]) -> dict[str, list[Image.Image]]:
    """The images of each class, in the order of the list."""
    classes = {}
    for name, image in images.items():
        classes.setdefault(name.split("/")[0], []).append(image)
    return classes


def contact_sheet(classes: dict[str, list[Image.Image]]) -> Image.Image:
    """The first images of each class in a row after its name, on white."""
    pitch = CELL + GAP
    sheet = Image.new("RGB", (LABEL + COLUMNS * pitch + GAP, len(classes) * pitch + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    for row, (label, images) in enumerate(classes.items()):
        top = GAP + row * pitch
        draw.text((GAP, top + CELL // 2), label, fill=(60, 60, 60), font=font, anchor="lm")
        for column, image in enumerate(images[:COLUMNS]):
            small = on_white(image)
            small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
            left = LABEL + column * pitch
            sheet.paste(small, (left + (CELL - small.width) // 2, top + (CELL - small.height) // 2))
    return sheet


def write(images: dict[str, Image.Image], target: Path) -> int:
    """Replace the images and the contact sheet under `target`; gives the bytes of the images."""
    for old in target.glob("images/*/*.png"):
        old.unlink()
    total = 0
    for name, image in images.items():
        file = target / "images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        with_palette(image).save(file, optimize=True)
        total += file.stat().st_size
    contact_sheet(by_class(images)).save(target / "contact_sheet.png", optimize=True)
    return total


def main() -> None:
    """Read the list, make the images, print what was excluded."""
    parser = argparse.ArgumentParser(description="Make the sample data set from Debian's package openclipart-png.")
    parser.add_argument(
        "--source", type=Path, default=SOURCE, metavar="DIR", help="the drawings (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=TARGET, metavar="DIR", help="gets images/CLASS/NAME.png (default: pipelines/sample)"
    )
    options = parser.parse_args()
    if not options.source.is_dir():
        sys.exit(
            f"{options.source} is not a folder: install the package openclipart-png, or name its folder by --source."
        )
    wanted = read_list(LIST)
    images, excluded = gather(wanted, options.source)
    if not images:
        sys.exit(
            f"{options.source} holds none of the {len(wanted)} drawings in {LIST.name}: it must contain animals/birds."
        )
    total = write(images, options.out)
    for name, reason in excluded.items():
        print(f"excluded: {name} ({wanted[name]}): {reason}")
    counts = ", ".join(f"{label} {len(members)}" for label, members in by_class(images).items())
    print(f"{len(images)} of {len(wanted)} images, {total / 1e6:.2f} MB, in {options.out}: {counts}")


if __name__ == "__main__":
    main()
