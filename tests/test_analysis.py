"""`kc.analyze`: costs, parameters, every kind of model, what it says of bad input, and its forms as text and pictures."""

import importlib
import importlib.util
import json
import re
import sys
import tracemalloc
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import keras_cnn as kc
from keras_cnn.analysis import analyze, receptive_field
from keras_cnn.analysis.drawing import figure as pictures
from keras_cnn.analysis.drawing.diagram_lines import lines_of
from keras_cnn.analysis.fields.costs import Cost
from keras_cnn.analysis.formatting import short
from keras_cnn.geometry import Field
from keras_cnn.keras_internals import call_records

ROOT = Path(__file__).parent.parent


@cache
def network(name):
    """One of `keras.applications`, which takes a second to build."""
    return getattr(keras.applications, name)(weights=None)


def last(layer, shape, *inputs):
    """The row of one layer on an input of `shape`."""
    x = keras.Input(shape)
    return analyze(keras.Model(x, layer(x))).rows[-1]


# layer, input shape -> (MACs, bias, normalisation, activation, pooling, elementwise), multiplied out by hand.
COSTS = {
    "conv": (layers.Conv2D(8, 3, padding="same", activation="relu"), (6, 5, 4), (30 * 9 * 4 * 8, 240, 0, 240, 0, 0)),
    "strided": (layers.Conv2D(8, 3, 2, use_bias=False), (7, 7, 4), (9 * 9 * 4 * 8, 0, 0, 0, 0, 0)),
    "grouped": (layers.Conv2D(8, 3, groups=4), (5, 5, 4), (9 * 9 * 1 * 8, 72, 0, 0, 0, 0)),
    "channels first": (layers.Conv2D(8, 3, data_format="channels_first"), (4, 5, 6), (12 * 9 * 4 * 8, 96, 0, 0, 0, 0)),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), (9 * 9 * 8, 72, 0, 0, 0, 0)),
    "separable": (layers.SeparableConv2D(8, 3), (5, 5, 4), (9 * (9 * 4 + 4 * 8), 72, 0, 0, 0, 0)),
    "transposed": (layers.Conv2DTranspose(8, 2, 2), (5, 5, 4), (25 * 4 * 4 * 8, 800, 0, 0, 0, 0)),
    "dense": (layers.Dense(10, activation="softmax"), (7, 4), (7 * 4 * 10, 70, 0, 70, 0, 0)),
    "einsum": (layers.EinsumDense("abc,cde->abde", (7, 2, 5)), (7, 4), (7 * 4 * 2 * 5, 0, 0, 0, 0, 0)),
    "batch norm": (layers.BatchNormalization(), (5, 5, 4), (0, 0, 100, 0, 0, 0)),
    "max pooling": (layers.MaxPooling2D(3, 2), (7, 7, 4), (0, 0, 0, 0, 9 * 9 * 4, 0)),
    "global pooling": (layers.GlobalAveragePooling2D(), (7, 7, 4), (0, 0, 0, 0, 196, 0)),
    "rescaling": (layers.Rescaling(2.0), (5, 4), (0, 0, 0, 0, 0, 20)),
    "add": (lambda x: layers.Add()([x, x, x]), (5, 4), (0, 0, 0, 0, 0, 40)),
    "matmul": (lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2)), (5, 4), (5 * 4 * 5, 0, 0, 0, 0, 0)),
    "dropout": (layers.Dropout(0.5), (5, 4), (0, 0, 0, 0, 0, 0)),
    # 5 steps of 3 units; a unit: 4 gates with bias, tanh of the state; 4 sums of two products, then f · c + i · g and o · tanh.
    "recurrent": (layers.LSTM(3), (5, 4), (5 * 4 * 3 * (4 + 3), 60, 0, 5 * 3 * 5, 0, 5 * 3 * 8)),
    # Both ways; 3 gates with two biases each; 2 sums and r · h + x, then z · h + (1 - z) · g.
    "gated recurrent": (
        layers.Bidirectional(layers.GRU(3)),
        (5, 4),
        (2 * 5 * 3 * 3 * (4 + 3), 2 * 5 * 18, 0, 2 * 5 * 3 * 3, 0, 2 * 5 * 3 * 8),
    ),
    "relu operation": (ops.relu, (5, 4), (0, 0, 0, 20, 0, 0)),
    # 3 projections of 16 x 4 to 2 heads of 3, scores and means over 16 x 16, one projection back; biases 3 · 96 + 64.
    "attention": (
        lambda x: layers.MultiHeadAttention(2, 3)(x, x),
        (16, 4),
        (3 * 16 * 4 * 6 + 2 * 256 * 6 + 16 * 6 * 4, 3 * 96 + 64, 0, 0, 0, 0),
    ),
    # mean of 100, 4 x 1 and 1 x 4 products with biases and activations, 100 gated.
    "squeeze-excite": (kc.layers.SqueezeExcite(4), (5, 5, 4), (8, 5, 0, 5, 100, 100)),
}


