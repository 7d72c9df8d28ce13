"""HubLayer: a SavedModel does in Keras 3 what TensorFlow itself makes of it, and travels inside the saved file."""

import base64
import gc
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import hub_modules
from keras import ops

from keras_cnn.layers import HubLayer
from keras_cnn.layers.hub.program import Program

RATE = 0.1
X = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 4)).astype("float32")


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    hub_modules.save_conv_net(folder / "conv_net")
    hub_modules.save_plain(folder / "plain")
    hub_modules.save_words(folder / "words")
    hub_modules.save_tf1(folder / "tf1")
    hub_modules.save_signatures(folder / "signatures")
    return folder


@pytest.fixture
def conv_net(modules):
    return modules / "conv_net"


def vector(directory, **kwargs):
    return HubLayer(directory, output_key="vector", name="hub", **kwargs)


def stacked(*layers):
    return keras.Sequential([keras.Input((8, 8, 3)), *layers])


def compiled(*layers, optimizer=None, **kwargs):
    model = stacked(*layers)
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse", **kwargs)
    return model


def losses(model, epochs=1):
    """One step an epoch."""
    return model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def values(layer):
    return {weight.name: ops.convert_to_numpy(weight).copy() for weight in layer.weights}


def moved(layer, before):
    return {name for name, value in values(layer).items() if (value != before[name]).any()}


PARAMETERS = {"conv_1.kernel", "bn.gamma", "bn.beta", "conv_2.kernel"}
STATISTICS = {"bn.moving_mean", "bn.moving_variance"}


def trained_by_tensorflow(directory, steps):
    """Losses and weights of steps of gradient descent without Keras."""
    module = tf.saved_model.load(str(directory))
    history = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((module(X, training=True)["vector"] - Y) ** 2)
            loss += tf.add_n([regularizer() for regularizer in module.regularization_losses])
        history.append(float(loss))
        for variable, gradient in zip(
            module.trainable_variables, tape.gradient(loss, module.trainable_variables), strict=True
        ):
            variable.assign_sub(RATE * gradient)
    return history, [variable.numpy() for variable in module.variables]


# What it gives


def test_outputs_are_those_of_the_module(conv_net):
    expected = tf.saved_model.load(str(conv_net))(X)
    outputs = HubLayer(conv_net)(X)
    assert outputs.keys() == expected.keys() == {"map", "vector"}
    for key in outputs:
        np.testing.assert_array_equal(outputs[key], expected[key])
    np.testing.assert_array_equal(vector(conv_net)(X), expected["vector"])
    np.testing.assert_array_equal(vector(conv_net, arguments={"scale": 2.0})(X), 2 * expected["vector"])


def test_weights_are_listed_and_counted(conv_net):
    layer = vector(conv_net, trainable=True)
    assert [weight.name for weight in layer.weights] == [
        "conv_1.kernel",
        "bn.gamma",
        "bn.beta",
        "conv_2.kernel",
        "bn.moving_mean",
        "bn.moving_variance",
    ]
    model = compiled(layer)
    lines = []
    model.summary(print_fn=lambda text, line_break=False: lines.append(text))
    text = "\n".join(lines)
    assert "Total params: 268" in text
    assert "Trainable params: 260" in text
    assert "hub (HubLayer)" in text


def test_variables_of_equal_names_are_told_apart(modules):
    layer = HubLayer(modules / "plain", trainable=True)
    assert [(weight.name, weight.trainable) for weight in layer.weights] == [("w", True), ("w_1", True), ("c", False)]
    hidden, outputs = layer(np.eye(3, dtype="float32"))
    first, second, _ = layer.get_weights()
    np.testing.assert_allclose(outputs, (first + 1) @ second, rtol=1e-5)
    np.testing.assert_array_equal(HubLayer(modules / "plain", output_key=0)(np.eye(3, dtype="float32")), hidden)


