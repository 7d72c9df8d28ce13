"""The included sample data set, and the tool that makes it."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.sample import DIRECTORY

TOOL = Path(__file__).parents[2] / "tools" / "make_sample_data.py"
FEWER = {"birds": 49, "bugs": 47}  # the source has no more good ones
CLASSES = {"birds", "bugs", "buildings", "food", "mammals", "music", "plants"}
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_sample_data", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files():
    return {path.relative_to(DIRECTORY).with_suffix("").as_posix(): path for path in sorted(DIRECTORY.rglob("*.*"))}


@pytest.fixture(scope="module")
def white(files):
    """Each image as float RGB on white, decoded without the tool."""
    result = {}
    for name, path in files.items():
        pixels = np.asarray(Image.open(path).convert("RGBA"), np.float32)
        opaque = pixels[..., 3:] / 255
        result[name] = pixels[..., :3] * opaque + 255 * (1 - opaque)
    return result


def test_each_class_has_50_to_60_images_or_the_documented_number(files):
    counts = {}
    for name in files:
        counts[name.split("/")[0]] = counts.get(name.split("/")[0], 0) + 1
    assert set(counts) == CLASSES
    for label, count in counts.items():
        assert FEWER.get(label, 50) <= count <= 60, label


def test_the_files_are_those_of_the_list(files, tool):
    assert set(files) == set(tool.read_list(tool.LIST))


def test_files_are_small_plain_png_with_transparency(files):
    for name, path in files.items():
        assert path.suffix == ".png"
        assert re.fullmatch(r"[a-z]+/[a-z_]{3,20}", name), name
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.mode in ("RGBA", "P"), name
            assert set(image.info) <= {"transparency"}, f"{name}: metadata"
            assert 64 <= max(image.size) <= 224, name
    assert sum(path.stat().st_size for path in files.values()) < 8 * MEGABYTE
    assert (DIRECTORY.parent / "contact_sheet.png").stat().st_size < 0.4 * MEGABYTE


def test_most_images_have_a_transparent_background_and_none_is_blank(files, white):
    assert all(np.ptp(pixels) > 100 for pixels in white.values())
    transparent = [np.asarray(Image.open(path).convert("RGBA"))[..., 3].min() == 0 for path in files.values()]
    assert np.mean(transparent) > 0.9


def test_no_image_occurs_twice(white):
    seen = {}
    for name, pixels in white.items():
        other = seen.setdefault((pixels.shape, pixels.tobytes()), name)
        assert other == name, f"{name} is {other}"


def test_no_two_images_are_near_duplicates(white):
    # Krawetz's difference hash: of 9 x 8 gray pixels, is each lighter than its left neighbour? 5 of 64 bits may differ.
    names, bits = list(white), []
    for pixels in white.values():
        gray = np.asarray(
            Image.fromarray(pixels.astype(np.uint8)).convert("L").resize((9, 8), Image.Resampling.BOX), int
        )
        bits.append((np.diff(gray, axis=1) > 0).ravel())
    bits = np.array(bits, np.int32)
    different = bits @ (1 - bits).T
    different = different + different.T + 64 * np.eye(len(bits), dtype=np.int32)
    first, second = np.unravel_index(different.argmin(), different.shape)
    assert different.min() > 5, (names[first], names[second])


def draw(path, box, colour, size=(600, 400), circle=False):
    image = Image.new("RGBA", size)
    shape = ImageDraw.Draw(image).ellipse if circle else ImageDraw.Draw(image).rectangle
    shape(box, fill=colour)
    image.save(path)


def test_the_tool_cuts_scales_and_leaves_out(tool, tmp_path):
    draw(tmp_path / "wide.png", (100, 50, 547, 161), "red")  # 448 x 112 pixels are visible
    draw(tmp_path / "again.png", (0, 0, 447, 111), "blue")
    draw(tmp_path / "small.png", (10, 10, 49, 89), (0, 0, 0, 128), circle=True)
    Image.new("RGBA", (50, 50)).save(tmp_path / "empty.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "wide.png").read_bytes()[:60])
    names = ("wide", "again", "small", "empty", "broken", "missing")
    images, left_out = tool.gather({f"a/{name}": f"{name}.png" for name in names}, tmp_path)
    assert {name: image.size for name, image in images.items()} == {"a/wide": (224, 56), "a/small": (40, 80)}
    assert images["a/small"].getpixel((20, 40)) == (0, 0, 0, 128)
    assert set(left_out) == {"a/again", "a/empty", "a/broken", "a/missing"}
    assert left_out["a/again"].startswith("nearly the same as a/wide: ")
    assert left_out["a/empty"] == "cannot be used: no visible pixel"
    assert "No such file" in left_out["a/missing"]


def test_a_palette_is_exact_up_to_256_colours_and_refused_where_it_shows(tool):
    few = np.random.default_rng(0).integers(0, 256, (256, 4), np.uint8)[np.arange(4096) % 256].reshape(64, 64, 4)
    stored = tool.with_palette(Image.fromarray(few))
    assert stored.mode == "P"
    np.testing.assert_array_equal(np.asarray(stored.convert("RGBA")), few)
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 4), np.uint8))
    assert tool.with_palette(noise) is noise


def test_a_source_that_is_absent_is_refused(tool, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["make_sample_data.py", "--source", str(tmp_path / "none"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"none is not a folder: install the package openclipart-png, or name its"):
        tool.main()
    monkeypatch.setattr("sys.argv", ["make_sample_data.py", "--source", str(tmp_path), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds none of the 376 drawings"):
        tool.main()
    assert list(tmp_path.iterdir()) == []
