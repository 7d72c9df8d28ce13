"""The examples of the guides run, and give what they say."""

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["layers.md", "surgery.md"])
def test_examples_give_what_stands_below_them(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guide = DOCS / name
    text = "\n".join("" if line.startswith("```") else line for line in guide.read_text().splitlines())
    test = doctest.DocTestParser().get_doctest(text, {}, guide.name, str(guide), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test).attempted > 15 and not runner.failures


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("backbones.md", marks=pytest.mark.slow),
        "hub.md",
        pytest.param("training.md", marks=pytest.mark.slow),
    ],
)
def test_python(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)
