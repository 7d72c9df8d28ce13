"""An analysis as text, as a dictionary and as a figure: what fits, what is legible, what is written."""

import importlib
import json
import re
import sys
from functools import cache

import keras
import numpy as np
import pytest
from helpers.analyzed_models import application, two_convolutions
from helpers.slow import mark_slow
from keras import layers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import keras_cnn as kc
from keras_cnn.analysis import analyze
from keras_cnn.analysis.drawing.diagram_lines import make_lines
from keras_cnn.analysis.drawing.figure import draw_analysis
from keras_cnn.analysis.formatting import human_number


def test_text_and_dictionary():
    found = analyze(two_convolutions())
    text = found.to_text()
    lines = text.splitlines()
    assert lines[0] == "small: 16 × 16 × 3 → 8 × 8 × 4" and max(map(len, lines)) <= 120
    assert repr(found) == "<Analysis of small: 16 × 16 × 3 → 8 × 8 × 4, 2 rows; to_text() is the table>"
    assert re.search(r"conv2 +Conv2D +8 × 8 × 4 +7 +2 +2 +148 +9\.22 k +1\.02 kB", text)
    assert re.search(r"^total +260 +16\.1 k +2\.05 kB", text, re.MULTILINE)
    assert re.search(r"^MACs +16\.1 k, also: bias 512$", text, re.MULTILINE)
    assert "'conv2', the last map, sees 7 cells of the input along each axis, the next one those 2 further" in " ".join(
        text.split()
    )
    dictionary = json.loads(json.dumps(found.to_dict()))
    assert dictionary["macs"] == 64 * 9 * (3 + 4) * 4 == found.macs
    assert dictionary["layers"][1]["receptive_field"] == [{"size": 7, "stride": 2, "padding": 2}] * 2
    assert dictionary["last_map"]["receptive_field"] == dictionary["receptive_field"]


def gated():
    """A map with squeeze-and-excitation beside one of another centre: a global branch, and branches that are misaligned."""
    inputs = keras.Input((16, 16, 4), name="image")
    x = kc.layers.SqueezeExcite(2, name="gate")(layers.Conv2D(4, 3, 2, padding="same")(inputs))
    x = layers.Add(name="sum")([x, layers.Conv2D(4, 1, 2)(inputs)])
    return analyze(keras.Model(inputs, layers.Conv2D(4, 3, padding="same")(x)))


def test_global_and_misaligned_branches_are_explained():
    text = gated().to_text()
    assert re.search(r"^gate +SqueezeExcite .* 3 \+ whole +2 ", text, re.MULTILINE)
    assert re.search(r"^\+ whole +and through a global branch something of the whole input$", text, re.MULTILINE)
    written, _ = texts_of(draw_analysis(gated()))
    assert "sees also the whole input" in written and "+ 3 / 2" in written
    signs = " ".join(written)
    assert (
        "+ : also sees, through a global branch, something" in signs
        and "≠ : branches meet whose centres differ" in signs
    )


LONG = "a_name_that_says_at_great_length_what_this_layer_is_for"


@cache
def nested():
    """ResNet50 in a model, with a head of a long name."""
    body = application("ResNet50")
    return analyze(keras.Sequential([body.input, body, layers.Dense(2, name=LONG)], name="nested"))


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_table_fits(width):
    """Names keep their last part, or both ends; columns that do not fit are left out and named, those that stay are whole."""
    found, text = nested(), nested().to_text(width)
    title, _, head, _, *lines = text.splitlines()
    lines = lines[: lines.index("")]
    assert title == "nested: 224 × 224 × 3 → 2" and max(map(len, text.splitlines())) <= width
    assert len(lines) == len(found.rows) + 2 and lines[-1].startswith("total") and "25,638,714" in lines[-1]
    shown = re.split(" {2,}", head)
    for row, line in zip(found.rows, lines, strict=False):
        first, _, last = line.split()[0].partition("…") if "…" in line.split()[0] else (row.name, "", row.name)
        assert row.name.startswith(first) and row.name.endswith(last)
        assert last.endswith(row.name.rpartition("/")[2]) or (row.name == LONG and min(len(first), len(last)) > 10)
        assert "output" not in shown or f" {' × '.join(map(str, row.output_shape))} " in f"{line} "
        assert not row.parameters or f" {row.parameters:,} " in f"{line} "
    left_out = re.findall(r"Left out +too narrow for: ([a-zM, \n]*)", text)
    columns = ["layer", "kind", "output", "field", "stride", "padding", "parameters", "MACs", "memory"]
    assert sorted(shown + re.findall(r"\w+", "".join(left_out))) == sorted(columns)
    assert "output" in shown or width == 60


