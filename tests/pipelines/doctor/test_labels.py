"""Labels that look the same or similar, and blank ones."""

import pytest

from pipelines import Catalog
from pipelines.doctor import findings


def labelled(labels):
    """A catalog with one file per label; the files do not exist."""
    rows = [(f"{number}.png", label, "") for number, label in enumerate(labels)]
    paths, labels, splits = zip(*rows, strict=True)
    return Catalog(paths, labels, splits, ("",) * len(rows), ("",) * len(rows))


@pytest.mark.parametrize(
    ("labels", "spellings"),
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
def test_labels_that_look_the_same_are_an_error(labels, spellings):
    (finding,) = findings._labels(labelled([*labels, "dog"]))
    assert (finding.kind, finding.level) == ("same label", "error")
    assert finding.text.startswith(
        "1 set of labels differs only by white space, invisible characters or Unicode form, so "
    )
    assert f": {spellings}. Use one spelling per class." in finding.text


@pytest.mark.parametrize("labels", [["Café", "café"], ["STRASSE", "Straße"], ["ice cream", "icecream"], ["Å", "å"]])
def test_labels_that_differ_by_case_or_by_spaces_are_a_warning(labels):
    (finding,) = findings._labels(labelled([*labels, "dog"]))
    assert (finding.kind, finding.level) == ("similar label", "warning")
    assert f"{labels[0]!r} (1), {labels[1]!r} (1)" in finding.text


@pytest.mark.parametrize("labels", [["cat", "cats"], ["1", "10"], ["a", "а"], ["crème", "creme"], ["C", "C++"]])
def test_different_labels_are_no_finding(labels):
    assert list(findings._labels(labelled(labels))) == []


def test_labels_of_several_columns_are_compared_too():
    (finding,) = findings._labels(labelled([("cat", "night"), ("cat ",), ()]))
    assert finding.level == "error" and "'cat' (1), 'cat ' (1)" in finding.text


@pytest.mark.parametrize("label", [" ", "\u200b", "\xa0\u3000"])
def test_a_label_without_a_visible_character_is_an_error(label):
    (finding,) = findings._labels(labelled([label, "cat"]))
    assert (finding.kind, finding.level) == ("blank label", "error") and repr(label) in finding.text
