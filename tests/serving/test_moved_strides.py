"""Rows and columns that no layer reads are not computed, and the results stay those of the graph as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cnn as kc
from keras_cnn.serving import graph_rewriting, network

RANDOM = np.random.default_rng(0)


def kernel(side, inputs, outputs):
    return tf.constant(RANDOM.normal(0, 0.2, (side, side, inputs, outputs)).astype("float32"))


def rewritten(function, shape, kind="float32"):
    """What TensorFlow computes of `function`, what it computes of the graph rewritten, and the nodes of that."""
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, (None, *shape[1:]), "images")
        results = [one.name for one in function(images)]
    values = RANDOM.normal(size=shape).astype("float32")
    new = tf.Graph()
    with new.as_default():
        tf.graph_util.import_graph_def(graph_rewriting.rewrite(graph, ["images:0"], results, kind), name="")
    found = []
    for one in (graph, new):
        with tf.compat.v1.Session(graph=one) as session:
            found.append(session.run(results, {"images:0": values}))
    return *found, new.as_graph_def().node


def strides(nodes):
    return [list(node.attr["strides"].list.i)[1:3] for node in nodes if node.op == "Conv2D"]


@pytest.mark.parametrize("stride", [(2, 2), (3, 1)])
@pytest.mark.parametrize("shape", [(2, 9, 12, 3), (1, 8, 7, 3), (1, 1, 5, 3)])
@pytest.mark.parametrize(("side", "padding"), [(1, "VALID"), (1, "SAME"), (2, "SAME"), (3, "SAME"), (4, "SAME")])
def test_a_convolution_takes_over_the_stride_of_its_reader(side, padding, shape, stride):
    def layers(images):
        maps = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, kernel(side, 3, 4), 1, padding), [0.1, -0.2, 0.3, 0]))
        return [
            tf.nn.conv2d(maps, kernel(1, 4, 5), stride, "VALID"),
            tf.nn.conv2d(maps, kernel(1, 4, 2), stride, "SAME"),
        ]

    old, new, nodes = rewritten(layers, shape)
    for before, after in zip(old, new, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
    assert strides(nodes) == [list(stride), [1, 1], [1, 1]]


@pytest.mark.parametrize("padding", ["VALID", [[0, 0], [2, 0], [1, 3], [0, 0]]])
def test_strides_multiply(padding):
    def layers(images):
        return [tf.nn.conv2d(tf.nn.conv2d(images, kernel(3, 3, 4), 2, padding), kernel(1, 4, 5), (2, 3), "VALID")]

    for size in range(9, 15):
        (old,), (new,), nodes = rewritten(layers, (2, size, size, 3))
        np.testing.assert_allclose(new, old, atol=1e-6)
        assert strides(nodes) == [[4, 6], [1, 1]]


def block(images):
    """Two residual sums, of which a strided convolution reads the second."""
    stem = tf.nn.relu(tf.nn.conv2d(images, kernel(3, 3, 4), 1, "SAME"))
    inner = tf.nn.relu(tf.nn.conv2d(stem, kernel(3, 4, 4), 1, "SAME"))
    total = tf.nn.relu(tf.nn.conv2d(inner, kernel(1, 4, 4), 1, "VALID") + stem)
    return total, tf.nn.conv2d(total, kernel(1, 4, 6), 2, "VALID")


@pytest.mark.parametrize(("kind", "off"), [("float32", 1e-5), ("bfloat16", 0.1), ("float16", 0.01), ("int8", 0.1)])
def test_a_residual_sum_is_computed_where_it_is_read(kind, off):
    (old,), (new,), nodes = rewritten(lambda images: block(images)[1:], (2, 7, 8, 3), kind)
    np.testing.assert_allclose(new, old, atol=off)
    # Of the stem, which the inner convolution reads whole, a quarter is picked; of the rest a quarter is computed.
    assert strides(nodes) == [[1, 1], [2, 2], [1, 1], [1, 1]]
    assert [list(node.attr["strides"].list.i) for node in nodes if node.op == "MaxPool"] == [[1, 2, 2, 1]]


def test_channels_may_come_first():
    def layers(images):
        images = tf.transpose(images, (0, 3, 1, 2))
        stem = tf.nn.conv2d(images, kernel(3, 3, 4), 1, "SAME", "NCHW")
        total = tf.nn.conv2d(stem, kernel(3, 4, 4), 1, "SAME", "NCHW") + stem
        return [tf.nn.conv2d(total, kernel(1, 4, 5), 2, "VALID", "NCHW")]

    (old,), (new,), nodes = rewritten(layers, (2, 8, 5, 3))
    np.testing.assert_allclose(new, old, atol=1e-6)
    assert sorted(list(node.attr["strides"].list.i) for node in nodes if node.op in ("Conv2D", "MaxPool")) == [
        *2 * [[1, 1, 1, 1]],
        *2 * [[1, 1, 2, 2]],
    ]


READERS = {
    "comes out as well": lambda maps: [maps],
    "is pooled": lambda maps: [tf.nn.max_pool2d(maps, 2, 2, "VALID")],
    "is read with another stride": lambda maps: [tf.nn.conv2d(maps, kernel(1, 4, 2), 3, "VALID")],
    "is read by a larger kernel": lambda maps: [tf.nn.conv2d(maps, kernel(2, 4, 2), 2, "VALID")],
    "is read between zeros": lambda maps: [tf.nn.conv2d(maps, kernel(1, 4, 2), 2, [[0, 0], [1, 1], [1, 1], [0, 0]])],
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_what_is_read_whole_is_computed_whole(reader):
    def layers(images):
        maps = tf.nn.conv2d(images, kernel(3, 3, 4), 1, "SAME")
        return [tf.nn.conv2d(maps, kernel(1, 4, 2), 2, "VALID"), *reader(maps)]

    old, new, nodes = rewritten(layers, (1, 8, 8, 3))
    for before, after in zip(old, new, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
    assert strides(nodes)[:2] == [[1, 1], [2, 2]]


@pytest.mark.parametrize(
    "options", [{"strides": 2, "padding": "SAME"}, {"strides": 1, "padding": "SAME", "dilations": 2}]
)
def test_padding_that_depends_on_the_size_stays(options):
    def layers(images):
        return [tf.nn.conv2d(tf.nn.conv2d(images, kernel(3, 3, 4), **options), kernel(1, 4, 2), 2, "VALID")]

    for size in (7, 8):
        (old,), (new,), nodes = rewritten(layers, (1, size, size, 3))
        np.testing.assert_allclose(new, old, atol=1e-6)
        assert strides(nodes)[-1] == [2, 2]


@pytest.mark.slow
def test_resnet50_multiplies_a_tenth_less():
    model = keras.applications.ResNet50(weights=None)
    maps, _, _ = network.split_at_pooling(kc.fold_batch_norm(model))
    run = network.with_constants(lambda images: {"maps": maps(images, training=False)}, model.input_shape, "float32")
    with tf.Graph().as_default() as graph:
        run(tf.compat.v1.placeholder(tf.float32, (1, 224, 224, 3)))
    made = [one for one in graph.get_operations() if one.type == "Conv2D"]
    found = sum(np.prod(one.outputs[0].shape[1:3]) * np.prod(one.inputs[1].shape) for one in made)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    plain = sum(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape) for layer in layers)
    # In each of three stages, of the last 3 x 3 and the 1 x 1 after it, three quarters.
    saved = sum(
        3 * (side // 2) ** 2 * (9 * width**2 + 4 * width**2) for side, width in [(56, 64), (28, 128), (14, 256)]
    )
    assert plain - found == saved > 0.097 * plain