def test_shapes_are_known_before_the_first_call(conv_net, modules):
    layer = HubLayer(conv_net)
    outputs = layer(keras.Input((9, 6, 3)))
    assert outputs["vector"].shape == (None, 4)
    assert outputs["map"].shape == (None, 5, 3, 4)  # ceil(9 / 2), ceil(6 / 2)
    assert layer(keras.Input((None, 6, 3)))["map"].shape == (None, None, 3, 4)
    assert vector(conv_net)(keras.Input((8, 8, 3), batch_size=2)).shape == (2, 4)
    assert [output.shape for output in HubLayer(modules / "plain")(keras.Input((3,)))] == [(None, 3), (None, 3)]


def test_inputs_are_cast_to_what_the_module_takes(conv_net):
    expected = ops.convert_to_numpy(vector(conv_net)(np.round(10 * X)))
    for dtype in ("int32", "float64", "float16"):
        np.testing.assert_array_equal(vector(conv_net)(np.round(10 * X).astype(dtype)), expected)


def test_the_variant_that_fits_best_is_called(modules):
    hub_modules.save_kinds(modules / "kinds")
    layer = HubLayer(modules / "kinds", trainable=True)
    for dtype, sign in (("float32", 1), ("float64", 1), ("int32", -1)):
        outputs = layer(np.ones((1, 2), dtype), training=True)  # which it does not have
        np.testing.assert_array_equal(outputs, [[sign, sign]])


# Training


def test_fit_trains_as_tensorflow_does(conv_net):
    expected_losses, expected = trained_by_tensorflow(conv_net, steps=3)
    layer = vector(conv_net, trainable=True)
    model = compiled(layer)
    np.testing.assert_allclose(losses(model, epochs=3), expected_losses, rtol=1e-5)
    for weight, value in zip(layer.weights, expected, strict=True):
        np.testing.assert_allclose(weight.numpy(), value, rtol=1e-4, atol=1e-6, err_msg=weight.name)


@pytest.mark.slow
@pytest.mark.parametrize("kwargs", [{"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_every_way_to_run_gives_the_same(conv_net, kwargs):
    layer = vector(conv_net, trainable=True, freeze="moving")
    before = values(layer)
    expected_losses, _ = trained_by_tensorflow(conv_net, steps=2)
    np.testing.assert_allclose(losses(compiled(layer, **kwargs), epochs=2), expected_losses, rtol=1e-5)
    assert moved(layer, before) == PARAMETERS


@pytest.mark.slow
def test_nothing_moves_in_a_frozen_layer(conv_net):
    layer = vector(conv_net)
    model = compiled(layer, keras.layers.Dense(4))
    before = values(layer)
    assert model.losses == []
    losses(model)
    assert moved(layer, before) == set()
    layer.trainable = True  # at any time, but it is `compile` that reads it
    model.compile("adam", "mse")
    losses(model)
    assert moved(layer, before) == PARAMETERS | STATISTICS
    model.trainable = False
    model.compile("adam", "mse")
    before = values(layer)
    model(X, training=True)
    assert (layer.trainable_weights, moved(layer, before)) == ([], set())


def test_a_pattern_freezes_what_it_finds(conv_net):
    layer = vector(conv_net, trainable=True, freeze="conv_1|bn")
    assert [weight.name for weight in layer.trainable_weights] == ["conv_2.kernel"]
    before = values(layer)
    losses(compiled(layer))
    assert moved(layer, before) == {"conv_2.kernel"}
    layer.trainable = False
    layer.trainable = True
    assert [weight.name for weight in layer.trainable_weights] == ["conv_2.kernel"]


def test_regularization_counts_once(conv_net):
    """However often the layer is called: L2 of both kernels, summed by NumPy."""
    layer = vector(conv_net, trainable=True)
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layer(inputs) + layer(-inputs))
    kernels = [value for name, value in values(layer).items() if "kernel" in name]
    (loss,) = model.losses
    assert float(loss) == pytest.approx(hub_modules.L2 * sum(np.sum(kernel**2) for kernel in kernels), rel=1e-6)


@pytest.mark.parametrize(
    "policy", ["mixed_float16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mixed_bfloat16", "float64"))]
)
def test_dtype_policies(conv_net, policy):
    """The module works in its own dtype, float32, whatever the policy: only the output is rounded."""
    layer = vector(conv_net, trainable=True, dtype=policy)
    model = compiled(layer)
    assert model.outputs[0].dtype == layer.compute_dtype == policy.removeprefix("mixed_")
    expected = ops.cast(vector(conv_net)(X), layer.compute_dtype)
    np.testing.assert_array_equal(ops.cast(model(X), "float32"), ops.cast(expected, "float32"))
    before = values(layer)
    losses(model)
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert moved(layer, before) == PARAMETERS | STATISTICS


