"""`keras-cnn doctor`: text, JSON and page."""

import json
import os
import shutil

import pytest
from helpers.doctor_cases import random_image, save

from pipelines import cli
from pipelines.names import printable


def test_text_page_and_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    for n in range(8):
        save(random_image(n), tmp_path / "data" / ("train", "test")[n % 2] / "ab"[n // 2 % 2] / f"<{n}>.png")
    shutil.copy(tmp_path / "data/train/a/<0>.png", tmp_path / "data/test/a/leak.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--report", str(tmp_path / "page.html"), "--size", "40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Classes: 2. Images: 9. Files excluded: 0. Checked in ")
    assert lines[1].startswith(
        "error    1 of 5 test images is a duplicate or near-duplicate of images in train or validation, so "
    )
    assert lines[2].split() == ["test/a/leak.png", "train/a/<0>.png"]
    page = (tmp_path / "page.html").read_text()
    assert "train/a/&lt;0&gt;.png" in page and page.count('src="data:image/jpeg;base64,') >= 2
    assert cli.main(["doctor", str(tmp_path / "data"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["classes"], found["excluded"]) == (9, 2, 0)
    assert found["findings"][0]["kind"] == "leak" and found["findings"][0]["count"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("decoded_file_by_file")
def test_files_that_differ_within_a_set_are_shown_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    for n in range(26):  # equal images; the last one has another label
        save(random_image(0), tmp_path / "data" / "ab"[n > 24] / f"{n:02}.png")
    save(random_image(1), tmp_path / "data" / "b" / "other.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--report", str(tmp_path / "page.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("error    1 set of exact duplicates has different labels, such as a and b. One of ")
    assert lines[2].split() == ["a/00.png", "b/25.png", "a/01.png", "and", "23", "more"]
    page = (tmp_path / "page.html").read_text()
    assert (
        "b/25.png" in page and page.count("… and 14 more.") == 2
    )  # 12 are shown of the label conflict and of the duplicates


@pytest.mark.usefixtures("decoded_file_by_file")
def test_data_that_fit_would_refuse_are_an_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    for n in range(12):
        save(random_image(n), tmp_path / "data" / "a" / f"{n}.png", format="TIFF" if n > 9 else None)
    assert cli.main(["doctor", str(tmp_path / "data"), "--size", "96"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("error    `fit` cannot learn from these data: A classifier needs at least two classes.")
    text = "2 files are excluded: a TIFF file, which TensorFlow cannot decode: convert it to JPEG or PNG."
    assert lines[2] == f"warning  {text}"


@pytest.mark.parametrize(("option", "value"), [("--size", "0"), ("--size", "-5"), ("--report", ".")])
def test_invalid_options_are_refused(tmp_path, capsys, option, value):
    save(random_image(0), tmp_path / "data" / "a" / "0.png")
    assert cli.main(["doctor", str(tmp_path / "data"), option, value]) == 2
    assert capsys.readouterr().err.startswith(f"keras-cnn doctor: {option} must ")


def test_a_report_that_cannot_be_written(tmp_path, capsys):
    save(random_image(0), tmp_path / "data" / "a" / "0.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--report", str(tmp_path / "none" / "page.html")]) == 2
    assert capsys.readouterr().err.startswith("keras-cnn doctor: --report must name a file in a folder that exists.")


@pytest.mark.usefixtures("decoded_file_by_file")
def test_folders_with_similar_names(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    for number, label in enumerate(["cat", " cat", "Cat", "dog"] * 3):
        save(random_image(number), tmp_path / "data" / label / f"{number}.png")
    assert cli.main(["doctor", str(tmp_path / "data"), "--size", "96"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[1].startswith("error    1 set of labels differs only by white space")
        and "' cat' (3), 'cat' (3)" in lines[1]
    )
    assert lines[2].startswith("warning  1 set of labels differs only by case") and "'Cat' (3)" in lines[2]


@pytest.mark.usefixtures("decoded_file_by_file")
def test_file_names_that_are_no_text_or_control_the_terminal_are_escaped(tmp_path, capsys, monkeypatch):
    """A name with bytes that are not UTF-8, and one with an escape sequence and a line break."""
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    names = [os.fsdecode(b"caf\xe9.png"), "\x1b[31mred\n\u202e.png", "a.png"]
    for name in names:
        save(random_image(0), tmp_path / "data" / "a" / name)
    save(random_image(1), tmp_path / "data" / "b" / "b.png")
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
