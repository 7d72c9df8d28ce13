"""Catalogs of folders: which files are listed, which are excluded and why, and how they are split."""

import builtins
import csv
import io
import os

import pytest
from PIL import Image

from pipelines import Catalog, InputError
from pipelines.catalog import folders


def folder(root, **classes):
    """Empty files by class; names may have slashes."""
    for label, names in classes.items():
        (root / label).mkdir(parents=True)
        for name in names:
            (root / label / name).parent.mkdir(parents=True, exist_ok=True)
            (root / label / name).touch()
    return root


def numbered(count):
    return [f"{i:03}.jpg" for i in range(count)]


def test_the_first_level_is_the_class(tmp_path):
    catalog = Catalog.from_folder(folder(tmp_path, apple=["red/a.jpg", "green/deep/b.PNG"], pear=["c.webp"]))
    assert catalog.classes == ("apple", "pear")
    assert dict(zip(catalog.paths, catalog.labels, strict=True)) == {
        str(tmp_path / "apple/red/a.jpg"): "apple",
        str(tmp_path / "apple/green/deep/b.PNG"): "apple",
        str(tmp_path / "pear/c.webp"): "pear",
    }


def test_other_files_are_listed_and_hidden_files_skipped(tmp_path):
    root = folder(tmp_path, a=["1.jpg", "notes.txt", ".hidden.jpg", ".cache/2.jpg"])
    (root / "stray.jpg").touch()
    (root / ".git").mkdir()
    catalog = Catalog.from_folder(root)
    assert [path.rsplit("/", 1)[1] for path in catalog.paths] == ["stray.jpg", "1.jpg", "notes.txt"]
    assert catalog.exclusion_reasons == ("not in the folder of a class", "", "not an image file by its suffix (.txt)")
    assert list(catalog.included()) == [1]


def test_split_is_seeded_and_complete(tmp_path):
    catalog = Catalog.from_folder(folder(tmp_path, big=numbered(100), small=numbered(3)))
    split = catalog.split(seed=1)
    in_small = [name for name, label in zip(split.splits, split.labels, strict=True) if label == "small"]
    assert sorted(in_small) == ["test", "train", "validation"] and "" not in split.splits
    assert split == catalog.split(seed=1)
    assert split.splits != catalog.split(seed=2).splits


def test_a_file_keeps_its_split_when_a_class_and_files_are_added(tmp_path):
    before = Catalog.from_folder(folder(tmp_path, a=numbered(60), b=numbered(60))).split()
    folder(tmp_path, c=numbered(60))
    for number in range(100, 140):
        (tmp_path / "a" / f"{number}.jpg").touch()
    after = Catalog.from_folder(tmp_path).split()
    split_of = dict(zip(after.paths, after.splits, strict=True))
    assert len(split_of) == 220
    assert all(split_of[path] == split for path, split in zip(before.paths, before.splits, strict=True))


def test_split_does_not_depend_on_where_the_folder_is(tmp_path):
    first = folder(tmp_path / "here", a=numbered(9), b=numbered(9))
    second = folder(tmp_path / "there" / "below", a=numbered(9), b=numbered(9))
    assert Catalog.from_folder(first).split().splits == Catalog.from_folder(second).split().splits


def test_excluded_files_have_no_split(tmp_path):
    catalog = Catalog.from_folder(folder(tmp_path, a=numbered(5), b=numbered(5))).exclude({0: "broken"}).split()
    assert catalog.splits[0] == "" and "" not in catalog.splits[1:]
    assert 0 not in catalog.included()


def test_the_csv_file_lists_every_file(tmp_path):
    catalog = Catalog.from_folder(folder(tmp_path / "data", **{"crème, brûlée": ["a.jpg", "b.txt"]}))
    catalog.to_csv(tmp_path / "catalog.csv")
    with open(tmp_path / "catalog.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["reason"]) for row in rows] == [
        ("crème, brûlée", ""),
        ("crème, brûlée", "not an image file by its suffix (.txt)"),
    ]
    assert list(rows[0]) == ["path", "label", "split", "group", "reason"]


SPLIT_FOLDERS = [("train", "val"), ("Training", "VALID", "Testing"), ("train", "validation", "test"), ("train", "dev")]


@pytest.mark.parametrize("names", SPLIT_FOLDERS)
def test_folders_of_splits(tmp_path, names):
    for name in names:
        folder(tmp_path / name, a=["1.jpg", "2.jpg", "x.txt"], b=["deep/1.jpg"])
    (tmp_path / "README.md").touch()
    catalog = Catalog.from_folder(tmp_path)
    found = {"t": "train", "v": "validation", "d": "validation"}
    expected = {name: "test" if name.lower().startswith("test") else found[name[0].lower()] for name in names}
    for path, label, split, reason in zip(
        catalog.paths, catalog.labels, catalog.splits, catalog.exclusion_reasons, strict=True
    ):
        name, *rest = os.path.relpath(path, tmp_path).split("/")
        assert (label, split) == (("", "") if not rest else (rest[0], "" if reason else expected[name]))
    assert catalog.classes == ("a", "b") and len(catalog.included()) == 3 * len(names)


