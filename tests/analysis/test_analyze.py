"""`kc.analyze`: every kind of model, several inputs, what is not known, and what it says of bad input."""

import re

import keras
import numpy as np
import pytest
from helpers.analyzed_models import application, two_convolutions
from keras import layers, ops

import keras_cnn as kc
from keras_cnn.analysis import analyze, receptive_field
from keras_cnn.geometry import Field
from keras_cnn.keras_internals import call_records


def test_each_layer_of_a_nested_model_has_a_row():
    body = two_convolutions("body")
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
    assert [row.receptive_field[0].size for row in found.rows] == [3, 5]
    assert [row.parameters for row in found.rows] == [148, 0] and found.parameters == model.count_params()
    assert found.macs == 2 * 256 * 9 * 16
    assert [(row.id, row.name, row.inputs) for row in found.rows] == [
        ("conv#1", "conv", ("image",)),
        ("conv#2", "conv", ("conv#1",)),
    ]
    assert found.row("conv#1").receptive_field[0].size == 3 and found.row("conv").receptive_field[0].size == 5


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
        self.body, self.block, self.head = two_convolutions("body"), Block(name="block"), layers.Dense(2, name="head")
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
    assert found.row("block").receptive_field == (Field(11, 2, 4),) * 2 and found.parameters == model.count_params()
    assert found.notes == () and found.rows[-2].sees_whole_input
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
    (note,) = found.notes
    assert re.sub(r"sort_\d+", "sort", note) == (
        "odd/sort (Sort) is not known and cannot be followed: fields after it are unknown, and its operations are not counted."
    )
    assert found.macs is None and found.lower_bounds["macs"] == 14 * 14 * 9 * 3 * 4
    dictionary, text = found.to_dict(), found.to_text()
    assert dictionary["macs"] is None and dictionary["lower_bounds"]["macs"] == 21168
    assert dictionary["last_map"] is None and dictionary["sees_whole_input"] is None
    assert re.search(r"^odd +Sorted .* \?  ", text, re.MULTILINE) and re.search(
        r"^MACs +≥ 21\.2 k, also: bias ≥ 784", text, re.MULTILINE
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


def test_a_layer_that_gives_its_very_input_is_followed():
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


def test_inputs_may_be_given_by_name():
    inputs = keras.Input((6, 4))
    x = layers.Dense(3)(inputs=inputs)
    found = analyze(keras.Model(inputs, layers.Concatenate()(inputs=[x, inputs])))
    assert found.macs == 6 * 4 * 3 and found.rows[-1].output_shape == (6, 7)


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
    assert (
        found.other_inputs["mask"].receptive_field
        == found.other_inputs["mask"].row("last").receptive_field
        == (Field(7, 1, 2),) * 2
    )
    assert found.other_inputs["mask"].row("gate").receptive_field == (Field(5, 1, 2),) * 2
    assert found.notes == ("Fields are those within input 'image'; `other_inputs` has those within 'mask'.",)
    assert re.search(r"^gate +Conv2D +20 × 24 × 1 +none ", found.to_text(), re.MULTILINE)
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
    aligned = analyze(application("ResNet50"))
    assert aligned.misaligned == () and "≠" not in aligned.to_text()


def test_a_backbone_is_analyzed_without_its_head():
    backbone = kc.Backbone(two_convolutions("body"), (), kc.Preprocessing((16, 16)), None)
    found = analyze(backbone, (20, 12, 3))
    assert found.backbone and not found.sees_whole_input and found.parameters == backbone.model.count_params()
    assert found.to_text().startswith("body, backbone without its head: 20 × 12 × 3 → 10 × 6 × 4\n")
    assert not analyze(backbone.model).backbone


def test_another_input_shape():
    assert analyze(two_convolutions(), (32, 15, 3)).rows[-1].output_shape == (16, 8, 4)
    assert analyze(two_convolutions(), (32, 32, 3)).macs == 4 * analyze(two_convolutions()).macs


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
        lambda: analyze(two_convolutions(), 320),
        ValueError,
        f"{SHAPE}eived: input_shape=320. Pass (16, 16, 3), or other sizes in their places.",
    ),
    "a negative size": (
        lambda: analyze(two_convolutions(), (-1, 16, 3)),
        ValueError,
        f"{SHAPE}eived: input_shape=(-1, 16, 3). Pass",
    ),
    "a fraction": (
        lambda: analyze(two_convolutions(), (16.5, 16, 3)),
        ValueError,
        f"{SHAPE}eived: input_shape=(16.5, 16, 3). Pass",
    ),
    "a bool": (
        lambda: analyze(two_convolutions(), (True, 16, 3)),
        ValueError,
        f"{SHAPE}eived: input_shape=(True, 16, 3). Pass",
    ),
    "a text": (
        lambda: analyze(two_convolutions(), "16x16"),
        ValueError,
        f"{SHAPE}eived: input_shape='16x16'. Pass (16, 16, 3)",
    ),
    "nothing": (lambda: analyze(two_convolutions(), ()), ValueError, f"{SHAPE}eived: input_shape=(). Pass (16, 16, 3)"),
    "wrong rank": (
        lambda: analyze(two_convolutions(), (16, 16)),
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
        lambda: analyze(two_convolutions(), (16, 16, 4)),
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
    "no figure": (
        lambda: analyze(two_convolutions()).plot("network.doc"),
        ValueError,
        "plot: `path` must be a .png, .svg or .pdf file. Received: path='network.doc'.",
    ),
    "no folder": (
        lambda: kc.analysis.plot_grad_cam(None, None, {}, "none/cam.png"),
        ValueError,
        "plot_grad_cam: `path` must be a file in a folder that exists and can be written to. Received: path='none/cam.png'.",
    ),
    "unit of another rank": (
        lambda: analyze(two_convolutions()).rows[0].box((1, 2, 3)),
        ValueError,
        "box: `unit` must be an integer of at least 0, or 2 of them. Received: unit=(1, 2, 3).",
    ),
    "no such layer": (
        lambda: receptive_field(two_convolutions(), "conv9"),
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


def test_notes_name_what_an_unknown_size_leaves_open():
    """Of a 3 x 3 convolution at stride 1 the padding is known, at stride 2 it depends on the size."""
    for strides, what in ((1, "MACs, memory"), (2, "MACs, memory, padding")):
        model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(4, 3, strides, padding="same")])
        assert analyze(model).notes == (
            f"Not known without the size of the input: {what}; pass input_shape, such as (224, 224, 1), or on the command "
            "line --input 224x224.",
        )
        assert not analyze(model, (9, 9, 1)).notes
    assert re.search(r"^MACs +\?, ", analyze(model).to_text(), re.MULTILINE)


def test_each_layer_of_a_keras_hub_backbone_has_a_row():
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
    assert [(axis.size, axis.stride) for axis in found.last_map.receptive_field] == [(51, 8)] * 2


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
    assert found.rows[0].receptive_field == (Field(7, 4, 3),) * 2 and found.rows[-1].global_field