@pytest.mark.parametrize("name", COSTS)
def test_costs(name):
    layer, shape, expected = COSTS[name]
    assert last(layer, shape).cost == Cost(*expected)


def test_memory_is_the_bytes_of_the_output():
    assert last(layers.Conv2D(8, 3), (6, 5, 4)).memory == 4 * 3 * 8 * 4
    assert last(layers.Conv2D(8, 3, dtype="mixed_float16"), (6, 5, 4)).memory == 4 * 3 * 8 * 2


def test_the_size_of_the_image_takes_no_memory():
    """4,096 times the pixels, and at most twice what Python allocates."""
    peaks = []
    for side in (64, 64, 4096):  # the first time, things are made that stay
        tracemalloc.start()
        found = analyze(network("MobileNet"), (side, side, 3))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 2 * peaks[1] and found.memory > 20e9


PUBLISHED = {  # billions of multiply-adds: arXiv:1512.03385 table 1, arXiv:1704.04861 table 8, arXiv:1801.04381 table 4
    "ResNet50": (3.8, 483),
    "MobileNet": (0.569, 315),
    "MobileNetV2": (0.300, 491),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name):
    model = network(name)
    found, (macs, field) = analyze(model), PUBLISHED[name]
    assert found.macs / 1e9 == pytest.approx(macs, rel=0.016)
    assert found.last_map.field[0].size == field and found.last_map.output_shape[:2] == (7, 7)
    assert found.parameters == model.count_params()
    assert found.trainable_parameters == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert found.receptive_field[0].stride == 0 and found.rows[-1].sees_all and found.sees_whole_input


