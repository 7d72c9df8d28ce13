"""One contract for every block, then what each one computes."""

from functools import partial

import keras
import numpy as np
import pytest
from helpers.block_cases import CASES, INPUT, Case

from keras_cnn import blocks
from keras_cnn.layers import SqueezeExcite


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


@pytest.mark.parametrize("block", ["residual", "bottleneck", "inverted_residual"])
def test_stochastic_depth_leaves_out_the_whole_branch_of_a_sample(block):
    """Each sum is x or x + F(x) / (1 - rate), and both occur as often as the rate says."""
    model = make(Case("", partial(getattr(blocks, block), filters=6, stochastic_depth=0.25, norm=None), (), 0))
    model = keras.Model(model.input, model.get_layer("block_add").output)
    x = images(64, *INPUT)
    kept = x + (infer(model, x) - x) / 0.75
    y = keras.ops.convert_to_numpy(model(x, training=True))
    is_dropped = np.isclose(y, x, atol=1e-4).all((1, 2, 3))
    is_kept = np.isclose(y, kept, atol=1e-4).all((1, 2, 3))
    assert (is_dropped ^ is_kept).all()
    assert 3 < is_dropped.sum() < 31  # 64 draws at a quarter: outside by chance once in 20,000


def test_one_as_a_list_of_strides_is_one():
    """As read from JSON: no projection, and the sum stays."""
    x = keras.Input(INPUT)
    for block in (blocks.residual, blocks.bottleneck, blocks.inverted_residual):
        names = [layer.name for layer in keras.Model(x, block(x, 6, strides=[1, 1], name="block")).layers]
        assert "block_add" in names
        assert "block_shortcut_conv" not in names


def test_squeeze_excite_weighs_what_the_depthwise_convolution_has_activated():
    """arXiv:1905.02244, figure 4: y = P (z * gate(z)) with z = a(D x), gate(z) = sigmoid(W2 relu(W1 mean(z)))."""
    squeeze = partial(SqueezeExcite, ratio=1)
    block = partial(blocks.inverted_residual, filters=2, kernel_size=1, expansion=1, squeeze_excite=squeeze, norm=None)
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, block(inputs))
    depthwise, depthwise_bias, w1, b1, w2, b2, project, project_bias = rest = [
        np.random.default_rng(i).normal(size=weight.shape) for i, weight in enumerate(model.weights)
    ]
    model.set_weights(rest)
    x = images(4, 2, 2, 3)
    z = np.clip(x * depthwise.ravel() + depthwise_bias, 0, 6)
    gate = 1 / (1 + np.exp(-(np.maximum(z.mean((1, 2)) @ w1 + b1, 0) @ w2 + b2)))
    expected = (z * gate[:, None, None]) @ project[0, 0] + project_bias
    np.testing.assert_allclose(infer(model, x), expected, atol=1e-5)


def test_inception_concatenates_its_branches_in_order():
    x = images(1, 3, 3, 1)
    inputs = keras.Input((3, 3, 1))
    y = blocks.inception(inputs, [[], [("max", 3)], [("min", 3)], [("mean", 3)]])
    centre = infer(keras.Model(inputs, y), x)[0, 1, 1]
    np.testing.assert_allclose(centre, [x[0, 1, 1, 0], x.max(), x.min(), x.mean()], rtol=1e-6)


