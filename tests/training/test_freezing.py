"""Frozen layers do not change, batch normalisation included, whatever `fit` passes as `training`."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers.slow import mark_slow

import keras_cnn as kc

pytestmark = pytest.mark.any_backend


def network():
    """Two stages of convolution and batch normalisation, each ended by an `Identity` of its name, and a head."""
    x = inputs = keras.Input((8, 8, 3))
    for stage in ("stage1", "stage2"):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"{stage}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{stage}_bn")(x)
        x = keras.layers.ReLU(name=f"{stage}_relu")(x)
        x = keras.layers.Identity(name=stage)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))


def moved_by_training(model):
    """Names of the layers whose weights one step of `fit` changes."""
    value = keras.ops.convert_to_numpy
    before = {weight.path: value(weight).copy() for weight in model.weights}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    random = np.random.default_rng(0)
    model.fit(random.normal(size=(8, 8, 8, 3)), random.integers(0, 2, 8), verbose=0)
    return {
        weight.path.split("/")[0] for weight in model.weights if not np.array_equal(before[weight.path], value(weight))
    }


EVERYTHING = {"stage1_conv", "stage1_bn", "stage2_conv", "stage2_bn", "logits"}


def test_all_layers_change_by_default():
    # Without this, the tests below could pass on a model that never learns.
    assert moved_by_training(network()) == EVERYTHING


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize(
    ("up_to", "expected"),
    [
        ("stage1", {"stage2_conv", "stage2_bn", "logits"}),
        ("stage2_conv", {"stage2_bn", "logits"}),
        ("stage2", {"logits"}),
        (None, set()),
    ],
)
def test_freeze_up_to(up_to, expected):
    model = network()
    kc.freeze(model, up_to)
    assert moved_by_training(model) == expected


@pytest.mark.parametrize(
    ("starting_at", "batch_norm", "expected"),
    [
        ("stage2", False, {"stage2_conv", "logits"}),
        ("stage2", True, {"stage2_conv", "stage2_bn", "logits"}),
        ("stage1", False, {"stage1_conv", "stage2_conv", "logits"}),
        ("stage2_bn", True, {"stage2_bn", "logits"}),
        ("logits", False, {"logits"}),
        (None, False, {"stage1_conv", "stage2_conv", "logits"}),
        (None, True, EVERYTHING),
    ],
)
def test_unfreeze_starting_at(starting_at, batch_norm, expected):
    model = network()
    kc.freeze(model)
    kc.unfreeze(model, starting_at, batch_norm=batch_norm)
    assert moved_by_training(model) == expected


def test_unfreeze_works_on_a_model_frozen_the_usual_way():
    model = network()
    model.trainable = False
    kc.unfreeze(model, "stage2")
    assert moved_by_training(model) == {"stage2_conv", "logits"}


def test_batch_norm_inside_a_layer_stays_frozen_too():
    inner = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()], name="inner")
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(inner(inputs)))
    model = keras.Model(inputs, outputs)
    kc.freeze(model)
    kc.unfreeze(model)
    assert [layer.trainable for layer in inner.layers] == [True, False]


def nested():
    """The network nested in another one, after a layer."""
    inner = network()
    inner = keras.Model(inner.input, inner.get_layer("stage2").output, name="backbone")
    inputs = keras.Input((8, 8, 3))
    x = inner(keras.layers.Conv2D(3, 1, name="colours")(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("name", ["stage1", "backbone/stage1"])
def test_freeze_and_unfreeze_in_a_nested_model(name):
    model = nested()
    kc.freeze(model, name)
    assert moved_by_training(model) == {"stage2_conv", "stage2_bn", "logits"}
    model = nested()
    kc.freeze(model)
    kc.unfreeze(model, name.replace("1", "2"), batch_norm=True)
    assert moved_by_training(model) == {"stage2_conv", "stage2_bn", "logits"}
    model = nested()
    kc.freeze(model, "colours")
    model.get_layer("backbone").trainable = False
    kc.unfreeze(model, name)
    assert moved_by_training(model) == {"stage1_conv", "stage2_conv", "logits"}


def test_frozen_statistics_ignore_the_training_argument():
    # A recipe that does not work (keras #20285): `training=False` in the graph, which `fit` replaces by True.
    def model():
        inner = network()
        inputs = keras.Input((8, 8, 3))
        return keras.Model(inputs, inner(inputs, training=False)), inner

    unguarded, _ = model()
    assert "stage1_bn" in moved_by_training(unguarded)
    guarded, inner = model()
    kc.freeze(guarded, "stage1")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    stage1 = kc.cut(inner, "stage1")
    np.testing.assert_array_equal(stage1(images, training=True), stage1(images, training=False))
    assert moved_by_training(guarded) == {"stage2_conv", "stage2_bn", "logits"}


def test_a_layer_called_twice_is_frozen_with_the_layers_before_each_call():
    inputs, layer = keras.Input((4,)), keras.layers.Dense(4, name="shared")
    x = layer(keras.layers.Dense(4, name="a")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, name="c")(layer(keras.layers.Dense(4, name="b")(x))))
    kc.freeze(model, "shared")
    assert [layer.name for layer in model.layers if layer.trainable and layer.weights] == ["c"]


def test_missing_and_ambiguous_names():
    with pytest.raises(ValueError) as error:
        kc.freeze(network(), "stage9")
    assert str(error.value) == (
        "freeze: `up_to` must be a layer of the model, such as stage1, stage2. Received: up_to='stage9'. "
        "Did you mean 'stage2'?"
    )
    inputs = keras.Input((8, 8, 3))
    two = [keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 1, name="conv")], name=n) for n in "ab"]
    model = keras.Model(inputs, two[1](two[0](inputs)))
    with pytest.raises(ValueError) as error:
        kc.unfreeze(model, "conv")
    assert str(error.value) == (
        "unfreeze: `starting_at` must be one layer of the model. Received: starting_at='conv'. These have that "
        "name: a/conv, b/conv. Give one of these paths."
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.backbone = network()
        self.head = keras.layers.Dense(2, name="head")

    def call(self, x):
        return self.head(self.backbone(x))


def test_subclassed_models_freeze_as_a_whole_or_by_their_parts():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3)))
    with pytest.raises(
        ValueError, match=r"^freeze: `up_to` needs a functional model that is built\. Received: up_to='st"
    ):
        kc.freeze(model, "stage1")
    kc.freeze(model)
    kc.unfreeze(model.backbone, "stage2")
    assert {weight.path.split("/")[-2] for weight in model.trainable_weights} == {"stage2_conv", "logits"}


# After `compile`


def two_branches():
    """Two parallel networks whose losses add up: neither depends on the other."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, {name: keras.layers.Dense(2, activation="tanh", name=name)(inputs) for name in "ab"})
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=weight.shape) for weight in model.weights])
    return model


