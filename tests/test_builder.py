from functools import partial

import keras
import numpy as np
import pytest

from keras_cnn import blocks, heads
from keras_cnn.builder import attach, build

pytestmark = pytest.mark.any_backend


def small_resnet(classes=2):
    return build(
        input_shape=(12, 12, 3),
        stages={
            "stem": partial(blocks.conv_norm_act, filters=8),
            "c2": [partial(blocks.residual, filters=8)] * 2,
            "c3": [keras.layers.MaxPooling2D(2), partial(blocks.residual, filters=16, strides=2)],
        },
        head=heads.classification(classes),
        name="small",
    )


def test_stages_are_addressable_and_blocks_are_named_after_them():
    model = small_resnet()
    shapes = {name: model.get_layer(name).output.shape[1:] for name in ("stem", "c2", "c3")}
    assert shapes == {"stem": (12, 12, 8), "c2": (12, 12, 8), "c3": (3, 3, 16)}
    names = [layer.name for layer in model.layers]
    assert names[:5] == ["image", "stem_conv", "stem_norm", "stem_act", "stem"]
    assert {"c2_1_1_conv", "c2_2_add", "c3_2_shortcut_conv"} < set(names)
    assert names[-3:] == ["pool", "logits", "probabilities"]
    assert model.name == "small"


def test_names_that_a_function_has_are_kept():
    model = build((8, 8, 3), {"c1": [partial(blocks.conv_norm_act, filters=2, name="mine"), lambda x: x + 1]})
    assert {"mine_conv", "c1"} < {layer.name for layer in model.layers}
    assert model.output.shape == (None, 8, 8, 2)


def test_a_function_that_needs_a_name_is_given_the_stages():
    def block(x, name):
        return blocks.conv_norm_act(x, 2, name=name)

    names = {layer.name for layer in build((8, 8, 3), {"c1": [block, block], "c2": block}).layers}
    assert {"c1_1_conv", "c1_2_conv", "c2_conv"} < names


@pytest.mark.slow
def test_a_small_resnet_learns_with_fit():
    """Images brighter on the left or on the right: chance is a loss of ln 2 = 0.693."""
    keras.utils.set_random_seed(0)
    labels = np.arange(64) % 2
    images = np.random.default_rng(0).normal(size=(64, 12, 12, 3)).astype("float32")
    images[labels == 0, :, :6] += 1
    images[labels == 1, :, 6:] += 1
    model = small_resnet()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    history = model.fit(images, labels, batch_size=16, epochs=5, verbose=0).history["loss"]
    assert history[-1] < 0.1


def test_attach_makes_one_flat_graph_that_shares_the_layers():
    body = build((8, 8, 3), {"c1": partial(blocks.conv_norm_act, filters=4)}, name="body")
    model = attach(body, heads.classification(3))
    assert [layer.name for layer in model.layers] == [layer.name for layer in body.layers] + [
        "pool",
        "logits",
        "probabilities",
    ]
    assert (model.name, attach(body, heads.features(), name="other").name) == ("body", "other")


def test_a_u_shaped_network_from_stages_and_skips():
    """Ronneberger et al., arXiv:1505.04597, figure 1, at two levels: the result has the size of the image."""
    conv = partial(blocks.conv_norm_act, filters=4)
    encoder = build((16, 20, 1), {f"c{i}": [conv, conv, keras.layers.MaxPooling2D(2)] for i in (1, 2)})

    def decoder(x):
        for level, skip in ((2, encoder.get_layer("c1").output), (1, encoder.input)):
            x = conv(blocks.upsample(x, 4, skip=skip, name=f"up{level}"), name=f"d{level}")
        return heads.dense_prediction(5)(x)

    model = attach(encoder, decoder)
    assert model.output.shape == (None, 16, 20, 5)
    assert model.get_layer("up1_concat").output.shape[-1] == 4 + 1


conv, separable, inception = blocks.conv_norm_act, blocks.depthwise_separable, blocks.inception
ARITHMETIC = {
    "keras pooling": (keras.layers.MaxPooling2D(5), "(3 + 0 − 5) / 5 + 1 = 0"),
    "keras convolution": (keras.layers.Conv2D(4, 5), "(3 + 0 − 5) / 1 + 1 = −1"),
    "keras dilated convolution": (keras.layers.Conv2D(4, 3, dilation_rate=2), "(3 + 0 − 5) / 1 + 1 = −1"),
    "block": (partial(blocks.residual, filters=4, padding="valid"), "(1 + 0 − 3) / 1 + 1 = −1"),
    "block, numeric padding": (
        partial(conv, filters=4, kernel_size=9, padding=1),
        "(3 + 2 − 9) / 1 + 1 = −3",
    ),
    "depthwise": (
        partial(separable, filters=4, kernel_size=5, padding="valid"),
        "(3 + 0 − 5) / 1 + 1 = −1",
    ),
    "pooling branch": (
        partial(inception, branches=[[("mean", 5, 2)]], padding="valid"),
        "(3 + 0 − 5) / 2 + 1 = 0",
    ),
}


@pytest.mark.parametrize("kind", ARITHMETIC)
def test_a_map_that_shrinks_to_nothing_is_shown_with_stage_and_arithmetic(kind):
    function, arithmetic = ARITHMETIC[kind]
    stages = {"c3": partial(blocks.conv_norm_act, filters=4), "c4": [keras.layers.ReLU(), function]}
    with pytest.raises(ValueError) as error:
        build((3, 3, 4), stages)
    start = "build: stage 'c4', function 2 of 2, fails on a map of shape (None, 3, 3, 4). "
    assert str(error.value).startswith(f"{start}output_size: the kernel does not fit: {arithmetic}.")