# Models it is part of


class Subclassed(keras.Model):
    def __init__(self, hub, **kwargs):
        super().__init__(**kwargs)
        self.hub, self.head = hub, keras.layers.Dense(4)

    def call(self, inputs):
        return self.head(self.hub(inputs))

    def get_config(self):
        return {**super().get_config(), "hub": keras.saving.serialize_keras_object(self.hub)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "hub": keras.saving.deserialize_keras_object(config["hub"])})


@pytest.mark.slow
def test_several_layers_shared_nested_and_cloned(conv_net):
    """One layer called twice, at two sizes; the same module again; all of it inside another model."""
    inputs = keras.Input((8, 8, 3))
    shared = vector(conv_net, trainable=True)
    again = HubLayer(conv_net, output_key="vector", name="again")
    small = keras.layers.AveragePooling2D(2)(inputs)
    backbone = keras.Model(inputs, ops.concatenate([shared(inputs), shared(small), again(inputs)], axis=-1))
    model = keras.Model(inputs, keras.layers.Dense(4)(backbone(inputs)))
    model.compile("adam", "mse")
    before, others = values(shared), values(again)
    losses(model)
    assert moved(shared, before) == PARAMETERS | STATISTICS
    assert moved(again, others) == set()
    assert len({variable.path for variable in model.variables}) == len(model.variables)
    clone = keras.models.clone_model(model)
    config = next(each["config"] for each in backbone.get_config()["layers"] if each["name"] == "hub")
    assert config["program"].layer is shared  # and no copy of it, which Keras' deep copy of configs would make
    cloned = clone.layers[1].get_layer("hub")
    assert moved(cloned, values(shared)) == set()  # starts with what the original has
    clone.layers[-1].set_weights(model.layers[-1].get_weights())
    np.testing.assert_array_equal(clone(X), model(X))
    cloned.set_weights([np.zeros_like(value) for value in cloned.get_weights()])
    assert moved(shared, dict.fromkeys(before, 0)) == PARAMETERS | STATISTICS  # and has weights of its own


@pytest.mark.slow
def test_a_subclassed_model_is_built_by_fit_and_saved(conv_net, tmp_path):
    model = Subclassed(vector(conv_net, trainable=True))
    model.compile("adam", "mse")
    losses(model)
    model.save(tmp_path / "model.keras")
    with keras.saving.custom_object_scope({"Subclassed": Subclassed}):
        loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    np.testing.assert_array_equal(loaded(X), model(X))


# Saving


@pytest.fixture(scope="module")
def trained(modules, tmp_path_factory):
    """A model after two steps of Adam or more, on a module whose folder has gone since."""
    directory = shutil.copytree(modules / "conv_net", tmp_path_factory.mktemp("trained") / "module")
    keras.utils.set_random_seed(0)
    model = compiled(vector(directory, trainable=True, freeze="conv_1"), keras.layers.Dense(4), optimizer="adam")
    losses(model, epochs=2)
    shutil.rmtree(directory)
    return model


def state(model):
    return [ops.convert_to_numpy(variable) for variable in model.variables + model.optimizer.variables]