def table_module():
    spec = importlib.util.spec_from_file_location("make_analysis_table", ROOT / "tools" / "make_analysis_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_table_of_the_documentation():
    table = table_module()
    assert table.table() in table.PAGE.read_text()
    for name, published in table.NETWORKS.items():
        found = analyze(getattr(keras.applications, name)(weights=None))
        assert found.macs / 1e9 == pytest.approx(published.macs, rel=0.016), name
        assert found.parameters == published.parameters, name
        if published.field:
            # TF-Slim's first pooling of a ResNet is "same", which at 224 px pads nothing before, at stride 2; Keras' pads one.
            shift = 2 if name.startswith("ResNet") else 0
            size, padding = published.field
            assert found.last_map.field == (Field(size, 32, padding + shift),) * 2, name


def test_where_the_stride_of_a_bottleneck_stands():
    """In the 3 x 3 convolution, as torchvision's ResNet50 has it: 4.089 G (its *GFLOPS*), and a field of 427, which is 11,
    three times 8, then 8 + 3 · 16, 16 + 5 · 32 and 32 + 2 · 64."""

    def moved(layer):
        config = layer.get_config()
        if re.fullmatch(r"conv[345]_block1_[12]_conv", layer.name):
            config["strides"] = 1 if "_1_conv" in layer.name else 2
            config["padding"] = "same"
        return type(layer).from_config(config)

    found = analyze(keras.models.clone_model(network("ResNet50"), clone_function=moved))
    assert round(found.macs / 1e9, 3) == 4.089 and found.last_map.field[0].size == 427


def small(name="small"):
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", name="conv1")(inputs)
    return keras.Model(inputs, layers.Conv2D(4, 3, padding="same", name="conv2")(x), name=name)


def test_nested_models_are_laid_open():
    body = small("body")
    model = keras.Sequential([keras.Input((16, 16, 3)), body, layers.GlobalAveragePooling2D(), layers.Dense(2)])
    found = analyze(model)
    assert [row.name for row in found.rows[:2]] == ["body/conv1", "body/conv2"]
    assert found.parameters == model.count_params() and found.macs == analyze(body).macs + 4 * 2
    assert receptive_field(model, "body/conv2") == receptive_field(model, "conv2") == (Field(7, 2, 2),) * 2


def test_a_layer_called_twice_has_two_rows_and_is_counted_once():
    inputs = keras.Input((16, 16, 4), name="image")
    conv = layers.Conv2D(4, 3, padding="same", name="conv")
    model = keras.Model(inputs, conv(conv(inputs)))
    found = analyze(model)
    assert [row.field[0].size for row in found.rows] == [3, 5]
    assert [row.parameters for row in found.rows] == [148, 0] and found.parameters == model.count_params()
    assert found.macs == 2 * 256 * 9 * 16
    assert [(row.id, row.name, row.inputs) for row in found.rows] == [
        ("conv#1", "conv", ("image",)),
        ("conv#2", "conv", ("conv#1",)),
    ]
    assert found.row("conv#1").field[0].size == 3 and found.row("conv").field[0].size == 5


class Block(layers.Layer):
    """A layer of others: a convolution, a product with its own weight, a shortcut, and something while it trains."""

    def build(self, shape):
        self.conv = layers.Conv2D(shape[-1], 3, padding="same")
        self.conv.build(shape)
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x, training=True):
        x = ops.sort(x, axis=1) if training else x
        return x + self.conv(ops.relu(x)) * self.scale


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body, self.block, self.head = small("body"), Block(name="block"), layers.Dense(2, name="head")
        self.bias = self.add_weight(shape=(2,), name="bias")

    def call(self, x, training=False):
        return self.head(ops.mean(self.block(self.body(x)), axis=(1, 2))) + self.bias


def test_subclassed_models_and_layers_are_followed():
    model = Subclassed()
    model(np.zeros((1, 16, 16, 3), "float32"))
    calls = [len(call_records(layer)[0]) for layer in (model.block, model.head, model.block.conv)]
    found = analyze(model, (16, 16, 3))
    assert [row.name for row in found.rows if row.parameters] == [
        "body/conv1",
        "body/conv2",
        "block",
        "head",
        "(other weights)",
    ]
    assert found.row("block").field == (Field(11, 2, 4),) * 2 and found.parameters == model.count_params()
    assert found.notes == () and found.rows[-2].sees_all
    assert [len(call_records(layer)[0]) for layer in (model.block, model.head, model.block.conv)] == calls


@keras.saving.register_keras_serializable(package="test")
class Sorted(layers.Layer):
    def call(self, x):
        return ops.sort(x, axis=1)


def test_an_unknown_layer_is_named_and_nothing_is_guessed():
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 3, name="conv")(Sorted(name="odd")(inputs)))
    found = analyze(model)
    assert found.receptive_field == (Field(None, None, None),) * 2 and found.rows[-1].box() == ((None, None),) * 2
    assert found.notes == (
        "odd/sort (Sort) is not known and cannot be followed: fields behind it are unknown, and its operations are not "
        "counted.",
    )
    assert found.macs is None and found.lower_bounds["macs"] == 14 * 14 * 9 * 3 * 4
    dictionary, text = found.to_dict(), found.to_text()
    assert dictionary["macs"] is None and dictionary["lower_bounds"]["macs"] == 21168
    assert dictionary["last_map"] is None and dictionary["sees_whole_input"] is None
    assert re.search(r"^odd +Sorted .* \?  ", text, re.MULTILINE) and re.search(
        r"^MACs +≥ 21\.2 k, besides: bias ≥ 784", text, re.MULTILINE
    )


