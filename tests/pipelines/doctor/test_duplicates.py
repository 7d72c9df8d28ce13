"""Duplicates and near-duplicates: which are found, that they stay in one split, and leaks between splits."""

import shutil

import numpy as np
import pytest
from helpers.doctor_cases import catalog_of, findings_by_kind, random_image, read, save
from PIL import Image, ImageEnhance
from skimage import data

from pipelines import Catalog, doctor, fine_tuning
from pipelines.doctor.near_duplicates import MIN_CORRELATION, near_pairs
from pipelines.evaluation.single_label import SingleLabelEvaluation


def test_leaks_and_label_conflicts(tmp_path):
    rows = [(save(random_image(n), tmp_path / f"{n}.png"), "ab"[n % 2], ("train", "test")[n // 20]) for n in range(40)]
    original = Image.open(rows[0][0])
    shutil.copy(rows[0][0], tmp_path / "copy.png")
    near = ImageEnhance.Brightness(original.resize((60, 60))).enhance(1.2)
    rows += [(tmp_path / "copy.png", "a", "test"), (save(near, tmp_path / "near.jpg", quality=60), "b", "validation")]
    found = findings_by_kind(catalog_of(rows), tmp_path)
    same = [str(rows[40][0]), str(rows[0][0]), str(rows[41][0])]
    assert found["leak"].level == "error"
    assert [set(files) for files in found["leak"].files] == [{same[2], same[1]}]  # the last leak, of validation
    assert [set(files) for files in found["near label conflict"].files] == [set(same)]
    assert "label conflict" not in found
    assert [set(files) for files in found["duplicates"].files] == [{same[0], same[1]}]


def test_near_pairs_are_the_pairs_that_correlate():
    """The search by projections finds the same pairs as a comparison of all images with each other."""
    chance = np.random.default_rng(0)
    base = chance.integers(40, 200, (150, 8, 8, 3))
    noisy = base[chance.integers(150, size=600)] + chance.normal(0, 1, (600, 8, 8, 3)) * chance.uniform(
        0, 14, (600, 1, 1, 1)
    )
    thumbnails = noisy.round().clip(0, 255).astype("uint8")
    centred = thumbnails - thumbnails.mean((1, 2), keepdims=True)
    correlation = np.corrcoef(centred.reshape(600, -1))
    expected = np.argwhere(np.triu(correlation, 1) >= MIN_CORRELATION)
    assert 200 < len(expected) < 3000
    found = np.sort(near_pairs(thumbnails), axis=1)
    assert set(map(tuple, found.tolist())) == set(map(tuple, expected.tolist()))


def test_flat_images_are_not_near_duplicates():
    thumbnails = np.full((50, 8, 8, 3), 255, "uint8")
    thumbnails[:, 0, 0] = np.arange(150).reshape(50, 3) % 3 + 250
    assert len(near_pairs(thumbnails)) == 0


def test_coloured_blank_pages_are_not_near_duplicates():
    thumbnails = np.random.default_rng(0).integers(-2, 3, (50, 8, 8, 3)) + np.array([250, 240, 180])
    assert len(near_pairs(thumbnails.astype("uint8"))) == 0


def test_a_tint_that_all_images_share_makes_no_near_duplicates():
    """Parts of one photo of a retina, all of them orange. They do not overlap, so no two are the same."""
    photo = data.retina()[:1408, :1408].reshape(11, 8, 16, 11, 8, 16, 3).mean((2, 5))
    thumbnails = photo.transpose(0, 2, 1, 3, 4).reshape(121, 8, 8, 3).round().astype("uint8")
    detailed = thumbnails.std((1, 2)).max(1) > 12
    assert detailed.sum() > 20
    assert len(near_pairs(thumbnails)) == 0


def test_duplicates_are_drawn_into_one_split(tmp_path):
    rows = [(save(random_image(n), tmp_path / f"{n:02}.png"), "ab"[n % 2], "") for n in range(40)]
    alone = catalog_of(rows).split()
    for n in range(10):
        shutil.copy(rows[n][0], tmp_path / f"{n:02}_copy.png")
        rows.append((tmp_path / f"{n:02}_copy.png", rows[n][1], ""))
    catalog, images = read(catalog_of(rows), tmp_path)
    grouped = doctor.group_duplicates(catalog, doctor.find_duplicates(images)).split()
    assert grouped.splits[:40] == alone.splits  # the first images stay in their splits
    assert grouped.splits[40:] == alone.splits[:10]
    assert len(set(grouped.splits[:10])) > 1
    ungrouped = catalog.split()
    assert ungrouped.splits[40:] != ungrouped.splits[:10]


def test_sets_of_more_than_a_third_of_a_class_are_not_grouped(tmp_path):
    rows = [(save(random_image(n if n > 4 else 0), tmp_path / f"{n}.png"), "ab"[n > 4], "") for n in range(10)]
    catalog, images = read(catalog_of(rows), tmp_path)
    assert doctor.group_duplicates(catalog, doctor.find_duplicates(images)) == catalog


def test_duplicates_that_are_added_to_the_table_of_a_job_join_its_splits(tmp_path):
    """Whether the images of the job had duplicates before, and so a group, or not."""
    rows = [(save(random_image(n), tmp_path / f"{n:02}.png"), "ab"[n % 2], "") for n in range(30)]
    for n in range(6):
        shutil.copy(rows[n][0], tmp_path / f"{n:02}_copy.png")
        rows.append((tmp_path / f"{n:02}_copy.png", rows[n][1], ""))

    def grouped(catalog):
        catalog, images = read(catalog, tmp_path)
        return doctor.group_duplicates(catalog, doctor.find_duplicates(images)).split()

    grouped(catalog_of(rows)).to_csv(tmp_path / "catalog.csv")
    before = Catalog.from_csv(tmp_path / "catalog.csv")
    with open(tmp_path / "catalog.csv", "a", newline="") as file:
        for n in range(20):
            shutil.copy(rows[n][0], tmp_path / f"{n:02}_more.png")
            file.write(f"{tmp_path / f'{n:02}_more.png'},{rows[n][1]},,,\r\n")
    after = grouped(Catalog.from_csv(tmp_path / "catalog.csv"))
    assert after.splits[:36] == before.splits
    assert after.splits[36:] == before.splits[:20]
    assert set(before.splits[:6]) != {"train"} and set(before.splits[6:20]) == {"train", "validation", "test"}


def test_groups_and_official_splits_of_the_source_stay(tmp_path):
    path = save(random_image(0), tmp_path / "0.png")
    for n in range(1, 12):
        shutil.copy(path, tmp_path / f"{n}.png") if n < 4 else save(random_image(n), tmp_path / f"{n}.png")
    paths = tuple(str(tmp_path / f"{n}.png") for n in range(12))
    catalog = Catalog(
        paths, ("a",) * 12, ("train", "test", "train", "train", *("",) * 8), ("", "", "", "g", *("",) * 8), ("",) * 12
    )
    catalog, images = read(catalog, tmp_path)
    groups = doctor.group_duplicates(catalog, doctor.find_duplicates(images)).groups
    assert groups[0] == groups[2] == groups[3] == "g" and groups[1] == "" and set(groups[4:]) == {""}


def test_the_accuracy_without_leaks_is_that_of_the_other_test_images():
    """Of four test images three are correct. One of these is a training image too: two of the other three are correct."""
    paths, splits = tuple("abcdef"), ("train", "test", "test", "test", "test", "validation")
    catalog = Catalog(paths, ("x", "x", "y", "x", "y", "x"), splits, ("",) * 6, ("",) * 6)
    same = doctor.Duplicates((np.array([0, 1]),), (), True)
    assert doctor.cross_split_test_images(catalog, same).tolist() == [1]
    evaluation = SingleLabelEvaluation(
        np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]), np.array([0, 1, 0, 1]), ("x", "y")
    )
    assert fine_tuning.leak_report(evaluation, catalog, same, ())["accuracy_without_leaks"] == pytest.approx(2 / 3)
    assert fine_tuning.leak_report(evaluation, catalog, doctor.Duplicates((), (), True), ()) == {"findings": []}
