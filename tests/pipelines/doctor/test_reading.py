"""Reading: headers, reasons for excluded files, and one pass over the files."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.doctor_cases import FILES, SIZE, catalog_of, random_image, read, save

import keras_cnn as kc
from pipelines import Catalog, doctor
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.image_files import ImageFiles
from pipelines.doctor.headers import read_header


@pytest.mark.parametrize(
    ("name", "form", "size", "traits"),
    [
        ("rgb.jpg", "JPEG", (24, 16), set()),
        ("ycck.jpg", "JPEG", (24, 16), {"CMYK"}),
        ("orientation_6.jpg", "JPEG", (16, 24), {"rotated"}),
        ("orientation_3.jpg", "JPEG", (24, 16), {"rotated"}),
        ("gray_16.png", "PNG", (24, 16), {"16-bit"}),
        ("palette_alpha.png", "PNG", (24, 16), {"transparent"}),
        ("orientation.png", "PNG", (16, 24), {"rotated"}),
        ("animated.gif", "GIF", (24, 16), {"animated"}),
        ("animated_alpha.webp", "WEBP", (24, 16), {"animated", "transparent"}),
        ("really_a_png.jpg", "PNG", (24, 16), set()),
        ("rgb.bmp", "BMP", (24, 16), set()),
    ],
)
def test_headers(name, form, size, traits):
    content = (FILES / name).read_bytes()
    for header in (read_header(str(FILES / name)), read_header(str(FILES / name), content)):
        assert (header.format, (header.width, header.height), header.traits) == (form, size, traits)


def test_a_header_longer_than_the_first_bytes(tmp_path):
    path = save(random_image(0), tmp_path / "a.jpg", icc_profile=bytes(200_000))
    assert read_header(str(path), path.read_bytes()[:65_536]).width == 96


@pytest.mark.slow
def test_each_unreadable_file_has_its_reason(tmp_path):
    shutil.copytree(FILES / "refused", tmp_path / "data" / "a")
    catalog, _ = read(Catalog.from_folder(tmp_path / "data"), tmp_path)
    reasons = {Path(path).name: reason for path, reason in zip(catalog.paths, catalog.exclusion_reasons, strict=True)}
    assert all(reasons.values())
    expected = {
        "empty.jpg": "an empty file",
        "text.jpg": "not an image that can be decoded: ",
        "tiff.tif": "a TIFF file, which TensorFlow cannot decode: convert it to JPEG or PNG",
        "bomb.png": "an image that is too large: ",
        "bomb_of_scans.jpg": "an image that is too large: ",
        **{f"truncated.{ending.lower()}": f"a truncated {ending} file" for ending in ("BMP", "GIF", "PNG", "WEBP")},
        "truncated.jpg": "a truncated JPEG file",
    }
    assert {name: reasons[name][: len(text)] for name, text in expected.items()} == expected


def test_files_of_other_formats_are_excluded_by_the_name_of_the_format(tmp_path):
    save(random_image(0), tmp_path / "data" / "a" / "b.jpg", format="TIFF")
    (tmp_path / "data" / "a" / "c.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    catalog, _ = read(Catalog.from_folder(tmp_path / "data"), tmp_path)
    assert [reason.split(",")[0] for reason in catalog.exclusion_reasons] == ["a TIFF file", "a HEIF file"]


@pytest.mark.slow
def test_damaged_files_are_included_or_excluded_with_a_reason(tmp_path):
    """Random changes of bytes: nothing crashes, and every file is decoded or has a reason."""
    whole, chance = [path for path in sorted(FILES.iterdir()) if path.is_file()], random.Random(1)
    (tmp_path / "data" / "a").mkdir(parents=True)
    for number in range(250):
        path = chance.choice(whole)
        content = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        (tmp_path / "data" / "a" / f"{number}{path.suffix}").write_bytes(content)
    catalog = Catalog.from_folder(tmp_path / "data")
    catalog, images = read(catalog, tmp_path)
    assert [not reason for reason in catalog.exclusion_reasons] == images.records["readable"].tolist()
    assert 50 < images.records["readable"].sum() < 220
    assert all(0 < len(reason) < 250 for reason in catalog.exclusion_reasons if reason)
    doctor.examine(catalog, images, doctor.find_duplicates(images), SIZE)


def test_records_and_images_are_read_once(tmp_path, monkeypatch):
    rows = [(save(random_image(n), tmp_path / f"{n}.png"), "a", "") for n in range(5)]
    rows[2][0].write_bytes(b"")
    cache, counts = ArrayCache(tmp_path / "cache"), []
    first = doctor.read(catalog_of(rows), kc.Preprocessing(32), cache, counts.append)
    assert sum(counts) == 5
    assert not first[1].source[2].any() and first[1].source[[0, 1, 3, 4]].any((1, 2, 3)).all()

    def unexpected(*_, **__):
        raise AssertionError("the files are read again")

    monkeypatch.setattr("pipelines.datasets.image_files.decode_files", unexpected)
    again = doctor.read(catalog_of(rows), kc.Preprocessing(32), cache, counts.append)
    assert sum(counts) == 10
    np.testing.assert_array_equal(again[1].records, first[1].records)
    np.testing.assert_array_equal(again[1].source, first[1].source)
    assert again[0] == first[0] and again[0].exclusion_reasons[2] == "an empty file"


@pytest.mark.slow
def test_without_room_for_the_images_the_records_are_still_read_only_once(tmp_path, monkeypatch):
    rows = [(save(random_image(n), tmp_path / f"{n}.png"), "a", "") for n in range(5)]
    cache, counts = ArrayCache(tmp_path / "cache", limit=10_000), []  # bytes: enough for the records only
    monkeypatch.setattr(os, "sysconf", lambda name: 1)  # almost no memory

    def read_again():
        with pytest.warns(UserWarning, match=r"^The images are decoded again in every epoch\. "):
            return doctor.read(catalog_of(rows), kc.Preprocessing(32), cache, counts.append)[1]

    first = read_again()
    assert isinstance(first.source, ImageFiles) and first.records["readable"].all() and sum(counts) == 5
    monkeypatch.setattr("pipelines.datasets.image_files.decode_files", None)  # the files are not read again
    second = read_again()
    assert isinstance(second.source, ImageFiles) and sum(counts) == 10
    np.testing.assert_array_equal(second.records, first.records)