def test_a_saved_model_holds_the_module(trained, tmp_path):
    path = tmp_path / "model.keras"
    trained.save(path)
    loaded = keras.models.load_model(path, safe_mode=False)
    for value, expected in zip(state(loaded), state(trained), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert {w.name for w in loaded.layers[0].non_trainable_weights} == {"conv_1.kernel"} | STATISTICS
    assert losses(loaded, 2) == losses(trained, 2)
    program = zipfile.ZipFile(io.BytesIO(base64.b64decode(loaded.layers[0].get_config()["program"])))
    assert set(program.namelist()) == {"fingerprint.pb", "saved_model.pb"}  # the values of variables are not in it
    loaded.save(path)  # and once more from there
    again = keras.models.load_model(path, safe_mode=False)
    np.testing.assert_array_equal(again(X), trained(X))
    np.testing.assert_array_equal(keras.models.clone_model(again).layers[0](X), again.layers[0](X))


def test_loading_asks_for_trust_as_a_lambda_does(trained, tmp_path):
    trained.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"which is a program .* keras\.models\.load_model\(path, safe_mode=False\)"):
        keras.models.load_model(tmp_path / "model.keras")
    config = json.loads(json.dumps(trained.layers[0].get_config()))
    with pytest.raises(ValueError, match="a SavedModel, which is a program"):
        HubLayer.from_config(config)
    with pytest.raises(ValueError, match="a SavedModel, which is a program"):
        HubLayer.from_config({"handle": "https://example.com/module.tar.gz"})


def test_an_architecture_alone_has_no_values(trained):
    """JSON holds the program, but no weights: nobody can mistake the model for a pretrained one."""
    model = keras.saving.deserialize_keras_object(json.loads(trained.to_json()), safe_mode=False)
    assert np.isnan(model(X)).all()
    model.set_weights(trained.get_weights())
    np.testing.assert_array_equal(model(X), trained(X))


def test_weights_files_fit_whatever_is_frozen(trained, conv_net, modules, tmp_path):
    trained.save_weights(tmp_path / "model.weights.h5")
    model = stacked(vector(conv_net, trainable=True, freeze="conv_2|beta"), keras.layers.Dense(4))
    model.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(model(X), trained(X))
    checkpoint = tf.train.Checkpoint(model=trained).write(str(tmp_path / "checkpoint"))
    model = stacked(vector(conv_net), keras.layers.Dense(4))
    tf.train.Checkpoint(model=model).read(checkpoint).assert_existing_objects_matched().expect_partial()
    np.testing.assert_array_equal(model(X), trained(X))
    other = keras.Sequential([keras.Input((3,)), HubLayer(modules / "plain", output_key=1, name="hub")])
    with pytest.raises(ValueError, match=r"in layer 'hub', w, c, w_1\. Received: bn\.beta"):
        other.load_weights(tmp_path / "model.weights.h5")


def test_export(trained, tmp_path):
    trained.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(X), trained(X), rtol=1e-5, atol=1e-6)


def test_tables_travel_with_the_module(modules, tmp_path):
    directory = shutil.copytree(modules / "words", tmp_path / "module")
    words = tf.constant(["dog", "cow"])
    with pytest.raises(
        ValueError, match=r"InitializeTableFromTextFileV2 reads files\. It was not loaded\. If you trust"
    ):
        HubLayer(directory, trainable=True)
    layer = HubLayer(directory, trainable=True, trust=True)
    assert not layer.supports_jit
    model = keras.Sequential([keras.Input((), dtype="string"), layer])
    expected = layer.get_weights()[0][[1, 2]]
    np.testing.assert_array_equal(model(words), expected)
    model.save(tmp_path / "model.keras")
    tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    shutil.rmtree(directory)
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    np.testing.assert_array_equal(loaded(words), expected)
    loaded.export(tmp_path / "exported", verbose=False)
    del loaded
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_array_equal(exported.serve(words), expected)


# For inference only


def test_tf1_hub(modules, tmp_path):
    layer = HubLayer(modules / "tf1", output_key="default")
    kernel = hub_modules.normal(3, 3, 3, 4, seed=1)
    np.testing.assert_allclose(layer(X), tf.reduce_mean(tf.nn.conv2d(X, kernel, 1, "SAME"), (1, 2)), atol=1e-6)
    model = compiled(layer, keras.layers.Dense(4))
    layer.trainable = True
    assert layer.trainable_weights == []
    before = values(layer)
    losses(model)
    assert moved(layer, before) == set()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    np.testing.assert_array_equal(loaded(X), model(X))
    assert HubLayer(modules / "tf1")(X).keys() == {"default", "map"}
    with pytest.raises(
        ValueError, match="`trainable` must be False: signatures and modules of TF1 Hub are for inference"
    ):
        HubLayer(modules / "tf1", trainable=True)


