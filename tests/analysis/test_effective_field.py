"""effective_field: gradients worked by hand, the growth that the paper proves, images and units."""

import re

import keras
import numpy as np
import pytest

from keras_cnn.analysis import analyze, effective_field, plot_effective_field

pytestmark = pytest.mark.any_backend


def stack(number, size, **options):
    """Convolutions of 3 x 3 in a row, all weights 1, one channel."""
    options = {"kernel_initializer": "ones", **options}
    convs = [keras.layers.Conv2D(1, 3, name=f"conv{index}", **options) for index in range(1, number + 1)]
    return keras.Sequential([keras.Input((size, size, 1)), *convs])


def test_two_convolutions_by_hand():
    """1 1 1 convolved with itself is 1 2 3 2 1: that times itself, over 9, around the middle."""
    field = effective_field(stack(2, 11), np.zeros((1, 11, 11, 1)))
    line = np.array([0, 0, 0, 1, 2, 3, 2, 1, 0, 0, 0]) / 3
    np.testing.assert_allclose(field, np.outer(line, line), atol=1e-6)


def test_dilation_and_stride_by_hand():
    """Rate 2 leaves every second cell out; unit (1, 0) with stride 2 starts two rows further down."""
    field = effective_field(stack(1, 9, dilation_rate=2), np.zeros((1, 9, 9, 1)))
    line = np.array([0, 0, 1, 0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(field, np.outer(line, line))
    field = effective_field(stack(1, 7, strides=2), np.zeros((1, 7, 7, 1)), unit=(1, 0))
    np.testing.assert_array_equal(field, np.outer([0, 0, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0]))


def test_grows_like_the_root_of_the_depth():
    """Luo et al., section 2.3: n layers with equal weights and kernel K spread by sqrt(n (K² - 1) / 12) pixels."""
    for depth in (4, 16):
        size = 2 * depth + 3
        profile = effective_field(stack(depth, size), np.zeros((1, size, size, 1))).sum(axis=0, dtype="float64")
        places = np.arange(size) - size // 2
        assert np.count_nonzero(profile) == 2 * depth + 1  # the theoretical field grows like n
        assert np.sqrt((profile * places**2).sum() / profile.sum()) == pytest.approx(np.sqrt(depth * 8 / 12), abs=1e-3)


def test_average_over_images():
    """Two filters, one open for 17 bright images with slope 1, one for 1 dark image with slope -3: 17 to 3."""
    conv = keras.layers.Conv2D(2, (1, 2), activation="relu")
    model = keras.Sequential([keras.Input((1, 2, 1)), conv])
    conv.set_weights([np.array([[1.0, 0.0], [0.0, -3.0]]).reshape(1, 2, 1, 2), np.zeros(2)])
    images = np.concatenate([np.ones((17, 1, 2, 1)), -np.ones((1, 1, 2, 1))])
    model = keras.Sequential([model])  # and nested
    np.testing.assert_allclose(effective_field(model, images, output=conv.name, unit=(0, 0)), [[1, 3 / 17]], atol=1e-6)
    np.testing.assert_array_equal(effective_field(model, images, conv.name, unit=(0, 0, 0)), [[1, 0]])
    np.testing.assert_array_equal(effective_field(model, images, conv.name, unit=(0, 0, 1)), [[0, 1]])
    np.testing.assert_array_equal(effective_field(model, images[:1], conv.name, unit=(0, 0, 1)), [[0, 0]])


def test_colours_and_inner_layers():
    """The mean over the colours of the magnitude: slopes 1 and -1 do not cancel; the name chooses the layer."""
    model = keras.Sequential(
        [keras.Input((5, 5, 2)), keras.layers.Conv2D(1, 1, name="inner"), keras.layers.Conv2D(1, 3, name="outer")]
    )
    model.get_layer("inner").set_weights([np.array([1.0, -1.0]).reshape(1, 1, 2, 1), np.zeros(1)])
    expected = np.zeros((5, 5))
    expected[2, 2] = 1
    np.testing.assert_array_equal(effective_field(model, np.zeros((1, 5, 5, 2)), output="inner"), expected)
    assert np.count_nonzero(effective_field(model, np.zeros((1, 5, 5, 2)), output="outer")) == 9


def test_its_extent_is_the_theoretical_field():
    """With all weights 1 nothing cancels: the first and the last pixel that count are those that `analyze` gives."""
    options = [{"strides": 2, "padding": "same"}, {"dilation_rate": 2}, {"strides": 2}, {"padding": "same"}]
    convs = [
        keras.layers.Conv2D(1, (3, 2), name=f"conv{index}", kernel_initializer="ones", **option)
        for index, option in enumerate(options)
    ]
    model = keras.Sequential([keras.Input((61, 64, 1)), *convs])
    analysis = analyze(model)
    for conv in convs:
        places = np.argwhere(effective_field(model, np.zeros((1, 61, 64, 1)), conv.name))
        first, last = places.min(axis=0), places.max(axis=0)
        assert tuple(zip(first, last, strict=True)) == analysis.row(conv.name).box()


def test_plot(tmp_path):
    """1 2 3 2 1 over 9: the middle pixel has 1/9 of both axes together, 3 x 3 pixels have 49/81, more than half."""
    plot_effective_field(stack(2, 11), np.zeros((1, 11, 11, 1)) + 0.5, ["conv1", "conv2"], tmp_path / "field.svg")
    text = (tmp_path / "field.svg").read_text()
    for line in ("conv1 sees 3 × 3 pixels", "conv2 sees 5 × 5 pixels", "half of the effect within 3 × 3"):
        assert f"<!-- {line} -->" in text


def test_a_layer_whose_field_is_not_known_is_not_drawn(tmp_path):
    inputs = keras.Input((5, 5, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 3, name="conv")(keras.ops.sort(inputs, axis=1)))
    sentence = "`outputs` must be names of layers whose receptive field `analyze` knows. Received: outputs='conv'."
    with pytest.raises(ValueError, match=re.escape(sentence)):
        plot_effective_field(model, np.zeros((1, 5, 5, 1)), ["conv"], tmp_path / "field.png")
    assert not list(tmp_path.iterdir())


def test_wrong_arguments():
    model, images = stack(1, 5), np.zeros((1, 5, 5, 1))
    for arguments, message in (
        (
            (model, images[0]),
            "effective_field: `images` must be a batch of at least one image, of 4 axes. Received: im",
        ),
        ((model, images[:0]), "of 4 axes. Received: images=(0, 5, 5, 1)."),
        ((model, images, None, (3, 0)), "`unit` must be (row, column) or (row, column, channel) within (3, 3, 1). Rec"),
        ((model, images, None, (0, 0, 1)), "within (3, 3, 1). Received: unit=(0, 0, 1)."),
        ((model, images, None, (0,)), "within (3, 3, 1). Received: unit=(0,)."),
        ((model, images, None, 1), "within (3, 3, 1). Received: unit=1."),
        ((model, images, None, (1.0, 0)), "within (3, 3, 1). Received: unit=(1.0, 0)."),
        ((model, images, "conv7"), "`output` must be the name of a layer with a feature map of 4 axes. Received: outp"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            effective_field(*arguments)
