"""The private attributes of Keras that the package reads: a line for each says which one a new release has lost."""

import re
from pathlib import Path

import keras
import pytest

from keras_cnn import keras_internals

PACKAGE = Path(keras_internals.__file__).parent
DENSE = keras.layers.Dense(1)
OWNERS = {
    "_assert_input_compatibility": DENSE,
    "_flatten_layers": DENSE,
    "_inbound_nodes": DENSE,
    "_keras_history": keras.Input((1,)),
    "_outbound_nodes": DENSE,
}


@pytest.mark.parametrize("name", OWNERS)
def test_keras_still_has(name):
    owner = type(OWNERS[name]).__name__
    assert hasattr(OWNERS[name], name), (
        f"Keras {keras.__version__} has no {owner}.{name} any more, which keras_internals.py reads"
    )


def test_each_private_attribute_has_its_line():
    named = re.findall(r"\.(_[a-z]\w*)", (PACKAGE / "keras_internals.py").read_text())
    assert set(named) == set(OWNERS)


def test_the_analysis_names_no_private_attribute_of_keras():
    for path in (PACKAGE / "analysis").rglob("*.py"):
        assert not re.findall(rf"\.({'|'.join(OWNERS)})\b", path.read_text()), path


def test_sublayers_of_nested_models():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="a")], name="inner")
    model = keras.Sequential([inner, keras.layers.Dense(2, name="b")], name="outer")
    assert {layer.name for layer in keras_internals.sublayers(model)} >= {"outer", "inner", "a", "b"}
    assert "outer" not in {layer.name for layer in keras_internals.sublayers(model, include_self=False)}


def test_the_producer_of_a_tensor():
    inputs = keras.Input((2,), name="image")
    layer = keras.layers.Dense(2)
    assert keras_internals.producer(layer(inputs)) is layer
    assert keras_internals.producer(inputs).name == "image"


def test_calls_are_forgotten_even_after_an_error():
    inputs = keras.Input((2,))
    first, second = keras.layers.Dense(2), keras.layers.Dense(2)
    x = first(inputs)
    with pytest.raises(ZeroDivisionError), keras_internals.calls_forgotten(first):
        second(first(x))
        1 / 0
    own, taking = keras_internals.call_records(first)
    assert len(own) == 1 and taking == []


def test_inputs_that_a_layer_does_not_take():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    keras_internals.check_input(layer, keras.KerasTensor((1, 3)))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        keras_internals.check_input(layer, keras.KerasTensor((1, 4)))
