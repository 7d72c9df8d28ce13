"""The findings of the doctor: each says what is wrong, with how many files, why it matters and what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_cnn.arguments import join_some
from pipelines.catalog import Catalog
from pipelines.catalog.kinds import is_companion
from pipelines.doctor import labels
from pipelines.doctor.headers import ANIMATED, BY_PILLOW_NAME, CMYK, DEEP, FORMATS, ROTATED, TRAITS, TRANSPARENT
from pipelines.doctor.near_duplicates import MAX_IMAGES, Duplicates
from pipelines.doctor.reading import Images

ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")
FEW_IMAGES = 10  # of a class
IMBALANCE = 10  # times as many images in the largest class as in the smallest
MAX_CONSTANT_RANGE, MAX_FAINT_RANGE = 1, 8  # of 255: from the darkest to the brightest value
MAX_DARK_VALUE = 31  # of 255
FULL_DEPTH = 15  # bits; values of an image with 16 bits per channel need at least so many
MIN_SIZE = 0.5  # of the network's input, along either side
CONSTANT, SMALL, WRONG_SUFFIX = "constant", "small", "wrong suffix"
UNUSED_BITS, NEARLY_BLACK, LOW_CONTRAST = "unused bits", "nearly black", "low contrast"
MESSAGES = {  # for one image, for several
    CONSTANT: (
        "image has a single colour and shows nothing to learn from. Remove it.",
        "images have a single colour and show nothing to learn from. Remove them.",
    ),
    NEARLY_BLACK: (
        "image is nearly black: no value is above {brightest} of 255. Check whether it is a label mask or has unscaled values.",
        "images are nearly black: no value is above {brightest} of 255. Check whether they are label masks or have unscaled "
        "values.",
    ),
    LOW_CONTRAST: (
        "image has nearly a single colour: its values differ by at most {range} of 255. Stretch its contrast, or remove it.",
        "images have nearly a single colour: their values differ by at most {range} of 255. Stretch their contrast, or remove "
        "them.",
    ),
    UNUSED_BITS: (
        "image uses only {bits} of 16 bits. The network gets the upper 8, which are nearly black. Multiply its values by "
        "{factor} and save it with 16 bits again, or convert it to 8 bits.",
        "images use only {bits} of 16 bits. The network gets the upper 8, which are nearly black. Multiply their values by "
        "{factor} and save them with 16 bits again, or convert them to 8 bits.",
    ),
    SMALL: (
        "image is less than half as high or wide as the network input of {height} x {width} pixels, so it lacks detail. Use a "
        "larger image or a smaller input.",
        "images are less than half as high or wide as the network input of {height} x {width} pixels, so they lack detail. Use "
        "larger images or a smaller input.",
    ),
    WRONG_SUFFIX: (
        "image has the suffix of another format. It is read correctly, but other programs may fail: rename it.",
        "images have the suffix of another format. They are read correctly, but other programs may fail: rename them.",
    ),
    ANIMATED: (
        "image is animated; only its first frame is used.",
        "images are animated; only their first frames are used.",
    ),
    CMYK: (
        "image is in CMYK; its colours are converted approximately.",
        "images are in CMYK; their colours are converted approximately.",
    ),
    DEEP: (
        "image has 16 bits per channel; only the upper 8 are used.",
        "images have 16 bits per channel; only the upper 8 are used.",
    ),
    TRANSPARENT: (
        "image has transparent parts; they become white.",
        "images have transparent parts; they become white.",
    ),
    ROTATED: (
        "image is stored rotated; it is turned upright, as its EXIF orientation says.",
        "images are stored rotated; they are turned upright, as their EXIF orientations say.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """A fact about the data that a person should know.

    Attributes:
        kind: A name for programs, such as "leak".
        level: "error": measured results will be wrong. "warning": it may harm. "note": it is handled.
        text: What is wrong, with how many files, why it matters and what to do.
        files: Sets of paths. Files of one set are duplicates of each other, or it is a single file.
    """

    kind: str
    level: str
    text: str
    files: tuple[tuple[str, ...], ...] = ()

    def to_dict(self, max_sets: int | None = None) -> dict:
        """Plain values, for JSON, with the first `max_sets` sets of files; `count` is the number of all sets."""
        shown = [list(files) for files in self.files[:max_sets]]
        return {"kind": self.kind, "level": self.level, "text": self.text, "count": len(self.files), "files": shown}


def examine(catalog: Catalog, images: Images, duplicates: Duplicates, size: tuple[int, int]) -> tuple[Finding, ...]:
    """All findings, the worst first.

    Args:
        catalog: A catalog; leaks are searched between its splits, if it has splits.
        images: Its images, from `pipelines.doctor.read`.
        duplicates: Its duplicates, from `pipelines.doctor.find_duplicates`.
        size: Height and width of the network's input.
    """
    found = [
        *_leaks(catalog, duplicates),
        *_label_conflicts(catalog, duplicates),
        *_excluded(catalog),
        *_labels(catalog),
        *_class_sizes(catalog),
        *_duplicates(catalog, duplicates),
        *_images(catalog, images, size),
    ]
    return tuple(sorted(found, key=lambda finding: LEVELS.index(finding.level)))


def cross_split_test_images(catalog: Catalog, duplicates: Duplicates) -> np.ndarray:
    """The indices of test images with a duplicate or near-duplicate in another split."""
    pairs = _cross_split(catalog, duplicates, "test", ("train", "validation"))
    return np.array(sorted({index for in_test, _ in pairs for index in in_test}), int)


def _cross_split(
    catalog: Catalog, duplicates: Duplicates, split: str, others: Sequence[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """For each set of duplicates in `split` and in one of `others`: the indices in `split`, and those in `others`."""
    for indices in duplicates.sets:
        inside = [index for index in indices if catalog.splits[index] == split]
        outside = [index for index in indices if catalog.splits[index] in others]
        if inside and outside:
            yield inside, outside


def _leaks(catalog: Catalog, duplicates: Duplicates) -> Iterator[Finding]:
    for split, others in (("test", ("train", "validation")), ("validation", ("train",))):
        found = list(_cross_split(catalog, duplicates, split, others))
        if found:
            count, total = sum(len(inside) for inside, _ in found), len(catalog.included(split))
            text = (
                f"{count:,} of {total:,} {split} images {'is a duplicate' if count == 1 else 'are duplicates'} or "
                f"{'near-duplicate' if count == 1 else 'near-duplicates'} of images in {' or '.join(others)}, so the {split} "
                f"accuracy is too high. Remove {'it' if count == 1 else 'them'} from one of the splits."
            )
            sets = (_one_of_each_first(inside + outside, catalog.splits) for inside, outside in found)
            yield Finding("leak", ERROR, text, _paths(catalog, sets))


def _label_conflicts(catalog: Catalog, duplicates: Duplicates) -> Iterator[Finding]:
    for kind, level, sets, words, remedy in (
        ("label conflict", ERROR, duplicates.exact, "exact duplicates", "One of the labels is wrong: correct it."),
        (
            "near label conflict",
            WARNING,
            duplicates.near,
            "near-duplicates",
            "One of the labels may be wrong: check them.",
        ),
    ):
        conflicts = [indices for indices in sets if len({catalog.labels[index] for index in indices}) > 1]
        if conflicts:
            names = " and ".join(sorted({str(catalog.labels[index]) for index in conflicts[0]})[:2])
            text = _count(len(conflicts), f"set of {words} has", f"sets of {words} have")
            files = _paths(catalog, (_one_of_each_first(indices, catalog.labels) for indices in conflicts))
            yield Finding(kind, level, f"{text} different labels, such as {names}. {remedy}", files)


def _labels(catalog: Catalog) -> Iterator[Finding]:
    same, similar = labels.find_similar(catalog.classes)
    counts = _images_per_class(catalog)
    for kind, level, sets, words, remedy in (
        (
            "same label",
            ERROR,
            same,
            "white space, invisible characters or Unicode form",
            "Use one spelling per class.",
        ),
        ("similar label", WARNING, similar, "case or spaces", "If they mean the same, use one spelling."),
    ):
        if sets:
            text = _count(len(sets), "set of labels differs", "sets of labels differ")
            spellings = join_some(
                (", ".join(f"{labels.format_label(name)} ({counts[name]:,})" for name in names) for names in sets),
                separator="; ",
            )
            text = f"{text} only by {words}, so each spelling is another class: {spellings}. {remedy}"
            yield Finding(kind, level, text)
    blank = [name for name in catalog.classes if not labels.normalize(name)]
    if blank:
        text = _count(len(blank), "label has", "labels have")
        names = ", ".join(map(labels.format_label, blank[:5]))
        remedy = "Rename the class after what its images show."
        yield Finding("blank label", ERROR, f"{text} no visible character: {names}. {remedy}")


def _images_per_class(catalog: Catalog) -> Counter[str]:
    counts = Counter(dict.fromkeys(catalog.classes, 0))
    counts.update(name for index in catalog.included() for name in catalog.classes_of(index))
    return counts


def _excluded(catalog: Catalog) -> Iterator[Finding]:
    by_kind = defaultdict(list)
    for index, reason in enumerate(catalog.exclusion_reasons):
        if reason:
            by_kind[reason.split(":")[0].split(" (")[0]].append(index)
    for kind, indices in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        # The end of a reason, which says what to do, is omitted only if the files differ in it.
        reasons = {catalog.exclusion_reasons[index] for index in indices}
        reason = next(iter(reasons)).rstrip(".") if len(reasons) == 1 else kind
        text = f"{_count(len(indices), 'file is', 'files are')} excluded: {reason}."
        level = NOTE if all(map(is_companion, reasons)) else WARNING
        yield Finding("excluded", level, text, _paths(catalog, [[index] for index in indices]))


def _class_sizes(catalog: Catalog) -> Iterator[Finding]:
    ranked = _images_per_class(catalog).most_common()
    few = [f"{name} ({count})" for name, count in ranked[::-1] if count < FEW_IMAGES]
    if few:
        text = f"{_count(len(few), 'class has', 'classes have')} fewer than {FEW_IMAGES} images: {join_some(few)}."
        yield Finding("few images", WARNING, f"{text} Too few to learn from and to measure: add images.")
    if ranked and ranked[0][1] >= IMBALANCE * max(1, ranked[-1][1]):
        text = f"Classes are imbalanced: {ranked[0][0]} has {ranked[0][1]:,} images, {ranked[-1][0]} has {ranked[-1][1]:,}."
        yield Finding(
            "imbalance",
            WARNING,
            f"{text} The network may rarely predict small classes: add images, or balance them with --class-balance.",
        )


def _duplicates(catalog: Catalog, duplicates: Duplicates) -> Iterator[Finding]:
    for kind, sets, words in (
        ("duplicates", duplicates.exact, "exact duplicates"),
        ("near-duplicates", duplicates.near, "near-duplicates"),
    ):
        if sets:
            count = sum(map(len, sets))
            text = (
                f"{_count(count, 'image', 'images')} in {_count(len(sets), 'set', 'sets')} of {words}. Where `fit` draws the "
                "splits, it keeps a set in one split."
            )
            yield Finding(kind, NOTE, text, _paths(catalog, sets))
    if not duplicates.searched_near:
        text = (
            f"Near-duplicates are not searched: there are more than {MAX_IMAGES:,} images, or too many look alike, as in films "
            "and line drawings. Leaks of near-duplicates into the test are not found."
        )
        yield Finding("not compared", NOTE, text)


def _images(catalog: Catalog, images: Images, size: tuple[int, int]) -> Iterator[Finding]:
    included = images.indices_of(catalog.included())
    records, indices = images.records[included], images.catalog_indices[included]
    paths = [catalog.paths[index] for index in indices]
    small = (records["height"] < MIN_SIZE * size[0]) | (records["width"] < MIN_SIZE * size[1])
    affected = {
        **_by_values(records),
        SMALL: small & (records["height"] > 0),
        WRONG_SUFFIX: np.array(list(map(_has_wrong_suffix, paths, records["format"])), bool),
        **{trait: records["traits"] >> number & 1 == 1 for number, trait in enumerate(TRAITS)},
    }
    for kind, mask in affected.items():
        if mask.any():
            text = _count(mask.sum(), *MESSAGES[kind]).format(**_details(records[mask], size))
            level = NOTE if kind in (WRONG_SUFFIX, *TRAITS) else WARNING
            yield Finding(kind, level, text, _paths(catalog, [[index] for index in indices[mask]]))


def _by_values(records: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of images whose values cover a small part of the possible range; an image has at most one of these kinds."""
    smallest, largest = records["deepest"].T
    varies_in_16_bits = smallest < largest
    masks = {
        UNUSED_BITS: varies_in_16_bits & (_num_bits(largest) < FULL_DEPTH),
        CONSTANT: (records["range"] <= MAX_CONSTANT_RANGE) & ~varies_in_16_bits,
        NEARLY_BLACK: records["brightest"] <= MAX_DARK_VALUE,
        LOW_CONTRAST: records["range"] <= MAX_FAINT_RANGE,
    }
    taken = np.zeros(len(records), bool)
    for kind, mask in masks.items():
        masks[kind] = mask & ~taken
        taken |= mask
    return masks


