"""What the doctor tells: each finding in one sentence, with its files."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from keras_cnn.arguments import join_some
from pipelines.catalog.kinds import is_companion
from pipelines.doctor import labels
from pipelines.doctor.headers import ANIMATED, BY_PILLOW_NAME, CMYK, DEEP, FORMATS, ROTATED, TRAITS, TRANSPARENT
from pipelines.doctor.near_duplicates import MOST_PICTURES

ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")
FEW = 10  # images of a class
UNEVEN = 10  # times as many images in the largest class as in the smallest
CONSTANT, FAINT = 1, 8  # of 255: from the darkest to the brightest value
DARK = 31  # of 255: the brightest value
FULL_DEPTH = 15  # bits that the values of an image with 16 bits a channel should need at least
SMALL = 0.5  # of the network's input, along either side
CONSTANT_COLOUR, TOO_SMALL, MISNAMED = "constant", "small", "wrong ending"
UNUSED_BITS, NEARLY_BLACK, LOW_CONTRAST = "unused bits", "nearly black", "low contrast"
SAID = {  # of one file, of several
    CONSTANT_COLOUR: ("image has a single colour", "images have a single colour"),
    NEARLY_BLACK: ("image is nearly black", "images are nearly black"),
    LOW_CONTRAST: ("image has nearly a single colour", "images have nearly a single colour"),
    UNUSED_BITS: ("image uses", "images use"),
    TOO_SMALL: ("image is less than half as high or wide as the", "images are less than half as high or wide as the"),
    MISNAMED: ("image is read, but its ending names another format", "images are read, but their endings name others"),
    ANIMATED: ("image moves; its first picture is seen", "images move; their first pictures are seen"),
    CMYK: ("image is in CMYK; its colours are approximate", "images are in CMYK; their colours are approximate"),
    DEEP: ("image has 16 bits a channel; 8 are seen", "images have 16 bits a channel; 8 are seen"),
    TRANSPARENT: ("image is transparent; white is seen behind", "images are transparent; white is seen behind them"),
    ROTATED: ("image is stored turned; it is seen upright", "images are stored turned; they are seen upright"),
}


@dataclass(frozen=True)
class Finding:
    """Something about the data that a person should know.

    Attributes:
        kind: A name that stays, such as "leak".
        level: "error": what is measured will not be true. "warning": it may harm. "note": it is taken care of.
        text: One sentence.
        files: Sets of paths; those of one set are the same picture.
    """

    kind: str
    level: str
    text: str
    files: tuple[tuple[str, ...], ...] = ()

    def to_dict(self, most: int | None = None) -> dict:
        """Plain values, for JSON, with the first `most` sets of files."""
        shown = [list(files) for files in self.files[:most]]
        return {"kind": self.kind, "level": self.level, "text": self.text, "count": len(self.files), "files": shown}


def examine(catalog, images, likeness, size) -> tuple[Finding, ...]:
    """All findings, the worst first.

    Args:
        catalog: A `Catalog`, with splits if leaks are to be found.
        images: Its `pipelines.doctor.Images`.
        likeness: Its `Likeness`.
        size: Height and width of the network's input.
    """
    found = [
        *_leaks(catalog, likeness),
        *_contradictions(catalog, likeness),
        *_left_out(catalog),
        *_labels(catalog),
        *_classes(catalog),
        *_copies(catalog, likeness),
        *_files(catalog, images, size),
    ]
    return tuple(sorted(found, key=lambda finding: LEVELS.index(finding.level)))


def leaked(catalog, likeness) -> np.ndarray:
    """The rows of test whose picture, or nearly the same one, is in another split."""
    found = _apart(catalog, likeness, "test", ("train", "validation"))
    return np.array(sorted({row for inside, _ in found for row in inside}), int)


def _apart(catalog, likeness, split, others):
    """For each set that lies in `split` and in one of `others`: its rows there and there."""
    for rows in likeness.sets:
        inside = [row for row in rows if catalog.splits[row] == split]
        outside = [row for row in rows if catalog.splits[row] in others]
        if inside and outside:
            yield inside, outside


def _leaks(catalog, likeness):
    for split, others in (("test", ("train", "validation")), ("validation", ("train",))):
        found = list(_apart(catalog, likeness, split, others))
        if found:
            count = sum(len(inside) for inside, _ in found)
            text = (
                f"{_some(count, 'image', 'images')} of {len(catalog.used(split)):,} in {split} can be found in "
                f"{' or '.join(others)} too, the same or nearly: {split} promises too much."
            )
            sets = (_one_of_each(inside + outside, catalog.splits) for inside, outside in found)
            yield Finding("leak", ERROR, text, _paths(catalog, sets))


def _contradictions(catalog, likeness):
    for kind, level, sets, words in (
        ("contradiction", ERROR, likeness.copies, "a copy"),
        ("near contradiction", WARNING, likeness.near, "nearly a copy"),
    ):
        found = [rows for rows in sets if len({catalog.labels[row] for row in rows}) > 1]
        if found:
            names = " and ".join(sorted({str(catalog.labels[row]) for row in found[0]})[:2])
            text = _some(len(found), f"picture has {words}", f"pictures have {words}")
            text += f" under another label, such as {names}."
            yield Finding(kind, level, text, _paths(catalog, (_one_of_each(rows, catalog.labels) for rows in found)))


def _labels(catalog):
    same, by_case = labels.alike(catalog.classes)
    counts = _counts(catalog)
    for kind, level, sets, words, remedy in (
        ("same label", ERROR, same, "white space, invisible signs or Unicode form", "Give each set one spelling."),
        ("similar label", WARNING, by_case, "case or blanks", "Give each set one spelling, if they mean the same."),
    ):
        if sets:
            text = _some(len(sets), "set of labels differs", "sets of labels differ")
            spelt = join_some(
                (", ".join(f"{labels.shown(name)} ({counts[name]:,})" for name in names) for names in sets), 5, "; "
            )
            yield Finding(kind, level, f"{text} only by {words}, and each label is a class: {spelt}. {remedy}")
    blank = [name for name in catalog.classes if not labels.plain(name)]
    if blank:
        text = f"{_some(len(blank), 'label shows', 'labels show')} nothing: {join_some(map(labels.shown, blank))}."
        yield Finding("blank label", ERROR, f"{text} Name what is in the images.")


def _counts(catalog):
    """How many images each class has."""
    counts = Counter(dict.fromkeys(catalog.classes, 0))
    counts.update(name for row in catalog.used() for name in catalog.names(row))
    return counts


def _left_out(catalog):
    alike = defaultdict(list)
    for row, reason in enumerate(catalog.reasons):
        if reason:
            alike[reason.split(":")[0].split(" (")[0]].append(row)
    for kind, rows in sorted(alike.items(), key=lambda found: -len(found[1])):
        # What to do is at the end of a reason; it is left away only where files differ in it.
        reasons = {catalog.reasons[row] for row in rows}
        reason = next(iter(reasons)).rstrip(".") if len(reasons) == 1 else kind
        text = f"{_some(len(rows), 'file is', 'files are')} left out: {reason}."
        level = NOTE if all(map(is_companion, reasons)) else WARNING
        yield Finding("left out", level, text, _paths(catalog, [[row] for row in rows]))


def _classes(catalog):
    ranked = _counts(catalog).most_common()
    few = [f"{name} ({count})" for name, count in ranked[::-1] if count < FEW]
    if few:
        text = f"{_some(len(few), 'class has', 'classes have')} fewer than {FEW} images: {join_some(few)}."
        yield Finding("few images", WARNING, text)
    if ranked and ranked[0][1] >= UNEVEN * max(1, ranked[-1][1]):
        text = f"Classes are uneven: {ranked[0][0]} has {ranked[0][1]:,} images, {ranked[-1][0]} {ranked[-1][1]:,}."
        yield Finding("imbalance", WARNING, text)


def _copies(catalog, likeness):
    for kind, sets, words in (("copies", likeness.copies, "equal"), ("near copies", likeness.near, "nearly equal")):
        if sets:
            count = sum(map(len, sets))
            text = f"{_some(count, 'image', 'images')} in {_some(len(sets), 'set', 'sets')} of {words} pictures."
            yield Finding(kind, NOTE, text, _paths(catalog, sets))
    if not likeness.compared:
        text = (
            f"Nearly equal pictures were not looked for: there are more than {MOST_PICTURES:,} pictures, or most of them are "
            "alike, as in films and line drawings."
        )
        yield Finding("not compared", NOTE, text)


def _files(catalog, images, size):
    used = images.positions(catalog.used())
    records, rows = images.records[used], images.rows[used]
    paths = [catalog.paths[row] for row in rows]
    small = (records["height"] < SMALL * size[0]) | (records["width"] < SMALL * size[1])
    holds = {
        **_by_values(records),
        TOO_SMALL: small & (records["height"] > 0),
        MISNAMED: np.array(list(map(_misnamed, paths, records["format"])), bool),
        **{trait: records["traits"] >> number & 1 == 1 for number, trait in enumerate(TRAITS)},
    }
    for kind, which in holds.items():
        if which.any():
            text = _some(which.sum(), *SAID[kind]) + _more(kind, records[which], size)
            level = NOTE if kind in (MISNAMED, *TRAITS) else WARNING
            yield Finding(kind, level, f"{text}.", _paths(catalog, [[row] for row in rows[which]]))


def _by_values(records):
    """Images whose values are not spread over those that there are, each of one kind alone."""
    smallest, largest = records["deepest"].T
    varies = smallest < largest  # in more than the 8 bits that are seen
    kinds = {
        UNUSED_BITS: varies & (_bits(largest) < FULL_DEPTH),
        CONSTANT_COLOUR: (records["range"] <= CONSTANT) & ~varies,
        NEARLY_BLACK: records["brightest"] <= DARK,
        LOW_CONTRAST: records["range"] <= FAINT,
    }
    taken = np.zeros(len(records), bool)
    for kind, which in kinds.items():
        kinds[kind] = which & ~taken
        taken |= which
    return kinds


def _bits(values):
    """How many binary digits each has."""
    return np.ceil(np.log2(values + 1.0)).astype(int)


def _more(kind, records, size):
    """What follows the words of `SAID`."""
    if kind == TOO_SMALL:
        return f" {size[0]} x {size[1]} pixels that the network sees"
    if kind == NEARLY_BLACK:
        return f", no value above {records['brightest'].max()} of 255: label masks, or values that were not scaled?"
    if kind == LOW_CONTRAST:
        return f", values at most {records['range'].max()} of 255 apart: stretch the contrast, or leave them out"
    if kind == UNUSED_BITS:
        bits = _bits(records["deepest"][:, 1])
        few = f"{bits.min()} to " if bits.min() < bits.max() else ""
        return (
            f" {few}{bits.max()} of 16 bits; the upper 8 are seen, which is nearly black. Multiply the values by "
            f"{2 ** (16 - bits.max())} and save them as 16 bits again, or make them 8 bits"
        )
    return ""


def _misnamed(path, number):
    return number < len(FORMATS) and not path.lower().endswith(BY_PILLOW_NAME[FORMATS[number]].suffixes)


def _one_of_each(rows, values):
    """The rows, with the first one of each value before all others: where not all are shown, it is seen what differs."""
    first = {}
    for row in rows:
        first.setdefault(values[row], row)
    heads = set(first.values())
    return [*first.values(), *(row for row in rows if row not in heads)]


def _paths(catalog, sets):
    return tuple(tuple(catalog.paths[row] for row in rows) for rows in sets)


def _some(count, one, many):
    return f"{count:,} {one if count == 1 else many}"
