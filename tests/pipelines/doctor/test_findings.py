"""Findings about files and classes: what is found in files with known problems, and nothing in others."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.doctor_cases import FILES, SIZE, catalog_of, findings_by_kind, random_image, read, save, save_gray_16
from PIL import Image, ImageOps

import keras_cnn as kc
from pipelines import Catalog, doctor

pytestmark = pytest.mark.usefixtures("decoded_file_by_file")


@pytest.mark.slow
def test_traits_of_files_are_found(tmp_path):
    shutil.copytree(FILES, tmp_path / "data" / "a")
    found = findings_by_kind(Catalog.from_folder(tmp_path / "data"), tmp_path)
    names = {kind: {Path(path).name for files in finding.files for path in files} for kind, finding in found.items()}
    assert names["wrong suffix"] == {"really_a_png.jpg"}
    assert names["16-bit"] == {"gray_16.png"}
    assert names["CMYK"] == {"cmyk.jpg", "ycck.jpg"}
    assert names["animated"] == {
        f"animated{rest}" for rest in (".gif", ".webp", "_alpha.webp", "_on_larger_canvas.webp")
    }
    assert {f"orientation_{number}.jpg" for number in range(2, 9)} < names["rotated"]
    assert "orientation_1.jpg" not in names["rotated"]
    assert {"rgba.png", "palette_alpha.png", "transparent.gif", "alpha.webp"} < names["transparent"]
    assert {"rgb.png", "gray.png", "plain.gif", "lossy.webp"}.isdisjoint(names["transparent"])
    assert names["duplicates"] == {"really_a_png.jpg", "rgb.png"}
    assert len(found["small"].files) == 47  # all readable files: 24 pixels are less than half of 64


@pytest.mark.slow
def test_good_images_have_no_finding(tmp_path):
    rows = [(save(random_image(n), tmp_path / f"{n}.png"), "ab"[n % 2], "train") for n in range(40)]
    assert findings_by_kind(catalog_of(rows), tmp_path) == {}


def test_small_classes_and_useless_images_are_found(tmp_path):
    rows = [(save(random_image(n), tmp_path / f"{n}.png"), "a" if n else "b", "") for n in range(12)]
    rows.append((save(Image.new("RGB", (96, 96), (5, 9, 2)), tmp_path / "black.png"), "a", ""))
    rows.append((save(random_image(99, 31), tmp_path / "tiny.png"), "a", ""))
    found = findings_by_kind(catalog_of(rows), tmp_path)
    assert found["constant"].files == ((str(tmp_path / "black.png"),),)
    assert found["small"].files == ((str(tmp_path / "tiny.png"),),)
    assert found["few images"].text.startswith("1 class has fewer than 10 images: b (1). ")
    assert found["imbalance"].text.startswith("Classes are imbalanced: a has 13 images, b has 1. ")


def exif(kind, value, order="<"):
    """EXIF data with only an orientation, of type SHORT (3) or LONG (4)."""
    packed = struct.pack(order + {3: "HH", 4: "I"}[kind], *((value, 0) if kind == 3 else (value,)))
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    return b"Exif\0\0" + header + struct.pack(f"{order}HHHI", 1, 0x0112, kind, 1) + packed + bytes(4)


def test_images_are_called_rotated_if_pillow_and_the_decoder_turn_them(tmp_path):
    """Orientations of type SHORT, as in the standard, and LONG, as some phones write; and invalid values."""
    kinds = {
        f"{kind}{value}{order == '<'}": (kind, value, order) for kind in (3, 4) for value in (1, 6, 9) for order in "<>"
    }
    for name, (kind, value, order) in kinds.items():
        path = save(
            random_image(len(name)).crop((0, 0, 96, 64)),
            tmp_path / "data" / "a" / f"{name}.jpg",
            exif=exif(kind, value, order),
        )
        upright = ImageOps.exif_transpose(Image.open(path))
        assert (
            kc.images.decode(path.read_bytes()).shape[:2]
            == upright.size[::-1]
            == ((96, 64) if value == 6 else (64, 96))
        )
    save(random_image(0), tmp_path / "data" / "b" / "0.png")
    found = findings_by_kind(Catalog.from_folder(tmp_path / "data"), tmp_path)
    assert {Path(path).stem[:2] for files in found["rotated"].files for path in files} == {"36", "46"}
    assert len(found["rotated"].files) == 4


@pytest.mark.parametrize(("bits", "factor"), [(10, 64), (12, 16), (14, 4)])
def test_unused_bits_are_found_and_the_factor_is_named(tmp_path, bits, factor):
    rows = [(save_gray_16(tmp_path / f"{n}.png", 10 * n, 2**bits - 1), "ab"[n % 2], "") for n in range(3)]
    rows.append((save_gray_16(tmp_path / "full.png", 0, 65_535), "a", ""))
    found = findings_by_kind(catalog_of(rows), tmp_path)
    assert found["unused bits"].level == "warning" and len(found["unused bits"].files) == 3
    assert found["unused bits"].text.startswith(
        f"3 images use only {bits} of 16 bits. The network gets the upper 8, which are nearly black. "
    )
    assert f"Multiply their values by {factor} " in found["unused bits"].text
    assert {"constant", "nearly black", "low contrast"}.isdisjoint(found) and len(found["16-bit"].files) == 4


def test_unused_bits_of_colour_images_are_found_with_and_without_alpha(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (96, 96, 4), dtype="uint16")
    values[..., 3] = 65_535
    for channels in (3, 4):
        content = tf.io.encode_png(values[..., :channels]).numpy()
        (tmp_path / f"{channels}.png").write_bytes(content)
    found = findings_by_kind(
        catalog_of([(tmp_path / f"{channels}.png", "ab"[channels % 2], "") for channels in (3, 4)]), tmp_path
    )
    assert found["unused bits"].text.startswith("2 images use only 12 of 16 bits")


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        (
            np.arange(96 * 96).reshape(96, 96) // 16 % 6,
            "nearly black",
            "no value is above 5 of 255. Check whether it is a label mask",
        ),
        (np.arange(96 * 96).reshape(96, 96) // 16 % 6 + 200, "low contrast", "its values differ by at most 5 of 255."),
        (np.full((96, 96), 200), "constant", "1 image has a single colour "),
        (np.zeros((96, 96)), "constant", "1 image has a single colour "),
    ],
)
def test_values_in_a_small_part_of_8_bits(tmp_path, values, kind, text):
    found = findings_by_kind(
        catalog_of([(save(Image.fromarray(values.astype("uint8")), tmp_path / "a.png"), "a", "")]), tmp_path
    )
    assert {"constant", "nearly black", "low contrast", "unused bits"} & set(found) == {kind}
    assert found[kind].level == "warning" and text in found[kind].text


@pytest.mark.parametrize(("low", "high", "kind"), [(30_000, 30_100, "low contrast"), (30_000, 30_000, "constant")])
def test_16_bit_images_of_one_colour(tmp_path, low, high, kind):
    found = findings_by_kind(catalog_of([(save_gray_16(tmp_path / "a.png", low, high), "a", "")]), tmp_path)
    assert {"constant", "nearly black", "low contrast", "unused bits"} & set(found) == {kind}


def test_excluded_tables_and_notes_are_no_warning(tmp_path):
    save(random_image(0), tmp_path / "data" / "a" / "0.png")
    for name in ("Thumbs.db", "notes.txt", "film.mp4"):
        (tmp_path / "data" / "a" / name).write_bytes(b"something")
    catalog, images = read(Catalog.from_folder(tmp_path / "data"), tmp_path)
    findings = doctor.examine(catalog, images, doctor.find_duplicates(images), SIZE)
    excluded = [finding for finding in findings if finding.kind == "excluded"]
    assert [(finding.level, [Path(path).name for (path,) in finding.files]) for finding in excluded] == [
        ("warning", ["film.mp4"]),
        ("note", ["Thumbs.db", "notes.txt"]),
    ]