def test_numbers_in_human_units():
    numbers = {
        0: "0",
        999: "999",
        1000: "1.00 k",
        25_636_712: "25.6 M",
        3_857_973_248: "3.86 G",
        10**16: "10000 T",
        None: "?",
    }
    assert {number: human_number(number) for number in numbers} == numbers and human_number(999_600, "B") == "1.00 MB"


def texts_of(figure):
    """All that is written, and for each its left, lower, right and upper end in pixels; but not the numbers at axes."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if not re.fullmatch(r"[\d−.]*", text.get_text())]
    return [text.get_text() for text in texts], np.array([text.get_window_extent(renderer).extents for text in texts])


@pytest.mark.parametrize("name", mark_slow(["ResNet50", "MobileNetV2"], except_for=["MobileNetV2"]))
def test_the_figure_is_legible(name):
    """Nothing is written over something else or off the page, and each layer with weights in a kernel is there."""
    found = analyze(application(name))
    figure = draw_analysis(found)
    written, boxes = texts_of(figure)
    starts, ends = boxes[:, :2], boxes[:, 2:]
    assert starts.min() > 0 and (ends < figure.bbox.extents[2:]).all() and len(written) > 400
    shared = np.minimum(ends[:, None], ends) - np.maximum(starts[:, None], starts)  # width and height of what two share
    over = np.argwhere(np.triu((shared > 1).all(axis=-1), 1))
    assert [(written[one], written[other]) for one, other in over] == []
    assert {row.name for row in found.rows if row.macs} <= set(written)
    for text in {
        "ResNet50": ("resnet50: 224 × 224 × 3 → 1000", "3.86 G MACs", "483 / 32"),
        "MobileNetV2": ("mobilenetv2_1.00_224: 224 × 224 × 3 → 1000", "DepthwiseConv2D · BatchNorm · ReLU", "491 / 32"),
    }[name]:
        assert text in written
    for label in (
        "stride 32",
        "size of the input: 224",
        "receptive field of one unit,\ncells of the input",
        "spent up to here, % of the total",
        "line of the diagram",
    ):
        assert label in written


def test_lines_of_the_diagram():
    """A line has the rows that change a map in place; connections are kept, and dollars in names are no mathematics."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="a$^$")(inputs)))
    y = layers.ReLU()(layers.Conv2D(4, 3, padding="same", name="b")(x))
    x = layers.ReLU()(layers.Add(name="sum")([layers.MaxPooling2D(1)(x), y]))
    found = analyze(keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(layers.MaxPooling2D(2)(x)))))
    lines = make_lines(found)
    kinds = [[row.kind for row in line.rows] for line in lines]
    assert kinds[1] == ["Conv2D", "BatchNormalization", "ReLU"] and kinds[-1] == ["Dense"]
    by_name = {line.name: [lines[index].name for index in line.inputs] for line in lines}
    assert by_name["image"] == [] and by_name["a$^$"] == ["image"] and by_name["b"] == ["a$^$"]
    assert by_name["sum"][1] == "b" and len(by_name["sum"]) == 2
    assert sum(line.total("parameters") for line in lines[1:]) == found.parameters
    assert "a$^$" in texts_of(draw_analysis(found))[0]


@pytest.mark.parametrize("suffix", ["svg", "pdf", "PNG"])
def test_plots(tmp_path, suffix):
    analyze(two_convolutions()).plot(tmp_path / f"small.{suffix}")
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[suffix.lower()]
    assert (tmp_path / f"small.{suffix}").read_bytes().startswith(start)


def test_matplotlib_is_loaded_when_a_figure_is_asked_for(monkeypatch):
    """Where it cannot be imported, everything except the figures works."""
    monkeypatch.setattr(kc, "analysis", kc.analysis)
    for name in list(sys.modules):
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
        if name.startswith("keras_cnn.analysis"):
            monkeypatch.delitem(sys.modules, name)
    fresh = importlib.import_module("keras_cnn.analysis")
    assert fresh is not kc.analysis or fresh.analyze is not analyze
    assert "total" in fresh.analyze(two_convolutions()).to_text()
    with pytest.raises(ImportError, match="matplotlib"):
        fresh.plot_grad_cam
