"""The doctor: what it finds in files that are known to be ill, and what it leaves alone."""

import json
import os
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from skimage import data

import keras_cnn as kc
from pipelines import Catalog, InputError, cli, doctor, fine_tuning
from pipelines.datasets.array_cache import ArrayCache
from pipelines.doctor import findings
from pipelines.doctor.headers import header
from pipelines.doctor.near_duplicates import ALIKE, near_pairs
from pipelines.evaluation.single_label import Evaluation
from pipelines.names import printable

FILES = Path(__file__).parent / "data" / "images"
SIZE = (64, 64)


def picture(seed, side=96):
    """A smooth random picture: no two are alike."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype="uint8")
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def saved(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def catalog_of(rows):
    """A catalog of (path, label, split), all in one folder; splits are drawn from the names in it."""
    paths, labels, splits = zip(*((str(path), label, split) for path, label, split in rows), strict=True)
    return Catalog(paths, labels, splits, ("",) * len(rows), ("",) * len(rows), str(Path(paths[0]).parent))


def found(catalog, tmp_path, size=SIZE):
    """kind -> the finding."""
    catalog, images = doctor.read(catalog, kc.Preprocessing(32), ArrayCache(tmp_path / "cache"), store_images=False)
    findings = doctor.examine(catalog, images, doctor.likeness(images), size)
    assert len({finding.text for finding in findings}) == len(findings)
    return {finding.kind: finding for finding in findings}


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
    for told in (header(str(FILES / name)), header(str(FILES / name), content)):
        assert (told.format, (told.width, told.height), told.traits) == (form, size, traits)


def test_a_header_that_is_longer_than_what_was_read_of_it(tmp_path):
    path = saved(picture(0), tmp_path / "a.jpg", icc_profile=bytes(200_000))
    assert header(str(path), path.read_bytes()[:65_536]).width == 96


def test_kinds_of_files_are_told_apart(tmp_path):
    shutil.copytree(FILES, tmp_path / "data" / "a")
    told = found(Catalog.from_folder(tmp_path / "data"), tmp_path)
    names = {kind: {Path(path).name for files in finding.files for path in files} for kind, finding in told.items()}
    assert names["wrong ending"] == {"really_a_png.jpg"}
    assert names["16-bit"] == {"gray_16.png"}
    assert names["CMYK"] == {"cmyk.jpg", "ycck.jpg"}
    assert names["animated"] == {
        f"animated{rest}" for rest in (".gif", ".webp", "_alpha.webp", "_on_larger_canvas.webp")
    }
    assert {f"orientation_{number}.jpg" for number in range(2, 9)} < names["rotated"]
    assert "orientation_1.jpg" not in names["rotated"]
    assert {"rgba.png", "palette_alpha.png", "transparent.gif", "alpha.webp"} < names["transparent"]
    assert {"rgb.png", "gray.png", "plain.gif", "lossy.webp"}.isdisjoint(names["transparent"])
    assert names["copies"] == {"really_a_png.jpg", "rgb.png"}
    assert len(told["small"].files) == 47  # all that can be read: 24 pixels are less than half of 64


def test_each_file_that_is_refused_has_its_reason(tmp_path):
    shutil.copytree(FILES / "refused", tmp_path / "data" / "a")
    catalog, _ = doctor.read(
        Catalog.from_folder(tmp_path / "data"), kc.Preprocessing(32), ArrayCache(tmp_path / "cache")
    )
    reasons = {Path(path).name: reason for path, reason in zip(catalog.paths, catalog.exclusion_reasons, strict=True)}
    assert all(reasons.values())
    expected = {
        "empty.jpg": "an empty file",
        "text.jpg": "no image that can be decoded: ",
        "tiff.tif": "a TIFF file, which TensorFlow cannot decode: convert it to JPEG or PNG",
        "bomb.png": "an image that is too large: ",
        "bomb_of_scans.jpg": "an image that is too large: ",
        **{f"truncated.{ending.lower()}": f"a truncated {ending} file" for ending in ("BMP", "GIF", "PNG", "WEBP")},
        "truncated.jpg": "a truncated JPEG file",
    }
    assert {name: reasons[name][: len(text)] for name, text in expected.items()} == expected


def test_a_file_of_another_format_is_named_by_it(tmp_path):
    saved(picture(0), tmp_path / "data" / "a" / "b.jpg", format="TIFF")
    (tmp_path / "data" / "a" / "c.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    catalog, _ = doctor.read(
        Catalog.from_folder(tmp_path / "data"), kc.Preprocessing(32), ArrayCache(tmp_path / "cache")
    )
    assert [reason.split(",")[0] for reason in catalog.exclusion_reasons] == ["a TIFF file", "a HEIF file"]


def test_leaks_and_contradictions(tmp_path):
    rows = [(saved(picture(n), tmp_path / f"{n}.png"), "ab"[n % 2], ("train", "test")[n // 20]) for n in range(40)]
    original = Image.open(rows[0][0])
    shutil.copy(rows[0][0], tmp_path / "copy.png")
    near = ImageEnhance.Brightness(original.resize((60, 60))).enhance(1.2)
    rows += [(tmp_path / "copy.png", "a", "test"), (saved(near, tmp_path / "near.jpg", quality=60), "b", "validation")]
    told = found(catalog_of(rows), tmp_path)
    same = [str(rows[40][0]), str(rows[0][0]), str(rows[41][0])]
    assert told["leak"].level == "error"
    assert [set(files) for files in told["leak"].files] == [{same[2], same[1]}]  # the last one told: of validation
    assert [set(files) for files in told["near contradiction"].files] == [set(same)]
    assert "contradiction" not in told
    assert [set(files) for files in told["copies"].files] == [{same[0], same[1]}]


def test_healthy_pictures_have_nothing(tmp_path):
    rows = [(saved(picture(n), tmp_path / f"{n}.png"), "ab"[n % 2], "train") for n in range(40)]
    assert found(catalog_of(rows), tmp_path) == {}


def test_classes_and_pictures_that_teach_nothing(tmp_path):
    rows = [(saved(picture(n), tmp_path / f"{n}.png"), "a" if n else "b", "") for n in range(12)]
    rows.append((saved(Image.new("RGB", (96, 96), (5, 9, 2)), tmp_path / "black.png"), "a", ""))
    rows.append((saved(picture(99, 31), tmp_path / "tiny.png"), "a", ""))
    told = found(catalog_of(rows), tmp_path)
    assert told["constant"].files == ((str(tmp_path / "black.png"),),)
    assert told["small"].files == ((str(tmp_path / "tiny.png"),),)
    assert told["few images"].text == "1 class has fewer than 10 images: b (1)."
    assert told["imbalance"].text == "Classes are uneven: a has 13 images, b 1."


def test_near_pairs_are_those_that_correlate():
    """The search by projections misses none that a comparison of all with all finds."""
    chance = np.random.default_rng(0)
    base = chance.integers(40, 200, (150, 8, 8, 3))
    noisy = base[chance.integers(150, size=600)] + chance.normal(0, 1, (600, 8, 8, 3)) * chance.uniform(
        0, 14, (600, 1, 1, 1)
    )
    thumbnails = noisy.round().clip(0, 255).astype("uint8")
    levelled = thumbnails - thumbnails.mean((1, 2), keepdims=True)
    correlation = np.corrcoef(levelled.reshape(600, -1))
    expected = np.argwhere(np.triu(correlation, 1) >= ALIKE)
    assert 200 < len(expected) < 3000
    received = np.sort(near_pairs(thumbnails), axis=1)
    assert set(map(tuple, received.tolist())) == set(map(tuple, expected.tolist()))


def test_flat_pictures_are_like_no_other():
    thumbnails = np.full((50, 8, 8, 3), 255, "uint8")
    thumbnails[:, 0, 0] = np.arange(150).reshape(50, 3) % 3 + 250
    assert len(near_pairs(thumbnails)) == 0


def test_coloured_blank_pages_are_like_no_other():
    thumbnails = np.random.default_rng(0).integers(-2, 3, (50, 8, 8, 3)) + np.array([250, 240, 180])
    assert len(near_pairs(thumbnails.astype("uint8"))) == 0


def test_a_tint_that_all_pictures_share_makes_none_alike():
    """Parts of one photo of a retina, all of them orange: where they do not overlap no two are the same."""
    photo = data.retina()[:1408, :1408].reshape(11, 8, 16, 11, 8, 16, 3).mean((2, 5))
    thumbnails = photo.transpose(0, 2, 1, 3, 4).reshape(121, 8, 8, 3).round().astype("uint8")
    varied = thumbnails.std((1, 2)).max(1) > 12
    assert varied.sum() > 20
    assert len(near_pairs(thumbnails)) == 0


def test_the_same_picture_is_in_one_split(tmp_path):
    rows = [(saved(picture(n), tmp_path / f"{n:02}.png"), "ab"[n % 2], "") for n in range(40)]
    alone = catalog_of(rows).split()
    for n in range(10):
        shutil.copy(rows[n][0], tmp_path / f"{n:02}_copy.png")
        rows.append((tmp_path / f"{n:02}_copy.png", rows[n][1], ""))
    catalog, images = doctor.read(catalog_of(rows), kc.Preprocessing(32), ArrayCache(tmp_path / "cache"))
    held = doctor.held_together(catalog, doctor.likeness(images)).split()
    assert held.splits[:40] == alone.splits  # none has moved
    assert held.splits[40:] == alone.splits[:10]
    assert len(set(held.splits[:10])) > 1
    apart = catalog.split()
    assert apart.splits[40:] != apart.splits[:10]


def test_sets_that_a_class_cannot_do_without_are_not_held_together(tmp_path):
    rows = [(saved(picture(n if n > 4 else 0), tmp_path / f"{n}.png"), "ab"[n > 4], "") for n in range(10)]
    catalog, images = doctor.read(catalog_of(rows), kc.Preprocessing(32), ArrayCache(tmp_path / "cache"))
    assert doctor.held_together(catalog, doctor.likeness(images)) == catalog


def test_copies_that_are_added_to_the_table_of_a_job_join_its_splits(tmp_path):
    """Whether the pictures there had copies before, and so groups, or not."""
    rows = [(saved(picture(n), tmp_path / f"{n:02}.png"), "ab"[n % 2], "") for n in range(30)]
    for n in range(6):
        shutil.copy(rows[n][0], tmp_path / f"{n:02}_copy.png")
        rows.append((tmp_path / f"{n:02}_copy.png", rows[n][1], ""))

    def held(catalog):
        catalog, images = doctor.read(catalog, kc.Preprocessing(32), ArrayCache(tmp_path / "cache"))
        return doctor.held_together(catalog, doctor.likeness(images)).split()

    held(catalog_of(rows)).to_csv(tmp_path / "catalog.csv")
    before = Catalog.from_csv(tmp_path / "catalog.csv")
    with open(tmp_path / "catalog.csv", "a", newline="") as file:
        for n in range(20):
            shutil.copy(rows[n][0], tmp_path / f"{n:02}_more.png")
            file.write(f"{tmp_path / f'{n:02}_more.png'},{rows[n][1]},,,\r\n")
    after = held(Catalog.from_csv(tmp_path / "catalog.csv"))
    assert after.splits[:36] == before.splits
    assert after.splits[36:] == before.splits[:20]
    assert set(before.splits[:6]) != {"train"} and set(before.splits[6:20]) == {"train", "validation", "test"}


def test_groups_and_official_splits_of_the_source_stay(tmp_path):
    path = saved(picture(0), tmp_path / "0.png")
    for n in range(1, 12):
        shutil.copy(path, tmp_path / f"{n}.png") if n < 4 else saved(picture(n), tmp_path / f"{n}.png")
    paths = tuple(str(tmp_path / f"{n}.png") for n in range(12))
    catalog = Catalog(
        paths, ("a",) * 12, ("train", "test", "train", "train", *("",) * 8), ("", "", "", "g", *("",) * 8), ("",) * 12
    )
    catalog, images = doctor.read(catalog, kc.Preprocessing(32), ArrayCache(tmp_path / "cache"))
    groups = doctor.held_together(catalog, doctor.likeness(images)).groups
    assert groups[0] == groups[2] == groups[3] == "g" and groups[1] == "" and set(groups[4:]) == {""}


def test_damaged_files_are_used_or_left_out_with_a_reason(tmp_path):
    """A thousand changed bytes here and there: nothing crashes, and every file is decoded or has its reason."""
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
    catalog, images = doctor.read(catalog, kc.Preprocessing(32), ArrayCache(tmp_path / "cache"))
    assert [not reason for reason in catalog.exclusion_reasons] == images.records["readable"].tolist()
    assert 50 < images.records["readable"].sum() < 220
    assert all(0 < len(reason) < 250 for reason in catalog.exclusion_reasons if reason)
    doctor.examine(catalog, images, doctor.likeness(images), SIZE)


def test_records_and_images_are_read_once(tmp_path, monkeypatch):
    rows = [(saved(picture(n), tmp_path / f"{n}.png"), "a", "") for n in range(5)]
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


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    for n in range(8):
        saved(picture(n), tmp_path / "data" / ("train", "test")[n % 2] / "ab"[n // 2 % 2] / f"<{n}>.png")
    shutil.copy(tmp_path / "data/train/a/<0>.png", tmp_path / "data/test/a/leak.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--report", str(tmp_path / "page.html"), "--size", "40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Classes: 2. Images: 9. Left out: 0")
    assert lines[1].startswith("error    1 image of 5 in test can be found in train or validation too")
    assert lines[2].split() == ["test/a/leak.png", "train/a/<0>.png"]
    page = (tmp_path / "page.html").read_text()
    assert "train/a/&lt;0&gt;.png" in page and page.count('src="data:image/jpeg;base64,') >= 2
    assert cli.main(["doctor", str(tmp_path / "data"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["classes"], told["left_out"]) == (9, 2, 0)
    assert told["findings"][0]["kind"] == "leak" and told["findings"][0]["count"] == 1


def test_what_differs_in_a_set_is_shown_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    for n in range(26):  # the same picture, and the one with the other label comes last
        saved(picture(0), tmp_path / "data" / "ab"[n > 24] / f"{n:02}.png")
    saved(picture(1), tmp_path / "data" / "b" / "other.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--report", str(tmp_path / "page.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "error    1 picture has a copy under another label, such as a and b."
    assert lines[2].split() == ["a/00.png", "b/25.png", "a/01.png", "and", "23", "more"]
    page = (tmp_path / "page.html").read_text()
    assert "b/25.png" in page and page.count("… and 14 more.") == 2  # of contradiction and of copies 12 are shown


def test_what_fit_would_refuse_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    for n in range(12):
        saved(picture(n), tmp_path / "data" / "a" / f"{n}.png", format="TIFF" if n > 9 else None)
    assert cli.main(["doctor", str(tmp_path / "data"), "--size", "96"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("error    Nothing can be learned from this: A classifier needs at least two classes.")
    text = "2 files are left out: a TIFF file, which TensorFlow cannot decode: convert it to JPEG or PNG."
    assert lines[2] == f"warning  {text}"


@pytest.mark.parametrize(("option", "value"), [("--size", "0"), ("--size", "-5"), ("--report", ".")])
def test_options_that_make_no_sense(tmp_path, capsys, option, value):
    saved(picture(0), tmp_path / "data" / "a" / "0.png")
    assert cli.main(["doctor", str(tmp_path / "data"), option, value]) == 2
    assert capsys.readouterr().err.startswith(f"keras-cnn doctor: {option} must ")


def test_a_report_that_cannot_be_written(tmp_path, capsys):
    saved(picture(0), tmp_path / "data" / "a" / "0.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--report", str(tmp_path / "none" / "page.html")]) == 2
    assert capsys.readouterr().err.startswith("keras-cnn doctor: --report must name a file in a folder that exists.")
    with pytest.raises(InputError):
        Catalog.from_folder(tmp_path / "none")


def test_the_accuracy_without_leaks_is_that_of_the_other_test_images():
    """Of four test images three are right; the first, right, is a training image too: two of three are left."""
    paths, splits = tuple("abcdef"), ("train", "test", "test", "test", "test", "validation")
    catalog = Catalog(paths, ("x", "x", "y", "x", "y", "x"), splits, ("",) * 6, ("",) * 6)
    same = doctor.Likeness((np.array([0, 1]),), (), True)
    evaluation = Evaluation(
        np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]), np.array([0, 1, 0, 1]), ("x", "y")
    )
    assert fine_tuning._honest(evaluation, catalog, same, ())["accuracy_without_leaks"] == pytest.approx(2 / 3)
    assert fine_tuning._honest(evaluation, catalog, doctor.Likeness((), (), True), ()) == {"findings": []}


def exif(kind, value, order="<"):
    """Exif data with an orientation alone, in an entry of a type."""
    packed = struct.pack(order + {3: "HH", 4: "I"}[kind], *((value, 0) if kind == 3 else (value,)))
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    return b"Exif\0\0" + header + struct.pack(f"{order}HHHI", 1, 0x0112, kind, 1) + packed + bytes(4)


def test_what_is_called_rotated_is_what_pillow_turns_and_the_decoder_shows_turned(tmp_path):
    """An orientation in a SHORT, as the standard wants, and in a LONG, as phones write; values that are none."""
    kinds = {
        f"{kind}{value}{order == '<'}": (kind, value, order) for kind in (3, 4) for value in (1, 6, 9) for order in "<>"
    }
    for name, (kind, value, order) in kinds.items():
        path = saved(
            picture(len(name)).crop((0, 0, 96, 64)),
            tmp_path / "data" / "a" / f"{name}.jpg",
            exif=exif(kind, value, order),
        )
        upright = ImageOps.exif_transpose(Image.open(path))
        assert (
            kc.images.decode(path.read_bytes()).shape[:2]
            == upright.size[::-1]
            == ((96, 64) if value == 6 else (64, 96))
        )
    saved(picture(0), tmp_path / "data" / "b" / "0.png")
    told = found(Catalog.from_folder(tmp_path / "data"), tmp_path)
    assert {Path(path).stem[:2] for files in told["rotated"].files for path in files} == {"36", "46"}
    assert len(told["rotated"].files) == 4


def labelled(labels):
    """A catalog of one image that is not looked at for each label."""
    rows = [(f"{number}.png", label, "") for number, label in enumerate(labels)]
    paths, labels, splits = zip(*rows, strict=True)
    return Catalog(paths, labels, splits, ("",) * len(rows), ("",) * len(rows))


@pytest.mark.parametrize(
    ("labels", "spelt"),
    [
        (["Café", "Café "], "'Café' (1), 'Café ' (1)"),
        (["Cafe\u0301", "Café"], r"'Cafe\u0301' (1), 'Café' (1)"),
        ([" cat", "cat"], "' cat' (1), 'cat' (1)"),
        (["ice  cream", "ice cream", "ice\xa0cream"], r"'ice  cream' (1), 'ice cream' (1), 'ice\xa0cream' (1)"),
        (["cat", "cat\u200b", "c\xadat", "\ufeffcat"], r"'cat' (1), 'cat\u200b' (1), 'c\xadat' (1), '\ufeffcat' (1)"),
        (["cat", "ｃat"], r"'cat' (1), '\uff43at' (1)"),
        (["10 µm", "10 μm"], r"'10 \xb5m' (1), '10 μm' (1)"),
    ],
)
def test_labels_that_look_the_same_are_an_error(labels, spelt):
    (finding,) = findings._labels(labelled([*labels, "dog"]))
    assert (finding.kind, finding.level) == ("same label", "error")
    assert finding.text.startswith("1 set of labels differs only by white space, invisible signs or Unicode form, and ")
    assert f": {spelt}. Give each set one spelling." in finding.text


@pytest.mark.parametrize("labels", [["Café", "café"], ["STRASSE", "Straße"], ["ice cream", "icecream"], ["Å", "å"]])
def test_labels_that_differ_by_case_or_by_a_blank_are_a_warning(labels):
    (finding,) = findings._labels(labelled([*labels, "dog"]))
    assert (finding.kind, finding.level) == ("similar label", "warning")
    assert f"{labels[0]!r} (1), {labels[1]!r} (1)" in finding.text


@pytest.mark.parametrize("labels", [["cat", "cats"], ["1", "10"], ["a", "а"], ["crème", "creme"], ["C", "C++"]])
def test_other_labels_are_different(labels):
    assert list(findings._labels(labelled(labels))) == []


def test_labels_of_several_columns_are_compared_too():
    (finding,) = findings._labels(labelled([("cat", "night"), ("cat ",), ()]))
    assert finding.level == "error" and "'cat' (1), 'cat ' (1)" in finding.text


@pytest.mark.parametrize("label", [" ", "\u200b", "\xa0\u3000"])
def test_a_label_that_shows_nothing_is_an_error(label):
    (finding,) = findings._labels(labelled([label, "cat"]))
    assert (finding.kind, finding.level) == ("blank label", "error") and repr(label) in finding.text


def test_folders_whose_names_look_the_same_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    for number, label in enumerate(["cat", " cat", "Cat", "dog"] * 3):
        saved(picture(number), tmp_path / "data" / label / f"{number}.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--size", "96"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[1].startswith("error    1 set of labels differs only by white space")
        and "' cat' (3), 'cat' (3)" in lines[1]
    )
    assert lines[2].startswith("warning  1 set of labels differs only by case") and "'Cat' (3)" in lines[2]


def gray_16(path, low, high):
    """A 16-bit PNG with a ramp of values from low to high."""
    return saved(Image.fromarray(np.linspace(low, high, 96 * 96).reshape(96, 96).astype("uint16")), path)


@pytest.mark.parametrize(("bits", "factor"), [(10, 64), (12, 16), (14, 4)])
def test_values_of_a_camera_in_16_bits_are_told_with_the_remedy(tmp_path, bits, factor):
    rows = [(gray_16(tmp_path / f"{n}.png", 10 * n, 2**bits - 1), "ab"[n % 2], "") for n in range(3)]
    rows.append((gray_16(tmp_path / "full.png", 0, 65_535), "a", ""))
    told = found(catalog_of(rows), tmp_path)
    assert told["unused bits"].level == "warning" and len(told["unused bits"].files) == 3
    assert told["unused bits"].text.startswith(
        f"3 images use {bits} of 16 bits; the upper 8 are seen, which is nearly black. "
    )
    assert f"Multiply the values by {factor} " in told["unused bits"].text
    assert {"constant", "nearly black", "low contrast"}.isdisjoint(told) and len(told["16-bit"].files) == 4


def test_colours_of_16_bits_are_told_too_whatever_their_alpha(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (96, 96, 4), dtype="uint16")
    values[..., 3] = 65_535
    for channels in (3, 4):
        content = tf.io.encode_png(values[..., :channels]).numpy()
        (tmp_path / f"{channels}.png").write_bytes(content)
    told = found(catalog_of([(tmp_path / f"{channels}.png", "ab"[channels % 2], "") for channels in (3, 4)]), tmp_path)
    assert told["unused bits"].text.startswith("2 images use 12 of 16 bits")


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        (np.arange(96 * 96).reshape(96, 96) // 16 % 6, "nearly black", "no value above 5 of 255: label masks, or"),
        (np.arange(96 * 96).reshape(96, 96) // 16 % 6 + 200, "low contrast", "values at most 5 of 255 apart"),
        (np.full((96, 96), 200), "constant", "1 image has a single colour."),
        (np.zeros((96, 96)), "constant", "1 image has a single colour."),
    ],
)
def test_values_in_a_small_part_of_8_bits(tmp_path, values, kind, text):
    told = found(catalog_of([(saved(Image.fromarray(values.astype("uint8")), tmp_path / "a.png"), "a", "")]), tmp_path)
    assert {"constant", "nearly black", "low contrast", "unused bits"} & set(told) == {kind}
    assert told[kind].level == "warning" and text in told[kind].text


@pytest.mark.parametrize(("low", "high", "kind"), [(30_000, 30_100, "low contrast"), (30_000, 30_000, "constant")])
def test_16_bits_that_hardly_vary(tmp_path, low, high, kind):
    told = found(catalog_of([(gray_16(tmp_path / "a.png", low, high), "a", "")]), tmp_path)
    assert {"constant", "nearly black", "low contrast", "unused bits"} & set(told) == {kind}


def test_names_that_are_no_text_or_would_act_on_a_terminal(tmp_path, capsys, monkeypatch):
    """A copy under a name of such bytes, and one with an escape sequence and a line break."""
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    names = [os.fsdecode(b"caf\xe9.png"), "\x1b[31mred\n\u202e.png", "a.png"]
    for name in names:
        saved(picture(0), tmp_path / "data" / "a" / name)
    saved(picture(1), tmp_path / "data" / "b" / "b.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--report", str(tmp_path / "page.html"), "--size", "96"]) == 0
    out = capsys.readouterr().out
    assert (
        r"a/caf\xe9.png" in out
        and r"a/\x1b[31mred\n\u202e.png" in out
        and printable(out.replace("\n", "")) == out.replace("\n", "")
    )
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"a/caf\xe9.png" in page and r"a/\x1b[31mred\n\u202e.png" in page
    assert cli.main(["doctor", str(tmp_path / "data"), "--json"]) == 0
    files = {
        path for one in json.loads(capsys.readouterr().out)["findings"] for files in one["files"] for path in files
    }
    assert {str(tmp_path / "data" / "a" / name) for name in names} <= files and all(map(os.path.exists, files))


def test_tables_and_notes_beside_images_are_no_warning(tmp_path):
    saved(picture(0), tmp_path / "data" / "a" / "0.png")
    for name in ("Thumbs.db", "notes.txt", "film.mp4"):
        (tmp_path / "data" / "a" / name).write_bytes(b"something")
    catalog, images = doctor.read(
        Catalog.from_folder(tmp_path / "data"), kc.Preprocessing(32), ArrayCache(tmp_path / "cache")
    )
    told = [one for one in doctor.examine(catalog, images, doctor.likeness(images), SIZE) if one.kind == "left out"]
    assert [(one.level, [Path(path).name for (path,) in one.files]) for one in told] == [
        ("warning", ["film.mp4"]),
        ("note", ["Thumbs.db", "notes.txt"]),
    ]
