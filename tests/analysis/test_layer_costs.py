"""Costs of layers and products by hand, of a chain against the profiler of TensorFlow, and of networks as published."""

import importlib.util
import re
import tracemalloc
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.analyzed_models import application, last_row
from helpers.slow import mark_slow
from keras import layers, ops

import keras_cnn as kc
from keras_cnn.analysis import analyze
from keras_cnn.analysis.fields.costs import Cost
from keras_cnn.geometry import Field

ROOT = Path(__file__).parents[2]


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
    assert last_row(layer, shape).cost == Cost(*expected)


def test_memory_is_the_bytes_of_the_output():
    assert last_row(layers.Conv2D(8, 3), (6, 5, 4)).memory == 4 * 3 * 8 * 4
    assert last_row(layers.Conv2D(8, 3, dtype="mixed_float16"), (6, 5, 4)).memory == 4 * 3 * 8 * 2


@pytest.mark.slow
def test_the_size_of_the_image_takes_no_memory():
    """4,096 times the pixels, and at most twice what Python allocates."""
    peaks = []
    for side in (64, 64, 4096):  # the first time, things are made that stay
        tracemalloc.start()
        found = analyze(application("MobileNet"), (side, side, 3))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 2 * peaks[1] and found.memory > 20e9


PUBLISHED = {  # billions of multiply-adds: arXiv:1512.03385 table 1, arXiv:1704.04861 table 8, arXiv:1801.04381 table 4
    "ResNet50": (3.8, 483),
    "MobileNet": (0.569, 315),
    "MobileNetV2": (0.300, 491),
}


@pytest.mark.parametrize("name", mark_slow(PUBLISHED, except_for=["ResNet50"]))
def test_published_totals(name):
    model = application(name)
    found, (macs, field) = analyze(model), PUBLISHED[name]
    assert found.macs / 1e9 == pytest.approx(macs, rel=0.016)
    assert found.last_map.receptive_field[0].size == field and found.last_map.output_shape[:2] == (7, 7)
    assert found.parameters == model.count_params()
    assert found.trainable_parameters == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert found.receptive_field[0].stride == 0 and found.rows[-1].sees_whole_input and found.sees_whole_input


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
            assert found.last_map.receptive_field == (Field(size, 32, padding + shift),) * 2, name


def test_the_stride_of_a_bottleneck_may_be_in_the_other_convolution():
    """In the 3 x 3 convolution, as torchvision's ResNet50 has it: 4.089 G (its *GFLOPS*), and a field of 427, which is 11,
    three times 8, then 8 + 3 · 16, 16 + 5 · 32 and 32 + 2 · 64."""

    def moved(layer):
        config = layer.get_config()
        if re.fullmatch(r"conv[345]_block1_[12]_conv", layer.name):
            config["strides"] = 1 if "_1_conv" in layer.name else 2
            config["padding"] = "same"
        return type(layer).from_config(config)

    found = analyze(keras.models.clone_model(application("ResNet50"), clone_function=moved))
    assert round(found.macs / 1e9, 3) == 4.089 and found.last_map.receptive_field[0].size == 427


def profiled_macs(model):
    """Half the operations that `tf.profiler` counts for kernels and matrix products, for one example."""
    import tensorflow as tf

    spec = tf.TensorSpec((1, *model.input_shape[1:]), "float32")
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    kinds = [".*Conv2D.*", ".*Conv3D.*", ".*DepthwiseConv2dNative.*", ".*MatMul.*"]
    options = options.with_empty_output().order_by("float_ops").with_accounted_types(kinds).build()
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops / 2


def test_a_chain_of_layers_equals_the_profiler():
    """Strides and sizes that do not divide, every kind of kernel that the profiler knows."""
    model = keras.Sequential(
        [
            keras.Input((29, 23, 3)),
            layers.Conv2D(6, (3, 5), (2, 1), "same"),
            layers.DepthwiseConv2D(3, 2, "valid", depth_multiplier=2),
            layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2),
            layers.Conv2DTranspose(4, (3, 2), 2, "same"),
            kc.layers.Conv2D(4, 3, 2, padding=((2, 0), (1, 3)), dilation_rate=2),
            layers.Flatten(),
            layers.Dense(24),
            layers.Reshape((6, 4)),
            layers.Conv1D(3, 3, padding="causal"),
            layers.SeparableConv1D(4, 3),
            layers.Reshape((2, 2, 2, 2)),
            layers.Conv3D(2, (1, 2, 1), padding="same"),
        ]
    )
    assert analyze(model).macs == profiled_macs(model) > 0


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: ops.einsum("...c,cd->...d", x, np.ones((4, 5), "float32")), 6 * 4 * 5),
        (lambda x: ops.einsum("bhc,bhd->bcd", x, x), 6 * 4 * 4),
        (lambda x: ops.einsum("bhc->bch", x), 0),
        (lambda x: ops.matmul(x, np.ones(4, "float32")), 6 * 4),
        (lambda x: ops.einsum("bhc,bhd,bhe->bcde", x, x, x), None),
        (lambda x: layers.Attention()([x, x]), 2 * 6 * 6 * 4),
        (lambda x: layers.AdditiveAttention()([x, x]), 6 * 6 * 4),
        (lambda x: layers.EinsumDense("...c,cd->...d", 5)(x), 6 * 4 * 5),
        (lambda x: ops.conv(x, np.ones((3, 4, 8), "float32"), 1), 4 * 3 * 4 * 8),
    ],
)
def test_products(function, expected):
    """Of 6 places with 4 channels; three factors at once may be multiplied in any order, and are not counted."""
    assert last_row(function, (6, 4)).macs == expected


