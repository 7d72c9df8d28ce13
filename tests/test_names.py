"""Names that others chose: what a terminal, a JSON reader and a spreadsheet get of them."""

import csv
import io
import json
import os
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines import names

# Every sign there is, half a surrogate pair included, and often those that matter.
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
def test_what_a_terminal_would_obey_is_printed_as_an_escape(name, shown):
    assert names.printable(name) == shown


@given(TEXTS)
def test_what_is_printed_holds_nothing_that_acts_and_can_be_encoded(text):
    shown = names.printable(text)
    shown.encode()
    # Cf is for joiners, which stay; they neither move the cursor nor turn the direction.
    assert not {"Cc", "Cs", "Zl", "Zp", "Cn", "Co"} & set(map(unicodedata.category, shown))
    assert {sign for sign in shown if unicodedata.category(sign) == "Cf"} <= set("\u200c\u200d")
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
    assert names.from_cell(text) == text or text[:1] == "'"  # a table that somebody else wrote is read as it is


def test_cells_as_a_spreadsheet_gets_them():
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