def steps(model, first, last):
    for step in range(first, last):
        random = np.random.default_rng(step)
        targets = {name: random.normal(size=(5, 2)) for name in "ab"}
        model.train_on_batch(random.normal(size=(5, 3)), targets)


def values(model, branch):
    weights = [weight for weight in model.weights if weight.path.startswith(branch)]
    return [keras.ops.convert_to_numpy(weight).copy() for weight in weights]


def without_decay_of_biases():
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


class Slower(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that Keras cannot load from a file."""

    def __call__(self, step):
        return 0.1 / (1 + keras.ops.cast(step, "float32"))


optimizers = keras.optimizers
OPTIMIZERS = {
    "momentum": lambda: optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.1, amsgrad=True),
    "adamw": without_decay_of_biases,
    "own schedule": lambda: optimizers.Adam(Slower()),
    "function": lambda: optimizers.Adam(lambda: 0.05),
    "nadam": lambda: optimizers.Nadam(0.1),
    "adafactor": lambda: optimizers.Adafactor(0.1),
    "muon": lambda: optimizers.Muon(0.1),
    "schedule-free": lambda: optimizers.ScheduleFreeAdamW(0.1),
    "accumulation": lambda: optimizers.Adam(0.1, gradient_accumulation_steps=2),
    "average": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "loss scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(0.1), initial_scale=4.0, dynamic_growth_steps=3
    ),
}


QUICK = ("momentum", "adamw", "loss scale")


@pytest.mark.parametrize("name", mark_slow(OPTIMIZERS, except_for=QUICK))
def test_training_continues_as_if_nothing_else_had_changed(name):
    reference, model = two_branches(), two_branches()
    for each in (reference, model):
        each.compile(OPTIMIZERS[name](), "mse", run_eagerly=True)
    steps(reference, 0, 4)
    steps(model, 0, 2)
    kc.freeze(model, "b")
    before = values(model, "b")
    with kc.check_frozen(model) as frozen:
        steps(model, 2, 3)
    assert len(frozen) == 2
    kc.unfreeze(model, "b")
    steps(model, 3, 4)
    for found, expected in zip(values(model, "a"), values(reference, "a"), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not any(np.array_equal(a, b) for a, b in zip(values(model, "b"), before, strict=True))
    if name == "average":  # which would start at 0, and pull the weights halfway there
        for found, expected in zip(values(model, "b"), before, strict=True):
            np.testing.assert_allclose(found, expected, atol=0.15)


def test_it_continues_as_a_model_compiled_once_with_those_slots():
    # Here the branches are one network: the reference is frozen before its only `compile`, and gets the slots by name.
    def step(model, seed):
        random = np.random.default_rng(seed)
        model.fit(random.normal(size=(8, 8, 8, 3)), random.integers(0, 2, 8), batch_size=4, shuffle=False, verbose=0)

    def compiled(model):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01, name="adam"), loss, run_eagerly=True)

    model = network()
    compiled(model)
    step(model, 0)
    kc.freeze(model, "stage1")
    reference = network()
    reference.set_weights(model.get_weights())
    kc.freeze(reference, "stage1")
    compiled(reference)
    reference.optimizer.build(reference.trainable_variables)
    slots = {slot.path: slot for slot in model.optimizer.variables}
    assert any("stage2_conv_kernel_velocity" in path for path in slots) and not any("stage1" in path for path in slots)
    for slot in reference.optimizer.variables:
        slot.assign(slots[slot.path])
    assert int(reference.optimizer.iterations) == 2
    for each in (model, reference):
        step(each, 1)
    for found, expected in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def scaled_error(y, y_pred):
    return 3 * keras.ops.mean(keras.ops.square(y - y_pred), axis=-1)


def test_loss_metrics_and_options_stay():
    model = two_branches()
    model.compile(
        keras.optimizers.Adam(0.1),
        loss={"a": scaled_error, "b": "mae"},
        loss_weights={"a": 2.0, "b": 0.5},
        metrics={"a": ["mse"], "b": [lambda y, y_pred: keras.ops.max(y_pred, axis=-1)]},
        weighted_metrics={"b": ["mae"]},
        run_eagerly=True,
        steps_per_execution=2,
    )
    random = np.random.default_rng(0)
    data = (random.normal(size=(4, 3)), {"a": random.normal(size=(4, 2)), "b": random.normal(size=(4, 2))})
    weights = {"a": np.ones(4), "b": np.arange(4)}
    model.fit(*data, verbose=0)
    before = model.evaluate(*data, sample_weight=weights, return_dict=True, verbose=0)
    kc.freeze(model, "a")
    assert model.run_eagerly and model.steps_per_execution == 2 and len(before) > 4
    assert model.evaluate(*data, sample_weight=weights, return_dict=True, verbose=0) == before
    with kc.check_frozen(model):
        model.fit(*data, verbose=0)
    for jit_compile in (True, False):
        model.compile("sgd", "mse", jit_compile=jit_compile)
        kc.unfreeze(model)
        assert model.jit_compile is jit_compile


def test_a_learning_rate_set_by_a_callback_and_mixed_precision_stay():
    model = two_branches()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", run_eagerly=True)
    steps(model, 0, 2)
    model.optimizer.learning_rate = 0.025
    kc.freeze(model, "a")
    assert float(model.optimizer.learning_rate) == pytest.approx(0.025) and int(model.optimizer.iterations) == 2
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = two_branches()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("adam", "mse", run_eagerly=True)
    steps(model, 0, 1)
    kc.freeze(model, "a")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(model.optimizer.inner_optimizer, keras.optimizers.Adam)
    steps(model, 1, 2)
    model.compile("adam", "mse", auto_scale_loss=False)
    kc.unfreeze(model)
    assert isinstance(model.optimizer, keras.optimizers.Adam)


def test_a_loaded_model_continues_too(tmp_path):
    model = two_branches()
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    steps(model, 0, 2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    kc.freeze(loaded, "b")
    kc.freeze(model, "b")
    for each in (model, loaded):
        each.run_eagerly = True
        steps(each, 2, 4)
    for found, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    loaded.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    assert int(again.optimizer.iterations) == 4 and len(again.optimizer.variables) == len(loaded.optimizer.variables)


class OwnCompile(keras.Model):
    def compile(self, **kwargs):
        super().compile(**kwargs)


class Hoarder(keras.optimizers.SGD):
    """Keeps slots in a dict."""

    def build(self, variables):
        super().build(variables)
        self.hoard = {variable.path: self.add_variable_from_reference(variable, "hoard") for variable in variables}


class Nameless(keras.optimizers.SGD):
    """Takes an argument that is not in its config."""

    def __init__(self, needed, **kwargs):
        super().__init__(**kwargs)


@pytest.mark.parametrize(
    ("kind", "optimizer", "reason"),
    [
        (OwnCompile, lambda: keras.optimizers.SGD(0.1), "OwnCompile has its own `compile`"),
        (keras.Model, lambda: Hoarder(0.1), r"its Hoarder keeps '\w+_hoard' where only its own code finds it"),
        (keras.Model, lambda: Nameless(1), r"its Nameless cannot be made from `get_config\(\)` \(.*needed"),
    ],
)
def test_a_model_that_cannot_be_compiled_again_is_refused_and_unchanged(kind, optimizer, reason):
    model = two_branches()
    model = kind(model.input, model.output)
    model.compile(optimizer=optimizer(), loss="mse", run_eagerly=True)
    steps(model, 0, 1)
    used = model.optimizer
    for function in (kc.freeze, kc.unfreeze):
        name = function.__name__
        with pytest.raises(
            ValueError, match=rf"^{name}: the model is compiled and .* because {reason}.* Call {name} first"
        ):
            function(model, "b")
    assert all(layer.trainable for layer in model.layers) and model.optimizer is used


# The check


def test_check_frozen_passes_and_raises():
    model = network()
    kc.freeze(model, "stage1")
    with kc.check_frozen(model) as frozen:
        assert moved_by_training(model) == {"stage2_conv", "stage2_bn", "logits"}
    assert {path.split("/")[0] for path in frozen} == {"stage1_conv", "stage1_bn"} and len(frozen) == 6
    with pytest.raises(
        kc.training.FrozenWeightsError,
        match=r"1 frozen weights changed: stage1_bn/moving_mean\. Use `freeze`, or set `train",
    ):
        with kc.check_frozen(model):
            model.get_layer("stage1_bn").moving_mean.assign_add([0, 0, 1, 0])
    with kc.check_frozen(network()) as frozen:
        pass
    assert frozen == []


def test_an_error_in_training_is_not_a_frozen_weights_error():
    model = network()
    kc.freeze(model)
    with pytest.raises(RuntimeError, match="the pool is closed") as caught, kc.check_frozen(model):
        model.get_layer("stage1_bn").moving_mean.assign_add([0, 0, 1, 0])
        raise RuntimeError("the pool is closed")
    assert type(caught.value) is RuntimeError
    assert issubclass(kc.training.FrozenWeightsError, RuntimeError)  # for code that catches RuntimeError


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="on JAX, Keras refuses to train then")
def test_the_mistake_that_keras_accepts_is_caught():
    # Keras ignores `trainable` set after `compile`: the layer still trains.
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="body"), keras.layers.Dense(1, name="head")]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    data = np.ones((2, 3)), np.ones((2, 1))
    model.fit(*data, verbose=0)
    model.get_layer("body").trainable = False
    with pytest.raises(RuntimeError, match="body/kernel"), kc.check_frozen(model):
        model.fit(*data, verbose=0)
    kc.freeze(model, "body")
    with kc.check_frozen(model) as frozen:
        model.fit(*data, verbose=0)
    assert [path.split("/")[-2:] for path in frozen] == [["body", "kernel"], ["body", "bias"]]


def test_a_model_without_weights_cannot_be_checked():
    with pytest.raises(ValueError, match=r"^check_frozen: the model must be built\. Received: 'young'\. Call it"):
        with kc.check_frozen(keras.Sequential([keras.layers.Dense(1, trainable=False)], name="young")):
            pass


class Late(keras.layers.Layer):
    """Makes its sublayers when it is built, after which an earlier trainable=False has no effect on them."""

    def build(self, shape):
        self.part = keras.layers.Dense(2, name="part")
        self.part.build(shape)

    def call(self, x):
        return self.part(x)


def test_layers_within_a_frozen_one_count_as_frozen():
    model = keras.Sequential([keras.Input((3,)), Late(trainable=False)])
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(RuntimeError, match=r"2 frozen weights changed: .*part/kernel"), kc.check_frozen(model):
        model.fit(np.ones((2, 3)), np.zeros((2, 2)), verbose=0)
    kc.freeze(model)
    assert not model.trainable_variables


class Partly(keras.layers.Layer):
    """Like `kc.layers.HubLayer`, it freezes what its pattern matches, though it is trainable."""

    freeze = "^first"

    def build(self, shape):
        names = {"first/w": False, "second/w": True, "first/mean": False, "second/mean": False}
        self.parts = [self.add_weight((), name=n.replace("/", "_"), trainable=t) for n, t in names.items()]

    def call(self, x):
        return x * self.parts[1]


def test_single_weights_can_be_frozen():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense"), Partly(name="partly")])
    model.layers[0].bias.trainable = False
    with kc.check_frozen(model) as frozen:
        model.compile("sgd", "mse", run_eagerly=True)
        model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
        model.layers[1].parts[3].assign(1.0)
    assert [path.split("/")[-1] for path in frozen] == ["bias", "first_w", "first_mean"]
    with (
        pytest.raises(RuntimeError, match=r"2 frozen weights changed: \S+bias, \S+first_mean\."),
        kc.check_frozen(model),
    ):
        model.layers[0].bias.assign_add([1, 1])
        model.layers[1].parts[2].assign(1.0)


ON_TWO_DEVICES = """
import keras, numpy as np, tensorflow as tf
import keras_cnn as kc

devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    layers = [keras.layers.Dense(3, name="body"), keras.layers.Dense(1, name="head")]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
x, y = np.random.default_rng(0).normal(size=(8, 2)), np.ones((8, 1))
model.fit(x, y, batch_size=4, verbose=0)
slots = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables}
kc.freeze(model, "body")
kept = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables}
assert len(kept) == 6 and all((slots[path] == value).all() for path, value in kept.items()), kept
with kc.check_frozen(model) as frozen:
    model.fit(x, y, batch_size=4, verbose=0)
assert len(frozen) == 2 and keras.ops.convert_to_numpy(model.optimizer.iterations) == 4
kc.unfreeze(model)
model.fit(x, y, batch_size=4, verbose=0)
"""


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow alone")
def test_on_two_devices():
    subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], check=True)