def attention_macs(heads, key_dim, value_dim, places=9, others=9, channels=16, other_channels=16, outputs=16):
    """Vaswani et al., 2017, section 3.2: three projections, scores, the mean of values, and the projection of the heads."""
    projections = heads * (places * channels * key_dim + others * other_channels * (key_dim + value_dim))
    products = heads * places * others * (key_dim + value_dim)
    return projections + products + places * heads * value_dim * outputs


SEQUENCE = (9, 16)


ATTENTION = {
    "values as wide as keys": ({}, {}, attention_macs(2, 8, 8)),
    "narrow values": ({"value_dim": 4}, {}, attention_macs(2, 8, 4)),
    "wide values": ({"value_dim": 16}, {}, attention_macs(2, 8, 16)),
    "no bias": ({"value_dim": 4, "use_bias": False}, {}, attention_macs(2, 8, 4)),
    "another output": ({"value_dim": 4, "output_shape": 7}, {}, attention_macs(2, 8, 4, outputs=7)),
    "output of rank 2": ({"value_dim": 4, "output_shape": (3, 7)}, {}, attention_macs(2, 8, 4, outputs=21)),
    "causal": ({"value_dim": 4}, {"use_causal_mask": True}, attention_macs(2, 8, 4)),
    "scores": ({"value_dim": 4}, {"return_attention_scores": True}, attention_macs(2, 8, 4)),
    "a gate": ({"value_dim": 4, "use_gate": True}, {}, attention_macs(2, 8, 4) + 9 * 16 * 2 * 4),
}


@pytest.mark.parametrize("case", ATTENTION)
def test_attention_of_any_width_of_values(case):
    options, call, expected = ATTENTION[case]
    inputs = keras.Input(SEQUENCE)
    found = analyze(keras.Model(inputs, layers.MultiHeadAttention(2, 8, **options)(inputs, inputs, **call)))
    assert found.macs == expected
    value_dim, outputs = options.get("value_dim", 8), np.prod(options.get("output_shape", 16))
    biases = 9 * (2 * (8 + 8 + value_dim) + outputs + (2 * 4 if "use_gate" in options else 0))
    assert found.rows[-1].cost.bias == (biases if options.get("use_bias", True) else 0)


def test_attention_to_others_and_along_some_axes():
    inputs, others, image = keras.Input(SEQUENCE), keras.Input((5, 12)), keras.Input((4, 6, 16))
    attention = layers.MultiHeadAttention(2, 8, value_dim=4)
    found = analyze(keras.Model([inputs, others], attention(inputs, others)))
    assert found.macs == attention_macs(2, 8, 4, others=5, other_channels=12)
    both = layers.MultiHeadAttention(2, 8, value_dim=4, attention_axes=(1, 2))(image, image)
    assert analyze(keras.Model(image, both)).macs == attention_macs(2, 8, 4, places=24, others=24)
    rows = layers.MultiHeadAttention(2, 8, value_dim=4, attention_axes=(2,))(image, image)
    assert analyze(keras.Model(image, rows)).macs == 4 * attention_macs(2, 8, 4, places=6, others=6)


def test_queries_that_share_keys():
    inputs = keras.Input(SEQUENCE)
    grouped = layers.GroupQueryAttention(8, 4, 2)(inputs, inputs)  # 4 heads of queries, 2 of keys and values, 8 wide
    expected = 9 * 16 * 8 * (4 + 2 + 2) + 2 * 4 * 9 * 9 * 8 + 9 * 4 * 8 * 16
    assert analyze(keras.Model(inputs, grouped)).macs == expected


def test_attention_in_a_layer_of_the_users():
    class Mixer(layers.Layer):
        """Values are 6 wide, keys 4; what follows needs to know."""

        def __init__(self):
            super().__init__()
            self.out = layers.Dense(5)

        def build(self, shape):
            self.out.build((*shape[:-1], 6))

        def call(self, x):
            x = ops.expand_dims(x, 2)
            heads = ops.dot_product_attention(x[..., :4], x[..., 4:8], x[..., 8:14])
            return self.out(ops.squeeze(heads, 2) * x[..., 0, :6])

        def compute_output_shape(self, shape):
            return (*shape[:-1], 5)

    inputs = keras.Input((9, 14))
    assert analyze(keras.Model(inputs, Mixer()(inputs))).macs == 9 * 9 * (4 + 6) + 9 * 6 * 5


def test_what_is_not_counted_is_said():
    inputs = keras.Input((6, 4))
    x = layers.Dense(3, name="dense")(inputs)
    found = analyze(keras.Model(inputs, layers.Dense(2)(ops.cumsum(x, axis=1))))
    assert found.row("cumsum").cost == Cost(None, None, None, None, None, None)
    assert found.macs is None and [row.macs for row in found.rows] == [6 * 4 * 3, None, 6 * 3 * 2]
    assert found.notes == (
        "cumsum (Cumsum) is not known and cannot be followed: fields after it are unknown, and its operations are not "
        "counted.",
    )


def test_what_is_counted_though_its_field_is_not_known():
    fit = layers.Resizing(4, 4, pad_to_aspect_ratio=True, name="fit")
    found = analyze(keras.Sequential([keras.Input((8, 6, 2)), fit, layers.Conv2D(3, 2)]))
    assert found.notes == ("fit (Resizing) is not known and cannot be followed: fields after it are unknown.",)
    assert found.macs == 9 * 4 * 2 * 3