def test_a_class_may_be_called_train(tmp_path):
    assert Catalog.from_folder(folder(tmp_path, train=["1.jpg"], plane=["1.jpg"])).classes == ("plane", "train")


def test_other_folders_next_to_folders_of_splits_are_refused(tmp_path):
    folder(tmp_path, **{"train/a": ["1.jpg"], "test/a": ["1.jpg"], "more/a": ["1.jpg"]})
    sentence = (
        r"there must be no other folder\. Received: test, train and more in .*\. Move more into a split or elsewhere\.$"
    )
    with pytest.raises(InputError, match=sentence):
        Catalog.from_folder(tmp_path)


def test_the_last_level_may_be_the_class(tmp_path):
    root = folder(tmp_path, **{"fruit/apple/red": ["1.jpg"], "fruit/pear": ["1.jpg"], "roots": ["1.jpg"]})
    assert Catalog.from_folder(root).classes == ("fruit", "roots")
    assert Catalog.from_folder(root, class_folder="last").classes == ("pear", "red", "roots")
    (root / "fruit" / "plum").mkdir()
    assert len(Catalog.from_folder(root).included()) == 3
    with pytest.raises(InputError, match=r"empty folders in .*: plum\. Fill or remove them\."):
        Catalog.from_folder(root, class_folder="last")
    with pytest.raises(InputError, match=r"must be 'first' or 'last'\. Received: 'middle'\."):
        Catalog.from_folder(root, class_folder="middle")


def test_class_names_that_are_numbers_are_sorted_as_numbers(tmp_path):
    assert Catalog.from_folder(folder(tmp_path, **{str(n): ["1.jpg"] for n in (10, 9, 0)})).classes == ("0", "9", "10")


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    root = folder(tmp_path / "data", a=["1.jpg"], b=["deep/2.jpg"])
    folder(tmp_path / "elsewhere", c=["3.jpg"])
    (root / "c").symlink_to(tmp_path / "elsewhere" / "c")
    (root / "a" / "again").symlink_to(root / "b")
    (root / "a" / "home").symlink_to(root)
    (root / "b" / "deep" / "over").symlink_to(root / "a")
    catalog = Catalog.from_folder(root)
    circle = "a link to a folder around it"
    assert {
        os.path.relpath(path, root): reason
        for path, reason in zip(catalog.paths, catalog.exclusion_reasons, strict=True)
    } == {
        "a/1.jpg": "",
        "a/again/deep/2.jpg": "",
        "a/again/deep/over": circle,
        "a/home": circle,
        "b/deep/2.jpg": "",
        "b/deep/over/1.jpg": "",
        "b/deep/over/again": circle,
        "b/deep/over/home": circle,
        "c/3.jpg": "",
    }


def test_long_and_foreign_names(tmp_path):
    names = ["é" * 100 + ".jpg", "日本 語\n.png", "x" * 251 + ".jpg", os.fsdecode(b"caf\xe9.jpg")]
    catalog = Catalog.from_folder(folder(tmp_path / "data", ключ=names, b=numbered(3))).split()
    assert {os.path.basename(catalog.paths[index]) for index in catalog.included()} == {*names, *numbered(3)}
    catalog.to_csv(tmp_path / "catalog.csv")
    again = Catalog.from_csv(tmp_path / "catalog.csv")
    assert (again.paths, again.labels, again.splits) == (catalog.paths, catalog.labels, catalog.splits)


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    """Simulated, since the root user may read every folder."""
    root, listing = folder(tmp_path, a=["1.jpg"], b=["1.jpg"]), os.scandir

    def refuse(path):
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied", path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        InputError,
        match=r"^The folder .*b cannot be read: Permission denied\. Change its permissions, or move it away\.$",
    ):
        Catalog.from_folder(root)


def test_pipes_and_dead_links_are_excluded_without_being_opened(tmp_path):
    root = folder(tmp_path, a=["1.jpg"])
    os.mkfifo(root / "a" / "2.jpg")
    (root / "a" / "3.jpg").symlink_to("nowhere")
    (root / "a" / "4.jpg").symlink_to("4.jpg")
    assert Catalog.from_folder(root).exclusion_reasons == (
        "",
        "not a regular file",
        *["a link to a file that does not exist"] * 2,
    )


@pytest.mark.parametrize("label", ["two\nlines", "bell\a", os.fsdecode(b"caf\xe9")])
def test_class_names_that_do_not_fit_into_a_list_of_labels_are_refused(tmp_path, label):
    catalog = Catalog.from_folder(folder(tmp_path, a=numbered(3), **{label: numbered(3)}))
    with pytest.raises(InputError, match=r"must be valid text of one line\. Received: .*\. Rename it\."):
        catalog.check()