def test_signatures(modules, conv_net):
    a, b = np.arange(4.0).reshape(2, 2), np.ones((2, 2))
    outputs = HubLayer(modules / "signatures", signature="both")({"a": a, "b": b})
    np.testing.assert_array_equal(outputs["sum"], a + 1)
    np.testing.assert_array_equal(outputs["difference"], a - 1)
    np.testing.assert_array_equal(HubLayer(modules / "signatures")(a), 2 * a)  # the only output, not a dict of one
    np.testing.assert_array_equal(HubLayer(modules / "signatures", output_key="double")(a), 2 * a)
    with pytest.raises(
        ValueError, match=r"`signature` must be one of both, serving_default. Received: signature='none'"
    ):
        HubLayer(modules / "signatures", signature="none")
    with pytest.raises(ValueError, match="`signature` must be None, since the module has no signatures"):
        HubLayer(conv_net, signature="serving_default")


def test_what_keras_exports(tmp_path):
    source = compiled(keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization())
    source.export(tmp_path / "exported", verbose=False)
    layer = HubLayer(tmp_path / "exported")
    np.testing.assert_allclose(layer(X), source(X), atol=1e-6)
    assert len(layer.weights) == 6


# What it says


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"freeze": "conv_3"}, "`freeze` must be a pattern found in a name, such as conv_1.kernel, bn.gamma"),
        ({"freeze": "("}, "`freeze` must be a regular expression (missing ), unterminated subpattern"),
        ({"arguments": {"size": 1}}, "`arguments` must be a dict with names from ['scale']. Received"),
        ({"arguments": {"training": True}}, "`arguments` must be a dict with names from ['scale']. Received"),
        ({"arguments": {"scale": 3.0}}, "`arguments['scale']` must be 1.0 or 2.0, which the module was saved with"),
        ({"arguments": {"scale": (1.0,)}}, "`arguments` must be a dict of names and plain values"),
        ({"arguments": [1.0]}, "`arguments` must be a dict of names and plain values"),
    ],
)
def test_arguments_that_do_not_fit(conv_net, kwargs, text):
    with pytest.raises(ValueError) as error:
        HubLayer(conv_net, **kwargs)
    assert text in str(error.value)


def test_calls_that_do_not_fit(conv_net, modules, tmp_path):
    message = r"`inputs` must be float32 \(None, None, None, 3\), which .* Received: inputs=float32 \(None, 8, 8\)\."
    with pytest.raises(ValueError, match=message) as error:
        HubLayer(conv_net)(keras.Input((8, 8)))
    assert "user code" not in str(error.value)
    assert "automatically infer" not in str(error.value)
    with pytest.raises(ValueError, match=r"`inputs` must be \{a: float32 \(None, 2\), b: float32 \(None, 2\)\}, which"):
        HubLayer(modules / "signatures", signature="both")(np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"`inputs` must be string \(None,\), which .* inputs=float32 \(2,\)"):
        HubLayer(modules / "words", trust=True)(np.ones(2, "float32"))
    with pytest.raises(ValueError, match=r"`output_key` must be one of 'map', 'vector'. Received: output_key='pool'"):
        HubLayer(conv_net, output_key="pool")(X)
    with pytest.raises(ValueError, match=r"`output_key` must be one of 0, 1. Received: output_key=2"):
        HubLayer(modules / "plain", output_key=2)(np.eye(3))
    with pytest.raises(ValueError, match=r"`output_key` must be None, since the module returns one tensor"):
        HubLayer(modules / "words", output_key=0, trust=True)(tf.constant(["cat"]))