class Strange(layers.Conv2D):
    """A subclass that does more than its parent: it must be followed, not taken for a convolution."""

    def call(self, x):
        return super().call(ops.pad(x, ((0, 0), (4, 0), (4, 0), (0, 0))))


def test_subclasses_of_known_layers_are_followed():
    inputs = keras.Input((16, 16, 3))
    assert receptive_field(keras.Model(inputs, Strange(4, 3)(inputs))) == (Field(3, 1, 4),) * 2


class DropPath(layers.Layer):
    """As libraries write it: at inference it gives the very tensor that it takes."""

    def call(self, x, training=False):
        return x * 0.5 if training else x


def test_a_layer_that_hands_its_input_through_is_followed():
    inputs = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    found = analyze(keras.Model(inputs, layers.Add(name="sum")([x, DropPath(name="drop")(x)])))
    assert found.receptive_field == (Field(3, 1, 0),) * 2 and found.macs == 14 * 14 * 9 * 3 * 4 and not found.notes
    edges = {row.id: row.inputs for row in found.rows}
    assert edges == {"conv": ("image",), "drop": ("conv",), "sum": ("conv", "drop")}


def test_training_may_be_given_to_any_layer():
    """Keras does not hand it on to a `call` that has no such argument."""
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, layers.Identity()(layers.Conv2D(4, 3)(inputs, training=False), training=False))
    assert receptive_field(model) == (Field(3, 1, 0),) * 2


def test_notes_of_many_layers_are_one_sentence():
    inputs = x = keras.Input((16, 3))
    for place in range(7):
        x = Sorted(name=f"odd{place}")(x)
    (note,) = analyze(keras.Model(inputs, x)).notes
    assert note.startswith("odd0/sort") and " and 2 more (Sort) are not known and cannot be followed: fields" in note
    assert note.count("/sort") == 5


class Untraceable(keras.Model):
    def call(self, x):
        return float(x[0, 0]) * x


def test_several_inputs():
    """A unit of the output sees 3 x 3 cells of the image, and through the branch 5 x 5 more, 3 + 4, of the mask."""
    image, mask = keras.Input((16, 16, 3), name="image"), keras.Input((16, 16, 1), name="mask")
    gate = layers.Conv2D(1, 5, padding="same", name="gate")(mask)
    model = keras.Model([image, mask], layers.Conv2D(4, 3, name="last")(layers.Multiply()([image, gate])))
    found = analyze(model, [(20, 24, 3), (20, 24, 1)])
    assert found.receptive_field == (Field(3, 1, 0),) * 2 and found.rows[-1].output_shape == (18, 22, 4)
    assert found.others["mask"].receptive_field == found.others["mask"].row("last").field == (Field(7, 1, 2),) * 2
    assert found.others["mask"].row("gate").field == (Field(5, 1, 2),) * 2
    assert found.notes == (
        "Fields are those within input 'image'; `others`, in JSON `other_inputs`, has those within 'mask'.",
    )
    dictionary = found.to_dict()
    assert dictionary["inputs"] == [{"id": "image", "shape": [20, 24, 3]}, {"id": "mask", "shape": [20, 24, 1]}]
    assert dictionary["outputs"] == [{"id": "last", "shape": [18, 22, 4]}]
    assert dictionary["other_inputs"]["mask"]["receptive_field"] == [{"size": 7, "stride": 1, "padding": 2}] * 2
    gate, product, last = dictionary["layers"]
    assert (gate["inputs"], product["inputs"], last["inputs"]) == (["mask"], ["image", "gate"], [product["id"]])
    assert gate["receptive_field"][0]["size"] == 0 and gate["other_inputs"]["mask"]["receptive_field"][0]["size"] == 5


