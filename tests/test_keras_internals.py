"""The private attributes of Keras that the project uses: one line per name, which fails when a release has lost it."""

from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.private_names import accessed, methods

from keras_cnn import keras_internals

DENSE = keras.layers.Dense(1)
INPUT = keras.Input((1,))
MODEL = keras.Sequential([INPUT, DENSE])
OPTIMIZER = keras.optimizers.AdamW(use_ema=True)
MODEL.compile(OPTIMIZER, "mse")
OPTIMIZER.exclude_from_weight_decay(var_names=["bias"])
OPTIMIZER.build(MODEL.trainable_variables)
OWNERS = {
    "_apply_weight_decay": OPTIMIZER,
    "_assert_input_compatibility": DENSE,
    "_call_context_args": DENSE,
    "_call_has_context_arg": DENSE,
    "_call_has_training_arg": DENSE,
    "_compile_config": MODEL,
    "_dtype_policy": DENSE,
    "_exclude_from_weight_decay": OPTIMIZER,
    "_exclude_from_weight_decay_pattern": OPTIMIZER,
    "_flatten_layers": DENSE,
    "_functional": MODEL,
    "_get_variable_index": OPTIMIZER,
    "_inbound_nodes": DENSE,
    "_initial_epoch": MODEL,
    "_keras_history": INPUT,
    "_keras_mask": keras.layers.Masking()(keras.Input((2, 1))),
    "_learning_rate": OPTIMIZER,
    "_model": keras.callbacks.Callback(),
    "_model_variables_moving_average": OPTIMIZER,
    "_nodes_by_depth": keras.Function(INPUT, DENSE(INPUT)),
    "_outbound_nodes": DENSE,
    "_outputs_struct": keras.Function(INPUT, DENSE(INPUT)),
    "_symbolic_build": MODEL,
    "_trainable_variables": OPTIMIZER,
    "_use_weight_decay": OPTIMIZER,
    "_variables": OPTIMIZER,
}


@pytest.mark.parametrize("name", OWNERS)
def test_keras_still_has(name):
    owner = type(OWNERS[name]).__name__
    assert hasattr(OWNERS[name], name), (
        f"Keras {keras.__version__} has no {owner}.{name} any more, which keras_internals.py uses"
    )


def test_each_private_attribute_has_its_line():
    source = Path(keras_internals.__file__).read_text()
    assert {*accessed(source), *methods(source)} == set(OWNERS)


def test_sublayers_of_nested_models():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="a")], name="inner")
    model = keras.Sequential([inner, keras.layers.Dense(2, name="b")], name="outer")
    assert {layer.name for layer in keras_internals.sublayers(model)} >= {"outer", "inner", "a", "b"}
    assert "outer" not in {layer.name for layer in keras_internals.sublayers(model, include_self=False)}
    assert "a" not in {layer.name for layer in keras_internals.sublayers(model, recursive=False)}


def test_the_producer_of_a_tensor():
    inputs = keras.Input((2,), name="image")
    layer = keras.layers.Dense(2)
    assert keras_internals.producer(layer(inputs)) is layer
    assert keras_internals.producer(inputs).name == "image"
    twice = layer(layer(inputs))
    assert keras_internals.producing_call(twice).outputs[0] is twice


def test_calls_are_forgotten_even_after_an_error():
    inputs = keras.Input((2,))
    first, second = keras.layers.Dense(2), keras.layers.Dense(2)
    x = first(inputs)
    with pytest.raises(ZeroDivisionError), keras_internals.calls_forgotten(first):
        second(first(x))
        1 / 0
    made, consumed = keras_internals.call_records(first)
    assert len(made) == 1 and consumed == []


def test_inputs_that_a_layer_does_not_take():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    keras_internals.check_input(layer, keras.KerasTensor((1, 3)))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        keras_internals.check_input(layer, keras.KerasTensor((1, 4)))


def test_masks_of_symbolic_tensors():
    inputs = keras.Input((2, 1))
    assert keras_internals.has_mask(keras.layers.Masking()(inputs)) and not keras_internals.has_mask(inputs)


def test_arguments_that_layers_pass_on():
    dropout, relu, around = (
        keras.layers.Dropout(0.5),
        keras.layers.ReLU(),
        keras.Sequential([keras.layers.Dropout(0.5)]),
    )
    assert keras_internals.takes_training(dropout) and not keras_internals.takes_training(relu)
    assert keras_internals.accepts_context_argument(dropout, "training")
    assert not keras_internals.accepts_context_argument(relu, "training")
    assert keras_internals.accepts_context_argument(keras.ops.relu, "training")  # Keras passes it nothing
    assert keras_internals.passes_on(around, "training") and not keras_internals.passes_on(relu, "training")
    assert keras_internals.context_arguments(relu) == {"training"}
    assert keras_internals.context_arguments(keras.ops.relu) == set()


def test_layers_compute_under_another_policy_until_an_error():
    layer = keras.layers.Dense(2, dtype="mixed_bfloat16")
    with pytest.raises(ZeroDivisionError), keras_internals.dtype_policies([layer], "float32"):
        assert layer.compute_dtype == "float32"
        1 / 0
    assert layer.compute_dtype == "bfloat16"


def test_a_schedule_is_hidden_from_the_config():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    optimizer = keras.optimizers.SGD(schedule)
    with keras_internals.learning_rate_hidden(optimizer):
        assert isinstance(optimizer.get_config()["learning_rate"], float)
    assert keras_internals.learning_rate_or_schedule(optimizer) is schedule


def test_weight_decay_spares_what_was_excluded():
    kernel, bias = keras_internals.optimized_variables(OPTIMIZER)
    assert (bias is DENSE.bias) and keras_internals.variable_index(OPTIMIZER, bias) == 1
    other = keras.optimizers.AdamW()
    keras_internals.copy_weight_decay_exclusions(OPTIMIZER, other)
    for optimizer in (OPTIMIZER, other):
        assert [keras_internals.decays(optimizer, variable) for variable in (kernel, bias)] == [True, False]


def test_the_averages_are_in_the_order_of_the_variables():
    averages, variables = keras_internals.moving_averages(OPTIMIZER), keras_internals.optimized_variables(OPTIMIZER)
    assert [average.shape for average in averages] == [variable.shape for variable in variables] == [(1, 1), (1,)]


def test_own_attributes_of_an_optimizer_are_all_but_its_lists_of_all_variables():
    hidden = vars(OPTIMIZER).keys() - keras_internals.own_attributes(OPTIMIZER).keys()
    assert hidden == {"_variables", "_trainable_variables"}


def test_a_model_knows_what_it_was_compiled_with_and_where_fit_begins():
    assert keras_internals.compile_arguments(MODEL)["loss"] == "mse"
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    epochs = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    seen, x = [], np.zeros((1, 1))
    keras_internals.set_initial_epoch(model, 2)
    model.fit(x, x, epochs=4, verbose=0, callbacks=[epochs])
    assert seen == [2, 3]
    assert keras_internals.model_of(epochs) is model and keras_internals.model_of(keras.callbacks.Callback()) is None