def test_an_unknown_or_sufficient_size_is_no_error():
    stages = {"c1": [keras.layers.Conv2D(4, 5), keras.layers.Conv2DTranspose(4, 9), keras.layers.MaxPooling2D(2)]}
    assert build((None, None, 3), stages).output.shape == (None, None, None, 4)
    assert build((5, 6, 3), stages).output.shape == (None, 4, 5, 4)


class OwnLayer(keras.layers.Layer):
    kernel_size = (3, 3)

    def call(self, inputs):
        return inputs


def test_layers_that_are_no_simple_windows_are_left_to_keras():
    assert build((4, 4, 3), {"c1": OwnLayer()}).output.shape == (None, 4, 4, 3)
    recurrent = build((4, 8, 8, 3), {"c1": keras.layers.ConvLSTM2D(2, 3)})
    assert recurrent.output.shape == (None, 6, 6, 2)
    with pytest.raises(ValueError, match="expected min_ndim=4, found ndim=3"):
        build((9, 3), {"c1": keras.layers.Conv2D(2, 3)})


def test_a_shortcut_that_does_not_fit_is_shown_with_its_stage():
    stages = {"c1": [keras.layers.ReLU(), partial(blocks.bottleneck, filters=4, padding="valid")]}
    with pytest.raises(ValueError) as error:
        build((9, 9, 4), stages)
    assert str(error.value) == (
        "build: stage 'c1', function 2 of 2, fails on a map of shape (None, 9, 9, 4). bottleneck: shortcut "
        "(None, 9, 9, 4) and branch (None, 7, 7, 4) must have equal shapes to be added. Make the shortcut a projection "
        "with the strides of the branch, or pad the branch so that it keeps the map's size."
    )
    with pytest.raises(ValueError, match=r"build: stage 'c2', function 1 of 1, .* \(3, 3, 4\) and \(2, 2, 4\)"):
        build((3, 3, 4), {"c2": lambda x: keras.layers.Add()([x, keras.layers.MaxPooling2D(2, 1)(x)])})


def test_what_is_no_function_of_a_tensor_is_refused():
    for stages, text in (
        ({"c1": 3}, "build: stage 'c1', function 1 of 1, must be a function of a tensor. Received: 3."),
        ({"c1": lambda x: None}, "build: stage 'c1', function 1 of 1, must return a tensor. Received: None."),
    ):
        with pytest.raises(TypeError) as error:
            build((3, 3, 1), stages)
        assert str(error.value) == text
    with pytest.raises(TypeError, match=r"build: the head must be a function of a tensor\. Received: 'softmax'\."):
        build((3, 3, 1), {}, head="softmax")
    with pytest.raises(ValueError, match=r"attach: the head fails on a map of shape \(None, 3, 3, 1\)\. "):
        attach(build((3, 3, 1), {}), keras.layers.MaxPooling2D(4))


def test_any_error_names_the_stage():
    """The type of the error stays; the stage is a note, which tracebacks show."""
    for step in (partial(blocks.conv_norm_act, filter=8), lambda x: x.no_such_attribute, lambda x: {}["key"]):
        with pytest.raises((TypeError, AttributeError, KeyError)) as error:
            build((3, 3, 1), {"c1": [keras.layers.ReLU(), step]})
        note = "build: stage 'c1', function 2 of 2, fails on a map of shape (None, 3, 3, 1)."
        assert error.value.__notes__ == [note]


def test_a_class_of_layers_is_no_function_of_a_tensor():
    with pytest.raises(TypeError) as error:
        build((3, 3, 1), {"c1": keras.layers.ReLU})
    assert str(error.value) == (
        "build: stage 'c1', function 1 of 1, must be a function of a tensor. Received: the class ReLU. Use ReLU(...)."
    )


def test_stages_that_are_no_dict_of_names_are_refused():
    for stages in ([keras.layers.ReLU(name="relu")], {1: None}, {"": None}, {"a/b": None}):
        with pytest.raises(TypeError) as error:
            build((3, 3, 1), stages)
        assert str(error.value) == (
            'build: `stages` must be a dict from names (strings without "/") to functions of a tensor, or lists of them. '
            f"Received: stages={stages!r}."
        )


def test_names_that_occur_twice_are_explained():
    conv = partial(blocks.conv_norm_act, filters=2)
    start = "do not make one model: each layer needs its own name"
    for stages, twice in (
        ({"pool": conv}, "pool"),
        ({"image": conv}, "image"),
        ({"c1": conv, "c1_conv": conv}, "c1_conv"),
    ):
        with pytest.raises(ValueError, match=rf'build: stages and head {start}.* "{twice}" is used 2 times'):
            build((3, 3, 1), stages, heads.classification(2))
    with pytest.raises(ValueError, match=rf'attach: model and head {start}.* "pool" is used 2 times'):
        attach(build((3, 3, 1), {"pool": conv}), heads.classification(2))


def test_a_head_that_was_not_called_is_explained():
    for head in ("classification", "multi_label", "regression", "dense_prediction"):
        name = "units" if head == "regression" else "classes"
        with pytest.raises(TypeError) as error:
            build((3, 3, 1), {}, getattr(heads, head))
        assert (
            str(error.value)
            == f"{head}: `{name}` must be an integer. Received: a tensor. Make the head first: heads.{head}(10)."
        )
        assert error.value.__notes__ == ["build: the head fails on a map of shape (None, 3, 3, 1)."]
