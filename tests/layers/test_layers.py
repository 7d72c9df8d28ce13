"""One contract for every public layer; `tests/helpers/cases.py` holds the table."""

import doctest
import importlib
import inspect
import json

import keras
import numpy as np
import pytest
from helpers.block_cases import CASES as BLOCK_CASES
from helpers.cases import CASES
from keras import ops

from keras_cnn import blocks, layers

pytestmark = pytest.mark.any_backend

on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow makes SavedModels")


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def numbers(shape):
    return np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")


def compiled(model, **kwargs):
    """`model` for a loss that reaches every output with a gradient other than 0."""
    losses = [lambda _, y: ops.mean(ops.square(y - 1))] * len(model.outputs)
    model.compile(keras.optimizers.SGD(0.5), losses if len(losses) > 1 else losses[0], **kwargs)
    return model


def test_the_tables_hold_every_public_name():
    """A new public layer or block is not done until it stands in a table of cases."""
    with_tests_of_its_own = {"HubLayer"}  # it wraps files
    assert {case.name for case in CASES.values()} == set(layers.__all__) - with_tests_of_its_own
    assert {case.block for case in BLOCK_CASES.values()} == set(blocks.__all__)


def test_config_holds_every_argument_and_makes_the_same_layer(case):
    layer = case.make(dtype="mixed_bfloat16", name="named")
    config = layer.get_config()
    classes = type(layer).__mro__[: type(layer).__mro__.index(keras.layers.Layer)]
    signatures = [inspect.signature(vars(c)["__init__"]).parameters for c in classes if "__init__" in vars(c)]
    expected = {p.name for s in signatures for p in s.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    hidden = {"self", "rank", "pool_dimensions", "pool_mode", "lora_rank", "lora_alpha"}  # of Keras' base classes
    assert expected - hidden <= set(config)
    assert type(layer).from_config(config).get_config() == config
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    revived = keras.saving.deserialize_keras_object(json.loads(text))
    assert json.dumps(keras.saving.serialize_keras_object(revived)) == text
    assert (revived.name, revived.dtype_policy.name) == ("named", "mixed_bfloat16")


@pytest.mark.parametrize("name", ["adjoint", "attention", "convolution", "pooling", "regularization"])
def test_examples(name):
    module = importlib.import_module(f"keras_cnn.layers.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_build_makes_all_weights(case):
    layer = case.make()
    layer.build((None, *case.shape))
    weights = [id(w) for w in layer.trainable_weights]
    layer(numbers(case.shape))
    assert [id(w) for w in layer.trainable_weights] == weights


def test_output_shape_is_the_real_one(case):
    layer = case.make()
    rank = len(case.shape) - 1
    sizes = [case.shape[:-1]]
    if case.any_size:
        sizes += [(8, 8, 8)[:rank], (9, 7, 6)[:rank], (6, 9, 7)[:rank]]
        unknown = keras.Input((*[None] * rank, case.shape[-1]))
        model = keras.Model(unknown, layer(unknown))
        assert layer.compute_output_shape(unknown.shape) == model.output_shape
    for size in sizes:
        shape = (*size, case.shape[-1])
        result = tuple(layer(numbers(shape)).shape)
        assert tuple(layer.compute_output_shape((2, *shape))) == result
        assert tuple(layer.compute_output_shape((None, *shape))) == (None, *result[1:])
        if case.any_size:
            assert all(known in (None, real) for known, real in zip(model.output_shape, result, strict=True))
            assert tuple(model(numbers(shape)).shape) == result


def test_gradients_reach_every_weight(case):
    """One step moves the layer's own weights, and those of the layer before it."""
    before = keras.layers.Dense(case.shape[-1])
    model = keras.Sequential([keras.Input(case.shape), before, case.make()])
    old = [ops.convert_to_numpy(w) for w in model.trainable_weights]
    x = np.repeat(numbers(case.shape), 4, 0)
    compiled(model, run_eagerly=True).train_on_batch(x, np.zeros(len(x)))
    moved = [np.abs(ops.convert_to_numpy(w) - o).max() for w, o in zip(model.trainable_weights, old, strict=True)]
    assert min(moved) > 0


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16"])
def test_dtype_policies(case, policy):
    """Half precision keeps 8 or 11 bits: results stay near those of float32."""
    if case.name == "MinPooling3D" and policy != "mixed_bfloat16" and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no MaxPool3D of float16 on CPU; keras.layers.MaxPooling3D cannot either")
    x = numbers(case.shape)
    reference, layer = case.make(), case.make(dtype=policy)
    expected = ops.convert_to_numpy(reference(x))
    layer.build((None, *case.shape))
    layer.set_weights(reference.get_weights())
    result = layer(x)
    policy = keras.DTypePolicy(policy)
    assert keras.backend.standardize_dtype(result.dtype) == policy.compute_dtype
    if case.make.func.__name__ != "_adjoint":  # whose weights are the convolution's
        assert {w.dtype for w in layer.trainable_weights} <= {policy.variable_dtype}
    result = ops.convert_to_numpy(ops.cast(result, "float32"))
    np.testing.assert_allclose(result, expected, atol=0.02 * max(1, np.abs(expected).max()))


def test_channels_first_is_channels_last_transposed(case):
    if not case.has_data_format:
        pytest.skip("has no data_format")
    last, first = case.make(data_format="channels_last"), case.make(data_format="channels_first")
    x = numbers(case.shape)
    expected = ops.convert_to_numpy(last(x))
    turned = np.moveaxis(x, -1, 1)
    first.build(turned.shape)
    first.set_weights(last.get_weights())
    result = ops.convert_to_numpy(first(turned))
    assert tuple(first.compute_output_shape(turned.shape)) == result.shape
    np.testing.assert_allclose(result if expected.ndim == 2 else np.moveaxis(result, 1, -1), expected, atol=1e-5)


def test_saved_and_loaded_is_equal(case, tmp_path):
    model = keras.Sequential([keras.Input(case.shape), case.make()])
    model.save(tmp_path / "model.keras")
    x = numbers(case.shape)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(model(x)))


@pytest.fixture(scope="module")
def all_layers():
    """Every case as a branch of one model: {shape: input} -> {case: output}."""
    inputs = {shape: keras.Input(shape, name="_".join(map(str, shape))) for shape in {c.shape for c in CASES.values()}}
    outputs = [case.make(name=name)(inputs[case.shape]) for name, case in CASES.items()]
    x = {inputs[shape].name: numbers(shape) for shape in inputs}
    return keras.Model({i.name: i for i in inputs.values()}, outputs), x


@pytest.mark.slow
@on_tensorflow
def test_exported_is_equal(all_layers, tmp_path):
    import tensorflow as tf

    model, x = all_layers
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    for name, expected, result in zip(CASES, model(x), loaded.serve(x), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_trains_compiled_by_xla(all_layers):
    model, x = all_layers
    old = [ops.convert_to_numpy(w) for w in model.trainable_weights]
    loss = compiled(model, jit_compile=True).train_on_batch(x, [np.zeros(2)] * len(CASES))
    assert np.isfinite(np.sum(loss))
    moved = [np.abs(ops.convert_to_numpy(w) - o).max() for w, o in zip(model.trainable_weights, old, strict=True)]
    assert min(moved) > 0
