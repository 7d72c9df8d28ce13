"""Names that anybody may have chosen: what a terminal, a JSON reader and a spreadsheet get."""

import csv
import io
import json
import os
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines import names

# All characters, half surrogate pairs included, and often those that matter here.
ODD = st.sampled_from("=+-@'\t\r\n\x1b\x7f\x9b\u202e\u200b\u2028\udce9＝ é\"\\,;")
TEXTS = st.text(ODD | st.characters(codec=None))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Crème brûlée 日本 👩‍🌾.jpg", "Crème brûlée 日本 👩‍🌾.jpg"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("two\nlines\r\tof it", r"two\nlines\r\tof it"),
        ("gpj\u202e.exe\u2066", r"gpj\u202e.exe\u2066"),
        ("line\u2028end\u200b\ufeff", r"line\u2028end\u200b\ufeff"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("half a pair \ud83d", r"half a pair \ud83d"),
    ],
)
def test_control_characters_are_printed_as_escapes(name, shown):
    assert names.printable(name) == shown


@given(TEXTS)
def test_printed_text_has_no_control_characters_and_can_be_encoded(text):
    shown = names.printable(text)
    shown.encode()
    # Of category Cf only joiners stay; they neither move the cursor nor change the direction of writing.
    assert not {"Cc", "Cs", "Zl", "Zp", "Cn", "Co"} & set(map(unicodedata.category, shown))
    assert {char for char in shown if unicodedata.category(char) == "Cf"} <= set("\u200c\u200d")
    assert names.printable(shown) == shown


@given(TEXTS)
def test_json_is_utf_8_without_controls_and_gives_the_text_again(text):
    written = names.to_json({text: [text]})
    assert json.loads(written.encode()) == {text: [text]}
    assert not {"Cc", "Cs", "Zl"} & set(map(unicodedata.category, written.replace("\n", "")))


@given(TEXTS)
@example("'=1")
@example("''+1")
@example("'quoted'")
def test_a_cell_is_no_formula_and_gives_the_text_again(text):
    cell = names.to_cell(text)
    assert names.from_cell(cell) == text
    assert not cell or cell[0] not in "=+-@\t\r\n＝＋－＠"
    assert names.from_cell(text) == text or text[:1] == "'"  # cells of tables from elsewhere stay the same


def test_cells_with_formulas_get_an_apostrophe():
    buffer = io.StringIO()
    csv.writer(buffer).writerow(map(names.to_cell, ("=1+1", "+49", "-1", "@SUM(A1)", "\t=1", "a=1", "don't", "'=1")))
    assert buffer.getvalue() == "'=1+1,'+49,'-1,'@SUM(A1),'\t=1,a=1,don't,''=1\r\n"


@pytest.mark.parametrize("path", ["=1.jpg", "-x/a.jpg", "@a.jpg", "'=1.jpg"])
def test_a_path_in_a_cell_names_the_same_file(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).touch()
    cell = names.path_to_cell(path)
    assert os.path.samefile(cell, path) and cell.startswith("./")
    assert names.path_to_cell(f"photos/{path}") == f"photos/{path}"