def test_misaligned_branches_are_listed_with_a_reason():
    """Of 8 cells "same" at stride 2 pads one at the end: unit i of the 3 x 3 convolution has its centre at 2i + 1, that of
    the 1 x 1 at 2i."""
    inputs = keras.Input((8, 8, 3))
    branches = [layers.Conv2D(4, size, 2, padding="same", name=f"conv{size}")(inputs) for size in (1, 3)]
    found = analyze(keras.Model(inputs, layers.Add(name="sum")(branches)))
    reason = "sum joins branches whose centres lie up to 1 cell of the input apart"
    assert found.misaligned == ("sum",) and [row.misaligned for row in found.rows] == [None, None, reason]
    dictionary = found.to_dict()
    assert dictionary["misaligned"] == ["sum"] and dictionary["layers"][-1]["misaligned"] == reason
    assert re.search(r"^sum ≠ .*^≠ +joins branches whose centres differ", found.to_text(), re.MULTILINE | re.DOTALL)
    aligned = analyze(network("ResNet50"))
    assert aligned.misaligned == () and "≠" not in aligned.to_text()


def test_a_backbone_is_analyzed_without_its_head():
    backbone = kc.Backbone(small("body"), (), kc.Preprocessing((16, 16)), None)
    found = analyze(backbone, (20, 12, 3))
    assert found.backbone and not found.sees_whole_input and found.parameters == backbone.model.count_params()
    assert found.to_text().startswith("body, backbone without its head: 20 × 12 × 3 → 10 × 6 × 4\n")
    assert not analyze(backbone.model).backbone


def test_another_input_shape():
    assert analyze(small(), (32, 15, 3)).rows[-1].output_shape == (16, 8, 4)
    assert analyze(small(), (32, 32, 3)).macs == 4 * analyze(small()).macs


SHAPE = "analyze: `input_shape` must be a shape without batch, of integers of at least 1, or None where any size will do. Rec"
FLAT = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(2, name="fc")])
SENTENCES = {
    "not a model": (
        lambda: analyze(layers.Dense(2)),
        TypeError,
        "analyze: `model` must be a keras.Model. Received: Dense. Wrap a layer in a model; for the name of a network, pass "
        "kc.load_backbone(name).",
    ),
    "a function": (
        lambda: analyze(keras.applications.ResNet50),
        TypeError,
        "Received: ResNet50. Wrap a layer in a model",
    ),
    "not built": (
        lambda: analyze(keras.Sequential([layers.Dense(2)], name="s")),
        ValueError,
        "analyze: the model must be built. Received: 's', which has no weights yet. Call it on an example, or "
        "model.build((None, height, width, channels)).",
    ),
    "a number": (
        lambda: analyze(small(), 320),
        ValueError,
        f"{SHAPE}eived: input_shape=320. Pass (16, 16, 3), or other sizes in their places.",
    ),
    "a negative size": (
        lambda: analyze(small(), (-1, 16, 3)),
        ValueError,
        f"{SHAPE}eived: input_shape=(-1, 16, 3). Pass",
    ),
    "a fraction": (
        lambda: analyze(small(), (16.5, 16, 3)),
        ValueError,
        f"{SHAPE}eived: input_shape=(16.5, 16, 3). Pass",
    ),
    "a bool": (lambda: analyze(small(), (True, 16, 3)), ValueError, f"{SHAPE}eived: input_shape=(True, 16, 3). Pass"),
    "a text": (lambda: analyze(small(), "16x16"), ValueError, f"{SHAPE}eived: input_shape='16x16'. Pass (16, 16, 3)"),
    "nothing": (lambda: analyze(small(), ()), ValueError, f"{SHAPE}eived: input_shape=(). Pass (16, 16, 3)"),
    "wrong rank": (
        lambda: analyze(small(), (16, 16)),
        ValueError,
        "analyze: `input_shape` must be a shape of 3 axes, without batch. Received: input_shape=(16, 16). Pass (16, 16, 3), "
        "or other sizes in their places.",
    ),
    "one shape for two inputs": (
        lambda: analyze(keras.Model([x := keras.Input((4, 1)), y := keras.Input((2,))], [x, y]), (4, 1)),
        ValueError,
        "must be a list of 2 shapes, of 2 and 1 axes, without batch. Received: input_shape=(4, 1). Pass [(4, 1), (2,)], or",
    ),
    "wrong channels": (
        lambda: analyze(small(), (16, 16, 4)),
        ValueError,
        "analyze: the model does not take an input of 16 × 16 × 4: 'conv1' does not take a map of shape (16, 16, 4). It was "
        "built for 16 × 16 × 3.",
    ),
    "too small": (
        lambda: analyze(keras.Sequential([keras.Input((9, 9, 1)), layers.Conv2D(1, 5, name="big")]), (3, 3, 1)),
        ValueError,
        "an input of 3 × 3 × 1: 'big' does not take a map of shape (3, 3, 1). It was built for 9 × 9 × 1.",
    ),
    "another size than a dense layer has weights for": (
        lambda: analyze(FLAT, (8, 8, 1)),
        ValueError,
        "an input of 8 × 8 × 1: 'fc' does not take a map of shape (64,). It was built for 6 × 6 × 1.",
    ),
    "no picture": (
        lambda: analyze(small()).plot("network.doc"),
        ValueError,
        "plot: `path` must be a .png, .svg or .pdf file. Received: path='network.doc'.",
    ),
    "no folder": (
        lambda: kc.analysis.plot_grad_cam(None, None, {}, "none/cam.png"),
        ValueError,
        "plot_grad_cam: `path` must be a file in a folder that exists and can be written to. Received: path='none/cam.png'.",
    ),
    "unit of another rank": (
        lambda: analyze(small()).rows[0].box((1, 2, 3)),
        ValueError,
        "box: `unit` must be an integer of at least 0, or 2 of them. Received: unit=(1, 2, 3).",
    ),
    "no such layer": (
        lambda: receptive_field(small(), "conv9"),
        ValueError,
        "analyze: no layer 'conv9' in 'small'. It has: conv1, conv2.",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_bad_input_is_one_sentence(name):
    function, kind, sentence = SENTENCES[name]
    with pytest.raises(kind, match=re.escape(sentence)) as error:
        function()
    assert str(error.value).count(". ") <= 2 and "\n" not in str(error.value)


def test_a_model_that_cannot_be_followed_says_what_to_do():
    model = Untraceable()
    model(np.zeros((1, 4), "float32"))
    with pytest.raises(
        ValueError, match=r"must be functional, or have a `call` written in Keras layers.*Analyze its parts"
    ):
        analyze(model)


def test_what_an_unknown_size_leaves_open_is_said():
    """Of a 3 x 3 convolution at stride 1 the padding is known, at stride 2 it depends on the size."""
    for strides, what in ((1, "MACs, memory"), (2, "MACs, memory, padding")):
        model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(4, 3, strides, padding="same")])
        assert analyze(model).notes == (
            f"Not known without the size of the input: {what}; pass input_shape, such as (224, 224, 1), or on the command "
            "line --input 224x224.",
        )
        assert not analyze(model, (9, 9, 1)).notes
    assert re.search(r"^MACs +\?, ", analyze(model).to_text(), re.MULTILINE)


