"""Fields of small networks by hand and of large ones as published; sizes that are not known; networks that are refused."""

import re
from fractions import Fraction

import keras
import numpy as np
import pytest
from helpers.analyzed_models import last_row
from keras import layers, ops

import keras_cnn as kc
from keras_cnn.analysis import analyze, receptive_field
from keras_cnn.analysis.explain.autodiff import gradient
from keras_cnn.geometry import Field

NOTHING = ((None, None), (None, None))


def test_published_fields():
    """VGG-16 212 / 32 / 90 and AlexNet 195 / 32 / 64: Araujo et al., 2019, doi:10.23915/distill.00021."""
    vgg = keras.applications.VGG16(weights=None, include_top=False, input_shape=(None, None, 3))
    assert receptive_field(vgg) == (Field(212, 32, 90),) * 2
    vgg = analyze(vgg, (224, 224, 3))
    assert vgg.receptive_field == (Field(212, 32, 90),) * 2
    assert vgg.row("block5_conv3").receptive_field[0].size == 196
    pool, same = {"pool_size": 3, "strides": 2}, {"padding": "same"}
    alexnet = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            layers.Conv2D(2, 11, 4),
            layers.MaxPooling2D(**pool),
            layers.Conv2D(2, 5, **same),
            layers.MaxPooling2D(**pool),
            *[layers.Conv2D(2, 3, **same) for _ in range(3)],
            layers.MaxPooling2D(**pool),
        ]
    )
    assert receptive_field(alexnet) == (Field(195, 32, 64),) * 2


class Ungated(layers.Layer):
    """In the place of a product with the gates of squeeze-and-excitation: only what they gate."""

    def call(self, inputs):
        return inputs[0]


def averaging(layer):
    """The layer, or one that does not lose gradients on the way: a mean for a maximum, no gates."""
    if isinstance(layer, layers.MaxPooling2D):
        return layers.AveragePooling2D.from_config(layer.get_config())
    return Ungated() if isinstance(layer, layers.Multiply) else type(layer).from_config(layer.get_config())


def set_to_means(model):
    """All kernels to the mean of what they read, all normalisations to none."""
    for weight in model.weights:
        if "kernel" in weight.name:
            fan = weight.shape[:2] if "depthwise" in weight.path else weight.shape[:-1]
            weight.assign(np.full(weight.shape, 1 / np.prod(fan)))
        else:
            weight.assign(np.full(weight.shape, float(weight.name in ("gamma", "moving_variance"))))


@pytest.fixture
def double_precision():
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx(floatx)


# Sizes that no one seems to have published, as docs/analysis.md has them; and one that is.
MEASURED = {
    "DenseNet121": 2071,
    "EfficientNetB0": 851,
    "MobileNetV2": 491,
    "NASNetMobile": 2407,
    "ResNet50": 483,
    "Xception": 1083,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_fields_of_large_networks_are_the_extent_of_the_gradient(name, double_precision):
    """In a strip that is longer than the field; in single precision the gradients at its ends would be zero."""
    shape = (MEASURED[name] + 200, 96, 3)
    network = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=shape)
    model = keras.models.clone_model(network, clone_function=averaging)
    set_to_means(model)
    row = analyze(network).last_map
    image = ops.full((1, *shape), 1e-6, dtype="float64")  # so small that no ReLU6 is at its end
    slopes = gradient(lambda x: ops.sum(model(x, training=False)[0, row.output_shape[0] // 2]), image)
    places = np.flatnonzero(ops.convert_to_numpy(slopes)[0].any(axis=(1, 2)))
    assert row.receptive_field[0].size == MEASURED[name] == places[-1] - places[0] + 1
    assert row.box()[0] == (places[0], places[-1]) and places[0] > 0 and places[-1] < shape[0] - 1


def test_dilation():
    """A 3 x 3 kernel at rate 2 spans five cells."""
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(1, 3, dilation_rate=2)])
    assert receptive_field(model) == (Field(5, 1, 0),) * 2


def test_unknown_sizes():
    """Kernel 3, stride 2: "same" pads 0 or 1 before the data, by the size."""
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, layers.Conv2D(1, 3, 2, padding="same", name="conv")(inputs))
    assert receptive_field(model) == (Field(3, 2, None),) * 2
    assert analyze(model, (8, 9, 1)).receptive_field == (Field(3, 2, 0), Field(3, 2, 1))
    found = analyze(model)
    assert (found.macs, found.memory) == (None, None) and "pass input_shape" in found.notes[0]
    assert found.rows[0].box() == NOTHING


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x[:, 3:, 1::2], (Field(1, 1, -3), Field(1, 2, -1))),
        (lambda x: ops.depth_to_space(layers.Conv2D(4, 3)(x), 2), (Field(3, Fraction(1, 2), Fraction(1, 2)),) * 2),
        (lambda x: ops.roll(x, 2, 1), (Field(1, 1, 2), Field(1, 1, 0))),
        (lambda x: ops.repeat(x, 2, axis=2), (Field(1, 1, 0), Field(1, Fraction(1, 2), Fraction(1, 2)))),
        (lambda x: kc.layers.Conv2D(1, 3, padding=1, padding_mode="reflect")(x), (Field(3, 1, 1),) * 2),
        (lambda x: ops.flip(x, 1), (Field(None, None, None),) * 2),
        (lambda x: x[:, :-1], (Field(None, None, None),) * 2),
    ],
)
def test_operations_on_unknown_sizes(function, expected):
    """What needs no size is known without one; what does, is not guessed."""
    inputs = keras.Input((None, None, 1))
    found = analyze(keras.Model(inputs, function(inputs)))
    assert found.receptive_field == expected
    assert any("not known and cannot be followed" in note for note in found.notes) == (expected[0].size is None)


