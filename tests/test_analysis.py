"""`kc.analyze`: costs, parameters, every kind of model, what it says of bad input, and its forms as text and pictures."""

import importlib.util
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_cnn as kc
from keras_cnn.analysis import analyze, receptive_field
from keras_cnn.analysis.costs import Cost
from keras_cnn.geometry import Field

ROOT = Path(__file__).parent.parent


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
    "recurrent": (layers.LSTM(3), (5, 4), (5 * 4 * 3 * (4 + 3), 0, 0, 0, 0, 0)),
    "gated recurrent": (layers.Bidirectional(layers.GRU(3)), (5, 4), (2 * 5 * 3 * 3 * (4 + 3), 0, 0, 0, 0, 0)),
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


PUBLISHED = {  # billions of multiply-adds: arXiv:1512.03385 table 1, arXiv:1704.04861 table 8, arXiv:1801.04381 table 4
    "ResNet50": (3.8, 483),
    "MobileNet": (0.569, 315),
    "MobileNetV2": (0.300, 491),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name):
    model = getattr(keras.applications, name)(weights=None)
    found, (macs, field) = analyze(model), PUBLISHED[name]
    assert found.macs / 1e9 == pytest.approx(macs, rel=0.016)
    assert [row for row in found.rows if row.field[0].stride][-1].field[0].size == field
    assert found.parameters == model.count_params()
    assert found.trainable_parameters == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert found.receptive_field[0].stride == 0 and found.rows[-1].sees_all


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
        assert found.parameters / 1e6 == pytest.approx(published.parameters, abs=0.05), name
        assert published.field in (None, table.last_map(found).field[0].size), name


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
    inputs = keras.Input((16, 16, 4))
    conv = layers.Conv2D(4, 3, padding="same", name="conv")
    model = keras.Model(inputs, conv(conv(inputs)))
    found = analyze(model)
    assert [row.field[0].size for row in found.rows] == [3, 5]
    assert [row.parameters for row in found.rows] == [148, 0] and found.parameters == model.count_params()
    assert found.macs == 2 * 256 * 9 * 16


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
    calls = [len(layer._inbound_nodes) for layer in (model.block, model.head, model.block.conv)]
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
    assert [len(layer._inbound_nodes) for layer in (model.block, model.head, model.block.conv)] == calls


@keras.saving.register_keras_serializable(package="test")
class Sorted(layers.Layer):
    def call(self, x):
        return ops.sort(x, axis=1)


def test_an_unknown_layer_is_named_and_nothing_is_guessed():
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 3)(Sorted(name="odd")(inputs)))
    found = analyze(model)
    assert found.receptive_field == (Field(None, None, None),) * 2 and found.rows[-1].box() == ((None, None),) * 2
    assert found.notes == (
        "odd/sort (Sort) is not known and cannot be followed: fields behind it are unknown, and its operations are not "
        "counted.",
    )


class Strange(layers.Conv2D):
    """A subclass that does more than its parent: it must be followed, not taken for a convolution."""

    def call(self, x):
        return super().call(ops.pad(x, ((0, 0), (4, 0), (4, 0), (0, 0))))


def test_subclasses_of_known_layers_are_followed():
    inputs = keras.Input((16, 16, 3))
    assert receptive_field(keras.Model(inputs, Strange(4, 3)(inputs))) == (Field(3, 1, 4),) * 2


class Untraceable(keras.Model):
    def call(self, x):
        return float(x[0, 0]) * x


def test_several_inputs():
    image, mask = keras.Input((16, 16, 3)), keras.Input((16, 16, 1))
    x = layers.Conv2D(4, 3)(layers.Multiply()([image, layers.Conv2D(1, 5, padding="same")(mask)]))
    found = analyze(keras.Model([image, mask], x), [(20, 24, 3), (20, 24, 1)])
    assert found.receptive_field == (Field(3, 1, 0),) * 2 and found.notes == (
        "Fields are those within the first input.",
    )
    assert found.rows[-1].output_shape == (18, 22, 4)


def test_another_input_shape():
    assert analyze(small(), (32, 15, 3)).rows[-1].output_shape == (16, 8, 4)
    assert analyze(small(), (32, 32, 3)).macs == 4 * analyze(small()).macs


SENTENCES = {
    "not a model": (
        lambda: analyze(layers.Dense(2)),
        TypeError,
        "analyze: `model` must be a keras.Model. Received: Dense. Wrap layers in a model.",
    ),
    "not built": (
        lambda: analyze(keras.Sequential([layers.Dense(2)], name="s")),
        ValueError,
        "analyze: the model must be built. Received: 's', which has no weights yet. Call it on an example, or "
        "model.build((None, height, width, channels)).",
    ),
    "wrong rank": (
        lambda: analyze(small(), (16, 16)),
        ValueError,
        "analyze: `input_shape` must be of the rank of the model's own, without batch. Received: (16, 16), for a model of "
        "(16, 16, 3). Pass a shape such as (16, 16, 3).",
    ),
    "wrong channels": (
        lambda: analyze(small(), (16, 16, 4)),
        ValueError,
        "analyze: 'conv1' does not take a map of shape (16, 16, 4)",
    ),
    "too small": (
        lambda: analyze(keras.Sequential([keras.Input((9, 9, 1)), layers.Conv2D(1, 5, name="big")]), (3, 3, 1)),
        ValueError,
        "analyze: 'big' does not take a map of shape (3, 3, 1)",
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
    with pytest.raises(kind, match=re.escape(sentence)):
        function()


def test_a_model_that_cannot_be_followed_says_what_to_do():
    model = Untraceable()
    model(np.zeros((1, 4), "float32"))
    with pytest.raises(
        ValueError, match=r"must be functional, or have a `call` written in Keras layers.*Analyze its parts"
    ):
        analyze(model)


def test_text_and_dictionary():
    found = analyze(small())
    text = found.to_text()
    lines = text.splitlines()
    assert lines[0].startswith("small, input 16 × 16 × 3") and max(map(len, lines)) <= 120
    assert re.search(r"conv2 +Conv2D +8 × 8 × 4 +7 +2 +2 +148 +9\.22 k +1\.02 kB", text)
    assert re.search(r"^MACs +16\.1 k, besides: bias 512", text, re.MULTILINE)
    dictionary = json.loads(json.dumps(found.to_dict()))
    assert dictionary["macs"] == 64 * 9 * (3 + 4) * 4 == found.macs
    assert dictionary["layers"][1]["receptive_field"] == [{"size": 7, "stride": 2, "padding": 2}] * 2


def test_plots(tmp_path):
    from PIL import Image

    found = analyze(small())
    found.plot(tmp_path / "small.png")
    large = analyze(keras.applications.MobileNet(weights=None))
    large.plot(tmp_path / "large.png")
    for name in ("small", "large"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 200 and len(image.convert("L").getcolors()) > 20
    found.plot(tmp_path / "small.svg")
    assert "<svg" in (tmp_path / "small.svg").read_text()


def test_keras_hub_backbones_are_laid_open():
    hub = pytest.importorskip("keras_hub")
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[8],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[8, 16],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    found = analyze(backbone)
    assert found.parameters == backbone.count_params() and not found.notes
