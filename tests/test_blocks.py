"""One contract for every block, then what each one computes."""

from functools import partial

import keras
import numpy as np
import pytest
from block_cases import CASES, INPUT, Case

from keras_cnn import blocks


def make(case: Case, shape=INPUT, **options) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    return keras.Model(inputs, case.function(inputs, name="block", **options))


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def infer(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def randomise(model):
    """Weights as after training: batch normalisation with its first statistics would hide mistakes."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "seed" not in weight.path:
            low = 0.5 if "variance" in weight.path else -0.5
            weight.assign(rng.uniform(low, 1.5 if "variance" in weight.path else 0.5, weight.shape))


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


def test_every_public_block_has_a_case():
    assert {case.block for case in CASES.values()} == set(blocks.__all__)


def test_shape_parameters_and_names(case):
    model = make(case)
    assert model.output.shape == (None, *case.shape)
    # The state of a dropout's seed is a weight in Keras; it is no parameter of the network.
    assert sum(int(np.prod(w.shape)) for w in model.weights if "seed" not in w.path) == case.parameters
    assert all(w.path.startswith(("block", "seed")) for w in model.weights)
    assert infer(model, images(2, *INPUT)).shape == (2, *case.shape)


def test_unknown_sizes_give_the_same_numbers(case):
    fixed, free = make(case), make(case, (None, None, INPUT[-1]))
    free.set_weights(fixed.get_weights())
    x = images(2, *INPUT)
    np.testing.assert_allclose(infer(free, x), infer(fixed, x), atol=1e-6)


def test_one_training_step_changes_every_weight(case):
    model = make(case)
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.train_on_batch(images(4, *INPUT), images(4, *case.shape, seed=1))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert not np.array_equal(keras.ops.convert_to_numpy(weight), old), weight.path


def test_a_saved_block_gives_the_same_numbers(case, tmp_path):
    model = make(case)
    randomise(model)
    model.save(tmp_path / "block.keras")
    x = images(2, *INPUT)
    np.testing.assert_array_equal(infer(keras.saving.load_model(tmp_path / "block.keras"), x), infer(model, x))


def test_channels_first_gives_the_same_numbers(case, request):
    last = make(case)
    randomise(last)
    request.getfixturevalue("channels_first")
    first = make(case, (INPUT[-1], *INPUT[:-1]))
    first.set_weights(last.get_weights())
    x = images(2, *INPUT)
    result = infer(first, x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(result, infer(last, x), atol=1e-5)


def test_half_precision_computes_in_half_and_keeps_weights_in_float32(case):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make(case)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.output.dtype == "bfloat16"
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}


def test_blocks_without_names_can_be_repeated():
    x = keras.Input(INPUT)
    y = blocks.residual(blocks.residual(x, 6), 6)
    assert len({layer.name for layer in keras.Model(x, y).layers}) == 1 + 2 * 7


# What the blocks compute


def test_separable_without_intermediate_equals_keras_separable_convolution():
    ours = make(
        Case("", partial(blocks.depthwise_separable, filters=8, intermediate=False), (), 0), norm=None, activation=None
    )
    inputs = keras.Input(INPUT)
    theirs = keras.Model(inputs, keras.layers.SeparableConv2D(8, 3, padding="same")(inputs))
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    x = images(2, *INPUT)
    np.testing.assert_allclose(infer(ours, x), infer(theirs, x), atol=1e-6)


@pytest.mark.parametrize("block", ["residual", "bottleneck", "inverted_residual"])
def test_a_branch_of_zeros_leaves_the_input(block):
    """The identity path of arXiv:1512.03385, eq. 1: y = relu(x) with ReLU behind the sum, y = x without."""
    x = images(2, *INPUT)
    forms = [({}, x)] if block == "inverted_residual" else [({}, np.maximum(x, 0)), ({"preactivate": True}, x)]
    for options, expected in forms:
        model = make(Case(block, partial(getattr(blocks, block), filters=INPUT[-1]), (), 0), **options)
        for weight in model.weights:
            if "kernel" in weight.path:
                weight.assign(np.zeros(weight.shape))
        np.testing.assert_array_equal(infer(model, x), expected)


def test_preactivation_normalises_before_each_convolution_and_not_behind_the_sum():
    """arXiv:1603.05027, figure 4e."""
    model = make(CASES["bottleneck_preactivated"])
    branch = [layer.name.removeprefix("block_") for layer in model.layers[1:] if "shortcut" not in layer.name]
    unit = ["pre_norm", "pre_act", "1_conv", "1_norm", "1_act", "2_conv", "2_norm", "2_act", "3_conv", "add"]
    assert branch == unit
    # The authors' code: where the shape changes, the shortcut starts behind the first activation.
    assert model.get_layer("block_shortcut_conv").input is model.get_layer("block_pre_act").output


def test_the_stride_sits_where_it_is_asked_for():
    for stride_in, expected in (("3x3", [1, 2, 1]), ("1x1", [2, 1, 1])):
        model = make(Case("", partial(blocks.bottleneck, filters=8, strides=2, stride_in=stride_in), (), 0))
        assert [model.get_layer(f"block_{i}_conv").strides[0] for i in (1, 2, 3)] == expected


def test_stochastic_depth_leaves_out_the_whole_branch_of_a_sample():
    """Each sample is relu(x) or relu(x + F(x) / (1 - rate)), and both occur."""
    model = make(Case("", partial(blocks.residual, filters=6, stochastic_depth=0.5, norm=None), (), 0))
    x = images(64, *INPUT)
    dropped, kept = np.maximum(x, 0), np.maximum(2 * _sum_before_activation(model, x) - x, 0)
    y = keras.ops.convert_to_numpy(model(x, training=True))
    is_dropped = np.isclose(y, dropped, atol=1e-4).all((1, 2, 3))
    is_kept = np.isclose(y, kept, atol=1e-4).all((1, 2, 3))
    assert (is_dropped ^ is_kept).all()
    assert 16 < is_dropped.sum() < 48  # 64 draws at one half: outside by chance once in 20,000


def _sum_before_activation(model, x):
    return infer(keras.Model(model.input, model.get_layer("block_add").output), x)


def test_inception_concatenates_its_branches_in_order():
    x = images(1, 3, 3, 1)
    inputs = keras.Input((3, 3, 1))
    y = blocks.inception(inputs, [[], [("max", 3)], [("min", 3)], [("mean", 3)]])
    centre = infer(keras.Model(inputs, y), x)[0, 1, 1]
    np.testing.assert_allclose(centre, [x[0, 1, 1, 0], x.max(), x.min(), x.mean()], rtol=1e-6)


def test_inception_3a_has_the_parameters_of_the_papers_table():
    """arXiv:1409.4842, table 1: 159K (of 1024, cut); later rows of the table contradict their own filter numbers."""
    inputs = keras.Input((28, 28, 192))
    y = blocks.inception(inputs, [[(64, 1)], [(96, 1), (128, 3)], [(16, 1), (32, 5)], [("max", 3), (32, 1)]], norm=None)
    assert keras.Model(inputs, y).count_params() // 1024 == 159
    assert y.shape == (None, 28, 28, 256)


def test_transposed_convolution_of_ones_repeats_each_pixel():
    inputs = keras.Input((2, 3, 1))
    y = blocks.upsample(inputs, 1, norm=None, activation=None, kernel_initializer="ones")
    x = images(1, 2, 3, 1)
    np.testing.assert_allclose(infer(keras.Model(inputs, y), x)[0, ..., 0], np.kron(x[0, ..., 0], np.ones((2, 2))))


def test_options_reach_every_convolution_and_the_window_only_the_large_ones():
    arguments = {"kernel_regularizer": "l2", "dilation_rate": 2}
    x = keras.Input(INPUT)
    for block in (blocks.residual, blocks.bottleneck, blocks.depthwise_separable, blocks.inverted_residual):
        convolutions = [
            layer for layer in keras.Model(x, block(x, 8, **arguments)).layers if hasattr(layer, "kernel_size")
        ]
        assert len(convolutions) >= 2
        for layer in convolutions:
            kind = "depthwise" if isinstance(layer, keras.layers.DepthwiseConv2D) else "kernel"
            assert isinstance(getattr(layer, f"{kind}_regularizer"), keras.regularizers.L2), layer.name
            assert layer.dilation_rate == ((2, 2) if layer.kernel_size == (3, 3) else (1, 1)), layer.name


# Errors


def _error(function, *args, **kwargs):
    with pytest.raises(ValueError) as caught:  # the text is compared whole where it is used
        function(keras.Input(INPUT), *args, **kwargs)
    return str(caught.value)


def test_a_shortcut_that_does_not_fit_is_shown_with_both_shapes():
    assert _error(blocks.residual, 8, shortcut="identity") == (
        "residual: shortcut (None, 9, 11, 6) and branch (None, 9, 11, 8) must have equal shapes to be added. Make the "
        "shortcut a projection with the strides of the branch, or pad the branch so that it keeps the map's size."
    )
    for block in (blocks.bottleneck, blocks.inverted_residual):
        text = _error(block, 6, padding="valid")
        assert text.startswith(
            f"{block.__name__}: shortcut (None, 9, 11, 6) and branch (None, 7, 9, 6) must have equal shapes"
        )


def test_arguments_that_cannot_be_are_refused():
    assert _error(blocks.bottleneck, 8, stride_in="5x5") == (
        "bottleneck: `stride_in` must be one of '3x3', '1x1'. Received: stride_in='5x5'."
    )
    assert _error(blocks.residual, 8, shortcut="none") == (
        "residual: `shortcut` must be one of None, 'identity', 'projection'. Received: shortcut='none'."
    )
    assert (
        _error(blocks.residual, 8, layers=0)
        == "residual: `layers` must be an integer of at least 1. Received: layers=0."
    )
    assert _error(blocks.residual, 8, stochastic_depth=1) == (
        "residual: `stochastic_depth` must be a number in [0, 1). Received: stochastic_depth=1."
    )
    assert _error(blocks.upsample, 8, 1) == "upsample: `scale` must be an integer of at least 2. Received: scale=1."
    assert _error(blocks.upsample, 8, resize="cubic") == (
        "upsample: `resize` must be one of None, 'nearest', 'bilinear'. Received: resize='cubic'."
    )
    assert (
        _error(blocks.residual, 8, colour="red") == "Unrecognized keyword arguments passed to Conv2D: {'colour': 'red'}"
    )


def test_inception_refuses_branches_that_do_not_meet_and_steps_it_cannot_read():
    assert _error(blocks.inception, [[(4, 3, 2)], [(4, 3)]]) == (
        "inception: the branches must end in maps of one size. Received: (None, 5, 6, 4), (None, 9, 11, 4). Let "
        "the strides of each branch multiply up to the same, and pad all of them alike."
    )
    assert "Received: no branches." in _error(blocks.inception, [])
    for step in (("average", 3), ([4], 3), (4,), 4, "max"):
        assert _error(blocks.inception, [[step]]) == (
            "inception: a step must be (filters, kernel_size), (filters, kernel_size, strides), the same with 'max', "
            f"'min' or 'mean' for filters, or a function of a tensor. Received: {step!r}."
        )


def test_upsample_refuses_a_skip_of_another_size():
    assert _error(blocks.upsample, 8, skip=keras.Input((18, 21, 3))) == (
        "upsample: the enlarged map (None, 18, 22, 8) and `skip` (None, 18, 21, 3) must have equal height and width. "
        "Choose an input size that the product of all strides divides."
    )