def test_each_convolution_of_inception_is_activated():
    """A kernel of ones on 1 -2 / 3 -4: relu(x), then the sum of what is positive."""
    inputs = keras.Input((2, 2, 1))
    y = blocks.inception(inputs, [[(1, 1)], [(1, 1), (1, 3)], [(1, 3)]], norm=None, kernel_initializer="ones")
    result = infer(keras.Model(inputs, y), np.array([1, -2, 3, -4], "float32").reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(result[0], [[[1, 4, 0], [0, 4, 0]], [[3, 4, 0], [0, 4, 0]]])


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


def test_resizing_interpolates_as_it_is_told():
    """Half-pixel centres, by hand: 0 4 becomes 0 0 4 4, or 0 1 3 4; ReLU then stops what is negative."""
    inputs = keras.Input((1, 2, 1))
    x = np.array([0, 4], "float32").reshape(1, 1, 2, 1)
    for resize, expected in (("nearest", [0, 0, 4, 4]), ("bilinear", [0, 1, 3, 4])):
        y = blocks.upsample(inputs, 1, resize=resize, kernel_size=1, norm=None, kernel_initializer="ones")
        model = keras.Model(inputs, y)
        np.testing.assert_allclose(infer(model, x)[0, ..., 0], [expected] * 2, atol=1e-6)
        assert infer(model, -x).max() == 0


def test_upsample_activates_and_puts_the_skip_first():
    """arXiv:1505.04597, figure 1: the copied map stands left of the up-convolved one."""
    inputs = [keras.Input((1, 1, 1)), keras.Input((2, 2, 1))]
    y = blocks.upsample(inputs[0], 1, skip=inputs[1], norm=None, kernel_initializer="ones")
    model, skip = keras.Model(inputs, y), np.full((1, 2, 2, 1), -5, "float32")
    for value, expected in ((2, 2), (-3, 0)):
        result = infer(model, [np.full((1, 1, 1, 1), value, "float32"), skip])
        np.testing.assert_array_equal(result, np.broadcast_to([-5, expected], (1, 2, 2, 2)))


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
    # Whether or not there is a sum.
    assert _error(blocks.inverted_residual, 8, stochastic_depth=-1) == (
        "inverted_residual: `stochastic_depth` must be a number in [0, 1). Received: stochastic_depth=-1."
    )
    assert _error(blocks.residual, 8, strides=(1, 2, 1)) == (
        "residual: `strides` must be an integer of at least 1, or 2 of them. Received: strides=(1, 2, 1)."
    )
    assert _error(blocks.bottleneck, 8, width=0) == (
        "bottleneck: `width` must be an integer of at least 1. Received: width=0."
    )
    assert _error(blocks.bottleneck, 3) == (
        "bottleneck: `filters` must be an integer of at least 4. Received: filters=3."
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
    for branch in ((4, 3), ("min", 3), keras.layers.ReLU(name="relu"), 4):
        assert _error(blocks.inception, [[(4, 1)], branch]) == (
            "inception: a branch must be a list of steps, such as [(96, 1), (128, 3)]. "
            f"Received: {branch!r} as branch 2."
        )
    for step in (("average", 3), ([4], 3), (4,), 4, "max"):
        assert _error(blocks.inception, [[step]]) == (
            "inception: a step must be (filters, kernel_size), (filters, kernel_size, strides), the same with 'max', "
            f"'min' or 'mean' for filters, or a function of a tensor. Received: {step!r}."
        )


def test_pooling_branches_take_no_numeric_padding():
    expected = "inception: `padding` must be 'same' or 'valid' where a branch pools. Received: padding=1."
    assert _error(blocks.inception, [[(4, 3)], [("max", 3)]], padding=1) == expected
    y = blocks.inception(keras.Input(INPUT), [[(4, 3)], [(4, 1), (2, 3)]], padding=1)
    assert y.shape == (None, 9, 11, 6)


def test_what_a_depthwise_or_transposed_convolution_cannot_do_is_refused_by_name():
    for block in (blocks.depthwise_separable, blocks.inverted_residual):
        name = block.__name__
        assert _error(block, 6, groups=2) == (
            f"{name}: `groups` must be left out. Received: groups=2. A depthwise convolution does not have it."
        )
        assert _error(block, 6, padding=1, padding_mode="reflect") == (
            f"{name}: `padding_mode` must be left out. Received: padding_mode='reflect'. "
            "A depthwise convolution does not have it."
        )
        assert _error(block, 6, padding=-1).startswith(f"{name}: `padding` must be ")
    assert _error(blocks.upsample, 6, groups=2) == (
        "upsample: `groups` must be left out. Received: groups=2. A transposed convolution does not have it."
    )
    for options in ({"padding": 1}, {"padding": "valid", "resize": "nearest"}):
        assert _error(blocks.upsample, 6, **options) == (
            "upsample: `padding` must be 'same', for a map of exactly `scale` times the size. "
            f"Received: padding={options['padding']!r}."
        )


def test_upsample_takes_no_strides_beside_its_scale():
    for resize in (None, "nearest"):
        with pytest.raises(TypeError, match="multiple values for argument 'strides'"):
            blocks.upsample(keras.Input(INPUT), 6, resize=resize, strides=2)


def test_what_makes_no_layer_is_refused_by_name():
    layer = keras.layers.BatchNormalization(name="bn")
    for norm in ("batch", layer):
        for block in (blocks.conv_norm_act, blocks.residual, blocks.upsample, blocks.inverted_residual):
            assert _error(block, 6, norm=norm) == (
                "conv_norm_act: `norm` must be a class of layers, or a function that makes a layer. "
                f"Received: norm={norm!r}. keras.layers.BatchNormalization is one; None leaves it out."
            )
    assert _error(blocks.inverted_residual, 6, squeeze_excite=4) == (
        "inverted_residual: `squeeze_excite` must be a class of layers, or a function that makes a layer. "
        "Received: squeeze_excite=4. functools.partial(kc.layers.SqueezeExcite, ratio=4) is one; None leaves it out."
    )


def test_upsample_refuses_a_skip_of_another_size():
    assert _error(blocks.upsample, 8, skip=keras.Input((18, 21, 3))) == (
        "upsample: the enlarged map (None, 18, 22, 8) and `skip` (None, 18, 21, 3) must have equal height and width. "
        "Choose an input size that the product of all strides divides."
    )
