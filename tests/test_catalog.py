"""From folders to a table: what is listed, what is left out and why, and how it is split."""

import csv
import os

import pytest

from pipelines import Catalog, InputError


def folder(root, **classes):
    """Empty files by class; names may hold slashes."""
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


def test_other_files_are_named_and_hidden_ones_passed_over(tmp_path):
    root = folder(tmp_path, a=["1.jpg", "notes.txt", ".hidden.jpg", ".cache/2.jpg"])
    (root / "stray.jpg").touch()
    (root / ".git").mkdir()
    catalog = Catalog.from_folder(root)
    assert [path.rsplit("/", 1)[1] for path in catalog.paths] == ["stray.jpg", "1.jpg", "notes.txt"]
    assert catalog.reasons == ("not in the folder of a class", "", "not an image file by its ending (.txt)")
    assert list(catalog.used()) == [1]


def test_split_is_stratified_seeded_and_complete(tmp_path):
    catalog = Catalog.from_folder(folder(tmp_path, big=numbered(100), small=numbered(20)))
    split = catalog.split(seed=1)
    count = {
        (name, label): sum(s == name and c == label for s, c in zip(split.splits, split.labels, strict=True))
        for name in ("train", "validation", "test")
        for label in ("big", "small")
    }
    # 65, 15 and 20 % by hand.
    assert count == {
        ("train", "big"): 65,
        ("validation", "big"): 15,
        ("test", "big"): 20,
        ("train", "small"): 13,
        ("validation", "small"): 3,
        ("test", "small"): 4,
    }
    assert split == catalog.split(seed=1)
    assert split.splits != catalog.split(seed=2).splits


def test_split_does_not_depend_on_where_the_folder_is(tmp_path):
    first = folder(tmp_path / "here", a=numbered(9), b=numbered(9))
    second = folder(tmp_path / "there" / "below", a=numbered(9), b=numbered(9))
    assert Catalog.from_folder(first).split().splits == Catalog.from_folder(second).split().splits


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (2, {"train": 1, "test": 1}),
        (3, {"train": 1, "test": 1, "validation": 1}),
        (4, {"train": 2, "test": 1, "validation": 1}),
    ],
)
def test_small_classes(tmp_path, images, expected):
    split = Catalog.from_folder(folder(tmp_path, only=numbered(images))).split()
    assert {name: split.splits.count(name) for name in set(split.splits)} == expected


def test_left_out_files_have_no_split(tmp_path):
    catalog = Catalog.from_folder(folder(tmp_path, a=numbered(5), b=numbered(5))).leave_out({0: "broken"}).split()
    assert catalog.splits[0] == "" and "" not in catalog.splits[1:]
    assert 0 not in catalog.used()


def test_csv_has_every_file(tmp_path):
    catalog = Catalog.from_folder(folder(tmp_path / "data", **{"crème, brûlée": ["a.jpg", "b.txt"]}))
    catalog.to_csv(tmp_path / "catalog.csv")
    with open(tmp_path / "catalog.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["reason"]) for row in rows] == [
        ("crème, brûlée", ""),
        ("crème, brûlée", "not an image file by its ending (.txt)"),
    ]
    assert list(rows[0]) == ["path", "label", "split", "group", "reason"]


def test_pipes_and_dead_links_are_left_out_without_being_opened(tmp_path):
    root = folder(tmp_path, a=["1.jpg"])
    os.mkfifo(root / "a" / "2.jpg")
    (root / "a" / "3.jpg").symlink_to("nowhere")
    (root / "a" / "4.jpg").symlink_to("4.jpg")
    assert Catalog.from_folder(root).reasons == ("", "not a regular file", "a link to nowhere", "a link to nowhere")


@pytest.mark.parametrize("label", ["two\nlines", "bell\a", os.fsdecode(b"caf\xe9")])
def test_names_that_no_list_of_labels_can_carry_are_refused(tmp_path, label):
    catalog = Catalog.from_folder(folder(tmp_path, a=numbered(3), **{label: numbered(3)}))
    with pytest.raises(InputError, match=r"must be valid text of one line\. Received: .*\. Rename its folder\."):
        catalog.check()


def test_bad_folders_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"Received: .*none, which is no folder\.$"):
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
        InputError, match=r"at least 2 readable images\. Received: 'b' has 1\. Files were left out as: torn\. Add"
    ):
        few.leave_out({4: "torn"}).check()
