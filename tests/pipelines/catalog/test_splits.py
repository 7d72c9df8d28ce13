"""Splits: their shares, a split for every class, and images that stay in their split."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from pipelines import InputError
from pipelines.catalog.splits import draw


def split_by_hash(seed, name):
    """The split by the hash alone, implemented again."""
    value = int(hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()[:16], 16) / 16**16
    return "test" if value < 0.20 else "validation" if value < 0.35 else "train"


def split_of(names, classes=None, official=None, seed=0):
    """Dict name -> split, of units in one class by default."""
    classes = [(0,)] * len(names) if classes is None else classes
    return dict(zip(names, draw(names, classes, official or [""] * len(names), seed), strict=True))


def test_shares():
    found = Counter(split_of([f"{number}.jpg" for number in range(10_000)]).values())
    # Binomial: standard deviations of 40 and 35.7 around 2,000 and 1,500.
    assert abs(found["test"] - 2000) < 160 and abs(found["validation"] - 1500) < 143


@pytest.mark.parametrize(
    ("count", "needed"),
    [(1, {"train"}), (2, {"train", "test"}), *((n, {"train", "test", "validation"}) for n in (3, 4, 7, 12))],
)
def test_a_small_class_has_an_image_in_each_split(count, needed):
    for seed in range(200):
        assert set(split_of([f"{number}.jpg" for number in range(count)], seed=seed).values()) == needed


def test_the_image_with_the_nearest_hash_is_moved():
    """If all three hashes are in one split, the lowest one goes to test and the highest one to train."""
    seen = set()
    for seed in range(300):
        names = [f"{number}.jpg" for number in range(3)]
        if len(alone := {split_by_hash(seed, name) for name in names}) == 1:
            seen |= alone
            names.sort(key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
            assert [split_of(names, seed=seed)[name] for name in names] == ["test", "validation", "train"]
    assert {"train", "test"} <= seen


def test_classes_with_the_same_images_share_the_images_that_move():
    """A second class with the same images changes nothing."""
    for seed in range(200):
        names = [f"{number}.jpg" for number in range(6)]
        assert split_of(names, [(0, 1)] * 6, seed=seed) == split_of(names, seed=seed)


def test_images_keep_their_split_when_others_are_added():
    """A class grows from 3 to 150 images. Once the hash alone fills every split, it decides for each image."""
    moves = []
    for seed in range(10):
        names = [f"{number}.jpg" for number in range(150)]
        before = split_of(names[:3], seed=seed)
        for count in range(4, 151):
            after = split_of(names[:count], seed=seed)
            moved = [name for name in before if before[name] != after[name]]
            alone = {name: split_by_hash(seed, name) for name in names[:count]}
            if len(set(alone.values())) == 3:
                assert after == alone
            assert len(moved) <= 2  # one returns to its own split, and another one that had moved for it
            moves += [count] * len(moved)
            before = after
    assert len(moves) > 0 and np.percentile(moves, 95) < 30


def test_the_splits_of_a_class_do_not_depend_on_other_classes():
    names, classes = [f"{number}" for number in range(400)], [(number % 4,) for number in range(400)]
    everything = split_of(names, classes)
    for number in range(4):
        some = names[number::4]
        assert split_of(some) == {name: everything[name] for name in some}


def test_groups_stay_in_one_split_and_classes_have_every_split():
    """About a third of the 40 groups have images of two classes."""
    random = np.random.default_rng(0)
    for seed in range(100):
        groups = random.integers(0, 40, 300)
        own = random.integers(0, 4, 40)
        other = np.where(random.random(40) < 0.3, random.integers(0, 4, 40), own)
        classes = [((own if random.random() < 0.5 else other)[group],) for group in groups]
        names = [f"person {group}" for group in groups]
        found = draw(names, classes, [""] * 300, seed)
        assert len(set(zip(names, found, strict=True))) == len(set(names))
        assert set(zip((one for (one,) in classes), found, strict=True)) == {
            (number, split) for number in range(4) for split in ("train", "validation", "test")
        }


def test_with_several_labels_each_class_has_every_split():
    random = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in range(60)]
    classes = [tuple(np.flatnonzero(random.random(8) < 0.15)) for _ in names]
    for seed in range(50):
        found = draw(names, classes, [""] * 60, seed)
        for number in range(8):
            images = [split for own, split in zip(classes, found, strict=True) if number in own]
            assert len(images) >= 3 and set(images) == {"train", "validation", "test"}


def test_official_splits_stay_and_a_missing_one_is_drawn_from_train():
    names = [f"{number}.jpg" for number in range(300)]
    official = ["train" if number < 200 else "test" for number in range(300)]
    found = split_of(names, official=official)
    assert {found[name] for name in names[200:]} == {"test"}
    assert {name: split for name, split in found.items() if split == "validation"} == {
        name: "validation" for name in names[:200] if split_by_hash(0, name) == "validation"
    }
    assert split_of(names, official=["train"] * 300) == split_of(names)
    complete = [("train", "validation", "test")[number % 3] for number in range(300)]
    assert list(split_of(names, official=complete).values()) == complete


def test_files_without_an_official_split_are_drawn():
    names = [f"{number}.jpg" for number in range(90)]
    complete = [("train", "validation", "test")[number % 3] for number in range(60)]
    found = split_of(names, official=complete + [""] * 30)
    assert [found[name] for name in names[:60]] == complete
    assert all(found[name] == split_by_hash(0, name) for name in names[60:])


def test_a_small_class_with_official_splits_takes_its_validation_image_from_train():
    official = ["train"] * 3 + ["test"] * 2
    for seed in range(100):
        found = draw(list("abcde"), [(0,)] * 5, official, seed)
        assert found[3:] == ["test", "test"] and set(found[:3]) == {"train", "validation"}


def test_a_group_in_two_official_splits_is_refused():
    sentence = (
        r"^A group must be in one split\. Received: 'p' in train and in test\. Correct the splits, or use no groups"
    )
    with pytest.raises(InputError, match=sentence):
        draw(["p", "q", "p"], [(0,)] * 3, ["train", "train", "test"], 0)