def test_modules_that_would_lose_something(conv_net, tmp_path):
    hub_modules.save_growing_table(tmp_path / "table")
    with pytest.raises(
        ValueError, match=r"all of its state in variables, which Keras can save. Received: table, perhaps"
    ):
        HubLayer(tmp_path / "table")
    directory = shutil.copytree(conv_net, tmp_path / "module")
    hub_modules.add_optimizer(directory)
    with pytest.raises(
        ValueError, match=r"must not contain an optimizer of Keras 2.* Save it with include_optimizer=False"
    ):
        HubLayer(directory)


def test_keras_must_run_on_tensorflow(monkeypatch, conv_net):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"Received: KERAS_BACKEND=jax. Set KERAS_BACKEND=tensorflow before"):
        HubLayer(conv_net)


# In processes of their own


def run(script, *arguments):
    """What a script prints last, from JSON."""
    command = [sys.executable, Path(__file__).parents[1] / "helpers" / script, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_training_continues_in_a_fresh_process(trained, tmp_path):
    """Weights, optimizer, frozen weights and the next two steps: bit for bit equal, without the directory of the module."""
    trained.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    before = state(trained)
    history = run("hub_processes.py", "reload", *(tmp_path / name for name in ("model.keras", "data.npz", "out.npz")))
    assert history == losses(trained, epochs=2)
    stored = np.load(tmp_path / "out.npz")
    for number, (first, last) in enumerate(zip(before, state(trained), strict=True)):
        np.testing.assert_array_equal(stored[f"before_{number}"], first)
        np.testing.assert_array_equal(stored[f"after_{number}"], last)


@pytest.mark.slow
def test_two_devices(conv_net, tmp_path):
    results = run("hub_processes.py", "distributed", conv_net, tmp_path / "model.keras")
    # With equal halves each device sees the moments of the whole batch, so that the step is that of one device.
    two, one = results["equal two"], results["equal one"]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    for name, (expected,) in one["weights"].items():
        for value in two["weights"][name]:
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6, err_msg=name)
    # With different halves the devices agree nevertheless, on the mean: for the moving mean that of the whole batch.
    two, one = results["different two"]["weights"], results["different one"]["weights"]
    for name, (first, second) in two.items():
        np.testing.assert_array_equal(first, second, err_msg=name)
    np.testing.assert_allclose(two["bn.moving_mean"][0], one["bn.moving_mean"][0], atol=1e-6)
    assert results["loaded"] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("tensorflow_hub", "tf_keras", "pkg_resources"))),
    reason="needs tensorflow_hub, tf_keras and setuptools<82",
)
def test_equals_the_layer_of_tensorflow_hub(conv_net):
    """Outputs, and the losses of 20 steps of Adam on as many batches, trainable and frozen."""
    results = run("hub_processes.py", "against_keras_2", conv_net)
    for ours, theirs in zip(results[2:], results[:2], strict=True):
        np.testing.assert_allclose(ours["outputs"], theirs["outputs"], atol=1e-5)
        np.testing.assert_allclose(ours["losses"], theirs["losses"], atol=1e-5)
        assert len(theirs["losses"]) == 20


@pytest.mark.slow
def test_example(tmp_path):
    script = Path(__file__).parents[2] / "examples" / "fine_tune_a_hub_module.py"
    command = [sys.executable, script, "--epochs", "1", "--out", "model.keras"]
    result = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    _, trained, _, loaded, longer = result.stdout.splitlines()
    assert trained.removeprefix("After 1 epochs: ") == loaded.removeprefix("Loaded in another process: ")
    assert longer.startswith("After 1 more epochs: validation accuracy 0.")


def test_unpacked_programs_of_killed_processes_go_and_those_in_use_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    buffer, layers = io.BytesIO(), [keras.layers.Layer(), keras.layers.Layer()]
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("saved_model.pb", b"a program")
    programs = [Program.of(layer, base64.b64encode(buffer.getvalue()).decode()) for layer in layers]
    first = programs[0].unpack()
    shutil.copytree(first, tmp_path / (first.name + "killed"))
    second = programs[1].unpack()
    assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert (first / "saved_model.pb").read_bytes() == b"a program"
    del layers[:], programs[:]
    gc.collect()
    assert list(tmp_path.iterdir()) == []