def test_text_and_dictionary():
    found = analyze(small())
    text = found.to_text()
    lines = text.splitlines()
    assert lines[0] == "small: 16 × 16 × 3 → 8 × 8 × 4" and max(map(len, lines)) <= 120
    assert repr(found) == "<Analysis of small: 16 × 16 × 3 → 8 × 8 × 4, 2 rows; to_text() is the table>"
    assert re.search(r"conv2 +Conv2D +8 × 8 × 4 +7 +2 +2 +148 +9\.22 k +1\.02 kB", text)
    assert re.search(r"^total +260 +16\.1 k +2\.05 kB", text, re.MULTILINE)
    assert re.search(r"^MACs +16\.1 k, besides: bias 512$", text, re.MULTILINE)
    assert "'conv2', the last map, sees 7 cells of the input along each axis, the next one those 2 further" in " ".join(
        text.split()
    )
    dictionary = json.loads(json.dumps(found.to_dict()))
    assert dictionary["macs"] == 64 * 9 * (3 + 4) * 4 == found.macs
    assert dictionary["layers"][1]["receptive_field"] == [{"size": 7, "stride": 2, "padding": 2}] * 2
    assert dictionary["last_map"]["receptive_field"] == dictionary["receptive_field"]


LONG = "a_name_that_says_at_great_length_what_this_layer_is_for"