def _num_bits(values: np.ndarray) -> np.ndarray:
    """The number of binary digits of each value."""
    return np.ceil(np.log2(values + 1.0)).astype(int)


def _details(records: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """The values of the placeholders in `MESSAGES`."""
    bits = _num_bits(records["deepest"][:, 1])
    return {
        "brightest": records["brightest"].max(),
        "range": records["range"].max(),
        "bits": f"{bits.min()} to {bits.max()}" if bits.min() < bits.max() else bits.max(),
        "factor": 2 ** (16 - bits.max()),
        "height": size[0],
        "width": size[1],
    }


def _has_wrong_suffix(path: str, format_number: int) -> bool:
    if format_number >= len(FORMATS):
        return False
    return not path.lower().endswith(BY_PILLOW_NAME[FORMATS[format_number]].suffixes)


def _one_of_each_first(indices: Iterable[int], values: Sequence[Any]) -> list[int]:
    """The indices, reordered: first one index of each value. So a page that shows only some files shows what differs."""
    first: dict[Any, int] = {}
    for index in indices:
        first.setdefault(values[index], index)
    heads = set(first.values())
    return [*first.values(), *(index for index in indices if index not in heads)]


def _paths(catalog: Catalog, sets: Iterable[Iterable[int]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(catalog.paths[index] for index in indices) for indices in sets)


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
