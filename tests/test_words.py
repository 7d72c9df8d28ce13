"""The project speaks the language of Keras: words of a dialect of its own are not in its code and pages."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What to write instead is in the second column.
FORBIDDEN = {
    r"\banew\b": "again",
    r"\bbesides\b": "also, next to",
    r"\btold\b": "reported, shown",
    r"\bgoes on\b|\bgo on\b": "resumes, continues",
    r"\bno number\b": "NaN",
    r"\bof one's own\b": "your own",
    r"\ba handful\b": "a few",
    r"\bin front of\b": "before",
    r"\bbehind\b": "after",
    r"\bpictures?\b": "image, or figure for Matplotlib",
    r"\bmirror(s|ed|ing)?\b": "flip",
    r"\bkept activations\b": "cached features",
    r"\bsolved head\b": "linear probe",
    r"\bimages to choose\b": "validation images",
    r"\bright when named\b": "precision",
    r"\btaken for what\b": "confusion matrix",
    r"\bthe surest\b": "most confident",
    r"\bMind:": "Warning:",
    r"\blikeness\b": "duplicates",
    r"\bvaried\b": "augmented",
    r"\brenewed\b": "rebuilt",
    r"\blaid open\b": "flattened",
}
FOLDERS = ("docs", "keras_cnn", "pipelines", "examples", "benchmarks", "tools")
FILES = [
    ROOT / "README.md",
    *(
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".html")
    ),
]


def found(text):
    """Lines with a forbidden word: (number, word, what to write instead)."""
    return [
        (number, match[0], instead)
        for number, line in enumerate(text.splitlines(), 1)
        for word, instead in FORBIDDEN.items()
        for match in re.finditer(word, line, re.IGNORECASE)
        if "(Mirror)?Pad" not in line  # an operation of TensorFlow
    ]


def test_no_file_has_words_of_a_dialect():
    assert len(FILES) > 200
    texts = {str(path.relative_to(ROOT)): found(path.read_text(encoding="utf-8")) for path in FILES}
    assert {path: words for path, words in texts.items() if words} == {}


def test_a_word_is_found_and_a_part_of_one_is_not():
    assert found("a\nThe picture is mirrored anew.") == [
        (2, "anew", "again"),
        (2, "picture", "image, or figure for Matplotlib"),
        (2, "mirrored", "flip"),
    ]
    assert found("Sixty-five numbers were untold; pictured.") == []
