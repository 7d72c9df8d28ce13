"""Multiply-accumulates against those that TensorFlow's profiler counts, and of products of every form by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_cnn as kc
from keras_cnn.analysis import analyze
from keras_cnn.analysis.costs import Cost


def macs(function, shape, **options):
    inputs = keras.Input(shape, **options)
    return analyze(keras.Model(inputs, function(inputs))).macs


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
    assert macs(function, (6, 4)) == expected


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
        "cumsum (Cumsum) is not known and cannot be followed: fields behind it are unknown, and its operations are not "
        "counted.",
    )


def test_what_is_counted_though_its_field_is_not_known():
    fit = layers.Resizing(4, 4, pad_to_aspect_ratio=True, name="fit")
    found = analyze(keras.Sequential([keras.Input((8, 6, 2)), fit, layers.Conv2D(3, 2)]))
    assert found.notes == ("fit (Resizing) is not known and cannot be followed: fields behind it are unknown.",)
    assert found.macs == 9 * 4 * 2 * 3