def test_bad_folders_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"Received: .*none, no folder\.$"):
        Catalog.from_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"Received: .*empty, without such folders\.$"):
        Catalog.from_folder(tmp_path / "empty")
    with pytest.raises(InputError, match=r"at least two classes\. Received: 1, a\.$"):
        Catalog.from_folder(folder(tmp_path / "one", a=numbered(3))).check()
    with pytest.raises(InputError, match=r"Received: empty folders in .*two: b\. Fill or remove them\.$"):
        Catalog.from_folder(folder(tmp_path / "two", a=numbered(3), b=[]))
    with pytest.raises(InputError, match=r"three readable images: .* Received: 2 in every class"):
        Catalog.from_folder(folder(tmp_path / "pairs", a=numbered(2), b=numbered(2))).check()
    few = Catalog.from_folder(folder(tmp_path / "few", a=numbered(3), b=numbered(2)))
    assert few.check() is few
    with pytest.raises(
        InputError, match=r"at least 2 readable images\. Received: 'b' has 1\. Excluded files: torn\. Add"
    ):
        few.exclude({4: "torn"}).check()


def image_bytes(form):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, form)
    return buffer.getvalue()


# The reason why a file cannot be used as an image ("": it can), and its content.
KNOWN_BY_BYTES = {
    **{form: ("", image_bytes(form)) for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP")},
    "TIFF": ("a TIFF file, which TensorFlow cannot decode: convert it to JPEG or PNG", image_bytes("TIFF")),
    "HEIF": (
        "a HEIF file, which TensorFlow cannot decode: convert it to JPEG or PNG",
        b"\0\0\0\x18ftypheic" + bytes(9),
    ),
    "AVIF": ("a AVIF file, which TensorFlow cannot decode: convert it to JPEG or PNG", image_bytes("AVIF")),
    "JPEG2000": (
        "a JPEG 2000 file, which TensorFlow cannot decode: convert it to JPEG or PNG",
        image_bytes("JPEG2000"),
    ),
    "film": ("not an image file by its first bytes (.odd)", b"\0\0\0\x18ftypisom" + bytes(9)),
    "text": ("not an image file by its first bytes (.odd)", b"BMW, and more of it"),
    "nothing": ("not an image file by its first bytes (.odd)", b""),
}


@pytest.mark.parametrize("kind", KNOWN_BY_BYTES)
def test_a_file_with_an_unknown_suffix_is_judged_by_its_first_bytes(tmp_path, kind):
    reason, content = KNOWN_BY_BYTES[kind]
    root = folder(tmp_path, a=["1.odd"])
    (root / "a" / "1.odd").write_bytes(content)
    assert Catalog.from_folder(root).exclusion_reasons == (reason.replace("a AVIF", "an AVIF"),)


def test_files_with_suffixes_of_images_and_of_their_companions_are_not_opened(tmp_path, monkeypatch):
    names = [
        "1.jpg",
        "2.JFIF",
        "3.jpe",
        "4.Jpg",
        "5.dib",
        "Thumbs.db",
        "a.XML",
        "b.json",
        "c.csv",
        "d.txt",
        "desktop.ini",
    ]
    root = folder(tmp_path, a=names)
    monkeypatch.setattr(builtins, "open", None)
    catalog = Catalog.from_folder(root)
    assert [os.path.basename(catalog.paths[index]) for index in catalog.included()] == names[:5]


def test_a_file_without_a_suffix_and_one_that_cannot_be_opened(tmp_path, monkeypatch):
    root = folder(tmp_path, a=["IMG_0001", "notes", "x.tif"])
    (root / "a" / "IMG_0001").write_bytes(image_bytes("JPEG"))
    real = builtins.open

    def refuse(path, *arguments, **options):
        if str(path).endswith("x.tif"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", refuse)
    assert Catalog.from_folder(root).exclusion_reasons == (
        *("", "not an image file by its first bytes (no suffix)"),
        "a file that cannot be read: Permission denied",
    )


def test_the_images_of_a_folder_and_the_number_of_other_files(tmp_path):
    root = folder(tmp_path, a=["1.jpg", "2.tif", "3.mp4", "4.MP4", "5", "6.txt", ".hidden", "sub/7.heic"])
    (root / "a" / "2.tif").write_bytes(image_bytes("TIFF"))
    (root / "a" / "sub" / "7.heic").write_bytes(image_bytes("JPEG"))
    os.mkfifo(root / "a" / "8.jpg")
    paths, others = folders.images(root)
    assert [os.path.relpath(path, root) for path in paths] == ["a/1.jpg", "a/2.tif", "a/sub/7.heic"]
    assert others == {".mp4": 2, "": 1, ".jpg": 1}