def test_branches_of_the_same_unknown_padding_stay_aligned():
    inputs = keras.Input((None, None, 4))
    x = layers.Conv2D(4, 3, 2, padding="same")(inputs)
    model = keras.Model(inputs, layers.Add(name="sum")([x, layers.Conv2D(4, 3, padding="same")(x)]))
    assert receptive_field(model) == (Field(7, 2, None),) * 2
    assert analyze(model).misaligned == ()


def test_sub_pixels_have_half_the_stride():
    """Four channels become four pixels of one cell, whatever follows or stands beside them."""

    def shuffle(x):
        x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((8, 8, 2, 2, 1))(layers.Conv2D(4, 3, padding="same")(x)))
        return layers.Reshape((16, 16, 1))(x)

    half = (Field(3, Fraction(1, 2), Fraction(3, 2)),) * 2
    assert last_row(shuffle).receptive_field == half
    assert last_row(lambda x: layers.ReLU()(shuffle(x))).receptive_field == half
    assert last_row(lambda x: layers.Add()([shuffle(x), layers.UpSampling2D(2)(x)])).receptive_field == half
    assert last_row(shuffle).box((5, 10)) == ((1, 3), (4, 6))


def test_attention_with_a_causal_mask_is_an_upper_bound():
    inputs = keras.Input((6, 4))
    attention = layers.MultiHeadAttention(1, 2, name="causal")
    found = analyze(keras.Model(inputs, attention(inputs, inputs, use_causal_mask=True)))
    assert found.notes == ("causal: a unit there and in the following rows may see less than its field.",)


def test_misaligned_branches_give_the_union_box():
    """Xception at 299 px: a 1 x 1 convolution of stride 2 beside convolutions and a "same" pooling."""
    found = analyze(keras.applications.Xception(weights=None))
    assert len(found.misaligned) == 1
    inputs = keras.Input((9, 1))
    branches = [layers.Conv1D(1, 1, 2)(inputs), layers.Conv1D(1, 2, 2, padding="same")(inputs)]
    found = analyze(keras.Model(inputs, layers.Add(name="sum")(branches)))
    assert found.misaligned == ("sum",) and found.receptive_field == (Field(2, 2, 0),)


def test_branches_of_different_strides_raise():
    inputs = keras.Input((9, 1))
    branches = [layers.Conv1D(1, 5)(inputs), layers.Conv1D(1, 1, 2)(inputs)]
    sentence = (
        "analyze: 'sum' joins branches whose units are 1 and 2 input cells apart, so its units have no single receptive "
        "field. Give the branches equal strides."
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        analyze(keras.Model(inputs, layers.Concatenate(name="sum")(branches)))


def u_net(size):
    inputs = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="contracting")(inputs)
    y = layers.UpSampling2D(name="expanding")(layers.MaxPooling2D()(x))
    return keras.Model(inputs, layers.Concatenate(name="skip")([y, x]))


def test_maps_that_do_not_fit_are_refused():
    """Half of 99 is 49, and twice 49 is 98: the network cannot run at that size, and Keras does not say so."""
    sentence = "'skip' does not take the maps of 'expanding' (98, 98, 4) and 'contracting' (99, 99, 4)"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        analyze(u_net(None), (99, 99, 3))
    assert analyze(u_net(None), (96, 100, 3)).rows[-1].output_shape == (96, 100, 8)
    inputs = keras.Input((None, None, 1), name="image")
    cropped = layers.Cropping2D(((4, 0), (0, 0)), name="cropped")(inputs)
    with pytest.raises(ValueError, match=re.escape("the maps of 'cropped' (4, 8, 1) and 'image' (8, 8, 1)")):
        analyze(keras.Model(inputs, layers.Add(name="sum")([cropped, inputs])), (8, 8, 1))


def test_channels_first():
    inputs = keras.Input((3, 32, 24))
    x = layers.Conv2D(4, (3, 5), data_format="channels_first")(inputs)
    model = keras.Model(inputs, layers.MaxPooling2D(2, data_format="channels_first")(x))
    found = analyze(model)
    assert found.receptive_field == (Field(4, 2, 0), Field(6, 2, 0)) and found.rows[-1].box((1, 2)) == ((2, 5), (4, 9))


def test_images_without_channels():
    row = last_row(lambda x: layers.Conv2D(4, 5)(layers.Reshape((28, 28, 1))(x)), (28, 28))
    assert row.receptive_field == (Field(5, 1, 0),) * 2 and row.box((3, 4)) == ((3, 7), (4, 8))


def test_frames_of_a_video():
    inputs = keras.Input((6, 32, 32, 3))
    frames = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(4, 3, 2, name="conv"), layers.ReLU()])
    found = analyze(keras.Model(inputs, layers.TimeDistributed(frames, name="frames")(inputs)))
    assert found.receptive_field == (Field(1, 1, 0), Field(3, 2, 0), Field(3, 2, 0))
    assert found.macs == 6 * 15 * 15 * 9 * 3 * 4


def test_sizes_that_an_ellipsis_stands_for():
    """Keras says (None, 10, 12, 5) of this layer, and gives (None, 12, 10, 5)."""
    assert last_row(layers.EinsumDense("...c,cd->...d", 5), (12, 10, 4)).output_shape == (12, 10, 5)
