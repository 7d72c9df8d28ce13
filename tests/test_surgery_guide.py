"""The examples of docs/surgery.md give what they say."""

import doctest
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "docs" / "surgery.md"


def test_guide():
    text = "\n".join("" if line.startswith("```") else line for line in GUIDE.read_text().splitlines())
    test = doctest.DocTestParser().get_doctest(text, {}, GUIDE.name, str(GUIDE), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test).attempted > 15 and not runner.failures