@cache
def nested():
    """ResNet50 in a model, with a head of a long name."""
    body = network("ResNet50")
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
    left_out = re.findall(r"Left out +for want of width: ([a-zM, \n]*)", text)
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
    assert {number: short(number) for number in numbers} == numbers and short(999_600, "B") == "1.00 MB"


def texts_of(figure):
    """All that is written, and for each its left, lower, right and upper end in pixels; but not the numbers at axes."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if not re.fullmatch(r"[\d−.]*", text.get_text())]
    return [text.get_text() for text in texts], np.array([text.get_window_extent(renderer).extents for text in texts])


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2"])
def test_the_picture_is_legible(name):
    """Nothing is written over something else or off the page, and each layer with weights in a kernel is there."""
    found = analyze(network(name))
    figure = pictures.page(found)
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


def test_lines_of_the_picture():
    """A line has the rows that change a map in place; connections are kept, and dollars in names are no mathematics."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="a$^$")(inputs)))
    y = layers.ReLU()(layers.Conv2D(4, 3, padding="same", name="b")(x))
    x = layers.ReLU()(layers.Add(name="sum")([layers.MaxPooling2D(1)(x), y]))
    found = analyze(keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(layers.MaxPooling2D(2)(x)))))
    lines = lines_of(found)
    kinds = [[row.kind for row in line.rows] for line in lines]
    assert kinds[1] == ["Conv2D", "BatchNormalization", "ReLU"] and kinds[-1] == ["Dense"]
    by_name = {line.name: [lines[place].name for place in line.sources] for line in lines}
    assert by_name["image"] == [] and by_name["a$^$"] == ["image"] and by_name["b"] == ["a$^$"]
    assert by_name["sum"][1] == "b" and len(by_name["sum"]) == 2
    assert sum(line.total("parameters") for line in lines[1:]) == found.parameters
    assert "a$^$" in texts_of(pictures.page(found))[0]


@pytest.mark.parametrize("suffix", ["svg", "pdf", "PNG"])
def test_plots(tmp_path, suffix):
    analyze(small()).plot(tmp_path / f"small.{suffix}")
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[suffix.lower()]
    assert (tmp_path / f"small.{suffix}").read_bytes().startswith(start)


def test_matplotlib_is_loaded_when_a_picture_is_asked_for(monkeypatch):
    """Where it cannot be imported, all but the pictures works."""
    monkeypatch.setattr(kc, "analysis", kc.analysis)
    for name in list(sys.modules):
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
        if name.startswith("keras_cnn.analysis"):
            monkeypatch.delitem(sys.modules, name)
    fresh = importlib.import_module("keras_cnn.analysis")
    assert fresh is not kc.analysis or fresh.analyze is not analyze
    assert "total" in fresh.analyze(small()).to_text()
    with pytest.raises(ImportError, match="matplotlib"):
        fresh.plot_grad_cam


def test_keras_hub_backbones_are_laid_open():
    """By hand: 7 at stride 2, a pooling of 3 to 11 at 4, two convolutions to 27, one at stride 2 to 35, one more to 51."""
    hub = pytest.importorskip("keras_hub")
    resnet = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    model = hub.models.ResNetImageClassifier(backbone=resnet, num_classes=3)
    found = analyze(model)
    assert found.parameters == model.count_params() and not found.notes and found.sees_whole_input
    assert [(axis.size, axis.stride) for axis in found.last_map.field] == [(51, 8)] * 2


def test_keras_hub_transformers_are_followed():
    """SegFormer's encoder: a kernel of 7 at stride 4, beside attention over the whole map."""
    hub = pytest.importorskip("keras_hub")
    encoder = hub.models.MiTBackbone(
        image_shape=(32, 32, 3),
        layerwise_depths=[1],
        num_layers=1,
        layerwise_num_heads=[1],
        layerwise_sr_ratios=[1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7],
        layerwise_strides=[4],
        hidden_dims=[8],
    )
    found = analyze(encoder)
    assert not any("not known" in note for note in found.notes) and found.macs > 0
    assert found.rows[0].field == (Field(7, 4, 3),) * 2 and found.rows[-1].global_field
