"""Stages are found in the graph: by stride, at the tensors through which all paths pass."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_cnn as kc
from keras_cnn import surgery
from keras_cnn.backbones.staging import with_stage_markers

pytestmark = pytest.mark.any_backend

BRANCHES = [[(8, 1)], [(4, 1), (8, 3)], [("max", 3), (8, 1)]]


def same(x):
    return x


def stages_of(model, size=(64, 64)):
    """The model with stage markers, and (name, stride, channels) of its stages."""
    new, stages = with_stage_markers(model, size, same)
    return new, [(stage.name, stage.stride, stage.channels) for stage in stages]


def model_of(*functions, size=(64, 64)):
    """A model from functions of a tensor."""
    x = inputs = keras.Input((*size, 3))
    for function in functions:
        x = function(x)
    return keras.Model(inputs, x)


def halved(filters, **kwargs):
    return layers.Conv2D(filters, 3, 2, padding="same", **kwargs)


def test_the_network_computes_the_same_with_the_same_layers():
    blocks = [partial(kc.blocks.residual, filters=8), partial(kc.blocks.residual, filters=16, strides=2)]
    model = kc.build((64, 64, 3), {"a": blocks, "b": [partial(kc.blocks.residual, filters=24, strides=2)]})
    x = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    before, owned = model(x), model.layers[1:]
    new, _ = with_stage_markers(model, None, lambda image: layers.Rescaling(0.5)(image) * 2)
    np.testing.assert_allclose(new(x), before, rtol=1e-5)
    kept = [layer for layer in owned if layer in new.layers]
    assert len(kept) == len(owned)  # the very same, with the weights that were loaded
    assert all(layer.output is surgery.output_of(new, layer.name) for layer in new.layers)


def test_the_network_can_be_split_at_every_stage():
    blocks = kc.blocks
    network = kc.build(
        (64, 64, 3),
        {
            "a": partial(blocks.conv_norm_act, filters=8, strides=2),
            "b": [partial(blocks.inverted_residual, filters=12, strides=2), partial(blocks.bottleneck, filters=12)],
            "c": [partial(blocks.bottleneck, filters=16, strides=2), partial(blocks.inception, branches=BRANCHES)],
            "d": partial(blocks.depthwise_separable, filters=24, strides=2),
        },
    )
    model, stages = stages_of(network)
    assert [stride for _, stride, _ in stages] == [2, 4, 8, 16]
    x = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    whole = ops.convert_to_numpy(model(x))
    for name, stride, channels in stages[:-1]:
        front, rest = surgery.split(model, name)
        assert front.output_shape == (None, 64 // stride, 64 // stride, channels)
        np.testing.assert_allclose(rest(front(x)), whole, rtol=1e-4, atol=1e-5)
    again, same_stages = stages_of(model)  # existing markers are replaced by the same ones
    assert same_stages == stages
    np.testing.assert_allclose(again(x), whole, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Sandler et al., 2018, arXiv:1801.04381, table 2: c of the rows before each stride of 2, and of the last.
        (
            "MobileNetV2",
            [("stage1", 2, 16), ("stage2", 4, 24), ("stage3", 8, 32), ("stage4", 16, 96), ("stage5", 32, 1280)],
        ),
        # Simonyan & Zisserman, 2014, arXiv:1409.1556, table 1, D: what is before each of the poolings.
        (
            "VGG16",
            [("stage1", 2, 128), ("stage2", 4, 256), ("stage3", 8, 512), ("stage4", 16, 512), ("stage5", 32, 512)],
        ),
    ],
)
def test_published_networks_have_the_stages_of_their_papers(name, expected):
    network = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(None, None, 3))
    model, stages = stages_of(network, size=(None, None))
    assert stages == expected
    assert model.output_shape == (None, None, None, expected[-1][2])


def test_padding_before_the_next_stage_is_not_part_of_this_one():
    _, stages = stages_of(model_of(halved(8, name="end"), layers.ZeroPadding2D(3), layers.Conv2D(8, 3, 2)))
    model, _ = stages_of(model_of(halved(8, name="end"), layers.ZeroPadding2D(3), layers.Conv2D(8, 3, 2)))
    assert stages == [("stage1", 2, 8), ("stage2", 4, 8)]
    assert surgery.output_of(model, "stage1").shape == (None, 32, 32, 8)


def test_the_second_half_of_a_separable_convolution_is_no_expansion():
    # As in MobileNet (arXiv:1704.04861): 1 x 1 convolution, normalisation and ReLU also stand before a depthwise stride.
    separable = kc.blocks.depthwise_separable
    blocks = (
        partial(separable, filters=8, strides=2),
        partial(separable, filters=16),
        partial(separable, filters=24, strides=2),
    )
    assert stages_of(model_of(*blocks))[1] == [("stage1", 2, 16), ("stage2", 4, 24)]


def test_a_gate_over_the_whole_map_opens_no_stage():
    def gated(x):
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return x * layers.Conv2D(8, 1, activation="sigmoid")(gate)

    def gated_by_operations(x):
        return x * ops.sigmoid(ops.mean(x, axis=(1, 2), keepdims=True))

    for gate in (gated, gated_by_operations):
        assert stages_of(model_of(halved(8), gate, halved(8)))[1] == [("stage1", 2, 8), ("stage2", 4, 8)]


def test_strides_other_than_two_and_networks_that_begin_with_four():
    patches = layers.Conv2D(8, 4, 4)
    assert stages_of(model_of(patches, halved(12)))[1] == [("stage2", 4, 8), ("stage3", 8, 12)]
    thirds = model_of(layers.Conv2D(8, 3, 3), layers.MaxPooling2D(3), size=(63, 63))
    assert stages_of(thirds, (63, 63))[1] == [("stage1", 3, 8), ("stage3", 9, 8)]


def test_the_stride_of_layers_without_strides_comes_from_their_shapes():
    class Halves(layers.Layer):
        def call(self, x):
            return ops.concatenate([ops.max_pool(x, 2), ops.average_pool(x, 2)], -1)

        def compute_output_shape(self, shape):
            return (shape[0], *(side and side // 2 for side in shape[1:3]), 2 * shape[3])

    expected = [("stage1", 2, 8), ("stage2", 4, 16)]
    assert stages_of(model_of(halved(8), Halves()))[1] == expected
    assert stages_of(model_of(halved(8), Halves(), size=(None, None)), (None, None))[1] == expected
    assert stages_of(model_of(halved(8), lambda x: x[:, ::2, ::2]))[1] == [("stage1", 2, 8), ("stage2", 4, 8)]


def test_nested_models_count_as_one_call_and_upsampling_halves_the_stride():
    stem = keras.Sequential([keras.Input((64, 64, 3)), halved(8), halved(8)])
    up = layers.UpSampling2D(2)
    assert stages_of(model_of(stem, halved(12), halved(12), up))[1] == [("stage2", 4, 8), ("stage3", 8, 12)]


def test_a_layer_that_is_used_twice_ends_a_stage_once():
    act = layers.ReLU()
    model, stages = stages_of(model_of(halved(8), act, halved(8), act))
    assert stages == [("stage1", 2, 8), ("stage2", 4, 8)]
    assert surgery.output_of(model, "stage1").shape == (None, 32, 32, 8)


def test_where_parallel_paths_never_join_it_is_the_tensor_with_the_fewest_parallel_calls():
    # As in NASNet, each cell takes the outputs of the two before it: after the stem no tensor is on all paths.
    def cell(now, before, name, strides=1):
        before = layers.Conv2D(8, 1, before.shape[1] // now.shape[1] * strides)(before)
        return layers.Concatenate(name=name)([layers.Conv2D(8, 1, strides)(now), before])

    image = keras.Input((64, 64, 3))
    stem = layers.Conv2D(8, 3, padding="same")(image)
    one = cell(stem, stem, "one", strides=2)
    two = cell(one, stem, "two")
    three = cell(two, one, "three", strides=2)
    four = cell(three, two, "four")
    model, stages = stages_of(keras.Model(image, layers.ReLU()(four)))
    assert stages == [("stage1", 2, 16), ("stage2", 4, 16)]
    assert model.get_layer("stage1").input is model.get_layer("two").output


@pytest.mark.parametrize(
    "head",
    [
        lambda x: layers.GlobalAveragePooling2D()(x),
        lambda x: layers.Flatten()(layers.GlobalMaxPooling2D(keepdims=True)(x)),
        lambda x: layers.Dense(4)(layers.Flatten()(x)),
        lambda x: ops.mean(x, axis=(1, 2)),
        lambda x: layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]),
    ],
)
def test_a_head_is_dropped(head):
    model, stages = stages_of(model_of(halved(8), halved(12, name="last"), head))
    assert stages == [("stage1", 2, 8), ("stage2", 4, 12)]
    assert model.output_shape == (None, 16, 16, 12)
    assert model.layers[-2].name == "last"


def two_scales(x):
    deeper = halved(8, name="deeper")(x)
    return layers.Concatenate()([layers.GlobalAveragePooling2D()(y) for y in (x, deeper)])


REFUSED = {
    "parallel maps": ([halved(8), two_scales], "the last one goes into 'deeper'"),
    "no map after the patches": (
        [layers.Conv2D(8, 16, 16), layers.Reshape((16, 8))],
        "the last one goes into 'reshape",
    ),
    "no map but the image": (
        [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)],
        "must be a network that computes feature maps; this has none",
    ),
    "no map at all": ([layers.Flatten()], "must be a network that computes feature maps; this has none"),
    "other strides": (
        [layers.Conv2D(8, 3, (2, 1), name="odd")],
        "height and width alike. Received: 'odd' with strides",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_networks_without_stages_are_refused_in_one_sentence(case):
    functions, message = REFUSED[case]
    with pytest.raises(ValueError, match="load_backbone: ") as caught:
        stages_of(model_of(*functions))
    assert message in str(caught.value)


def test_sizes_that_the_layers_cannot_take_are_refused_in_one_sentence():
    model = model_of(halved(8), halved(8), lambda x: layers.Conv2D(8, 16)(x))
    with pytest.raises(ValueError, match=r"must be a network that takes images of 32 x 32; Keras says: .*\.$"):
        with_stage_markers(model, (32, 32), same)


def test_maps_that_never_fit_are_refused_in_one_sentence():
    def misfit(x):
        return layers.Add()([layers.Conv2D(8, 3, 2)(x), layers.Conv2D(8, 1, 2)(x)])

    said = r"Keras says: [ -~]+ shapes \(127, 127, 8\) and \(128, 128, 8\)\.$"
    expected = rf"^load_backbone: '\w+' must be a network that takes images of 256 x 256; {said}"
    with pytest.raises(ValueError, match=expected):
        stages_of(model_of(misfit, size=(None, None)), (None, None))


def test_an_input_and_an_output_in_lists_are_accepted():
    inputs = keras.Input((64, 64, 3))
    model, stages = stages_of(keras.Model([inputs], [halved(8)(inputs)]))
    assert stages == [("stage1", 2, 8)]
    assert model.output.shape == (None, 32, 32, 8)


def test_several_inputs_or_outputs_are_refused():
    inputs = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    y = layers.Add()(inputs)
    for model, counts in (
        (keras.Model(inputs, y), "2 and 1"),
        (keras.Model(inputs[0], [inputs[0] * 2] * 2), "1 and 2"),
    ):
        with pytest.raises(ValueError, match=f"one input, of images, and one output; this has {counts}"):
            with_stage_markers(model, None, same)
