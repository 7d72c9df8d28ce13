"""Learning rates per depth: each variable changes as under a separate optimizer with the rate of its depth."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers.slow import mark_slow

from keras_cnn.training import layerwise_optimizer

OPTIMIZERS = {
    "SGD": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, weight_decay=0.1),
    "AdamW": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.1),
    "Lion": lambda rate: keras.optimizers.Lion(rate, weight_decay=0.1),
    "Nadam": lambda rate: keras.optimizers.Nadam(rate, gradient_accumulation_steps=2, use_ema=True),
    "RMSprop": lambda rate: keras.optimizers.RMSprop(rate, clipvalue=0.5),
}


def network():
    """A nested part, a branch around a layer, and a head; and the number of layers with a kernel after each."""
    keras.utils.set_random_seed(0)
    parts = [
        keras.layers.Dense(3, name="a"),
        keras.layers.BatchNormalization(name="bn"),
        keras.layers.Dense(3, name="b"),
    ]
    body = keras.Sequential([keras.Input((4,)), *parts], name="body")
    inputs = keras.Input((4,))
    x = body(inputs)
    x = keras.layers.Add()([x, keras.layers.Dense(3, name="b")(x)])
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    depths = {"body/a": 3, "body/bn": 3, "body/b": 2, "b": 1, "head": 0}
    return model, {weight.path: depths[weight.path.rsplit("/", 1)[0]] for weight in model.trainable_variables}


def gradients(model, step):
    random = np.random.default_rng(step)
    return [random.normal(size=variable.shape).astype("float32") for variable in model.trainable_variables]


@pytest.mark.parametrize("name", mark_slow(OPTIMIZERS, except_for=["AdamW"]))
def test_each_variable_learns_at_the_rate_of_its_depth(name):
    model, depths = network()
    start = model.get_weights()
    optimizer = layerwise_optimizer(OPTIMIZERS[name](0.01), model, 0.5)
    for step in range(4):
        optimizer.apply(gradients(model, step), model.trainable_variables)
    found = [np.array(variable) for variable in model.trainable_variables]
    model.set_weights(start)
    for index, variable in enumerate(model.trainable_variables):
        alone = OPTIMIZERS[name](0.01 * 0.5 ** depths[variable.path])
        for step in range(4):
            alone.apply([gradients(model, step)[index]], [variable])
        np.testing.assert_allclose(found[index], np.array(variable), rtol=1e-5, atol=1e-7)


def trained(model, optimizer, epochs=1):
    images, labels = np.random.default_rng(0).normal(size=(16, 4)), np.arange(16) % 2
    if optimizer:
        model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(images, labels, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


@pytest.mark.slow
def test_a_loaded_optimizer_continues_bit_for_bit(tmp_path):
    model, _ = network()
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 10)
    trained(model, layerwise_optimizer(keras.optimizers.AdamW(schedule, use_ema=True), model, 0.7))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.AdamW) and loaded.optimizer.factors == model.optimizer.factors
    for one, other in zip(trained(model, None).get_weights(), trained(loaded, None).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_averages_of_weights_and_loss_scaling_work_on_it():
    model, _ = network()
    optimizer = layerwise_optimizer(keras.optimizers.Adam(use_ema=True), model, 0.7)
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer), "sparse_categorical_crossentropy", jit_compile=False)
    images, labels = np.zeros((8, 4)), np.zeros(8)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    assert np.isfinite(model.fit(images, labels, callbacks=[swap], verbose=0).history["loss"][0])


@pytest.mark.slow
def test_wrong_use_is_refused():
    model, _ = network()
    for decay in (0, 1.5, True, "a"):
        with pytest.raises(ValueError, match="`decay` must be more than 0 and at most 1"):
            layerwise_optimizer(keras.optimizers.Adam(), model, decay)
    inner = layerwise_optimizer(keras.optimizers.Adam(), model, 0.5)
    for optimizer in (
        "adam",
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
        keras.optimizers.Muon(),
        inner,
    ):
        with pytest.raises(ValueError, match="`optimizer` must be an optimizer with one rate for all"):
            layerwise_optimizer(optimizer, model, 0.5)
    used = trained(network()[0], keras.optimizers.Adam()).optimizer
    with pytest.raises(ValueError, match="must be a new one"):
        layerwise_optimizer(used, model, 0.5)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="elsewhere")])
    with pytest.raises(ValueError, match="Freeze and unfreeze first"):
        layerwise_optimizer(keras.optimizers.Adam(), model, 0.5).build(other.trainable_variables)


DISTRIBUTED = """
import keras, numpy as np, tensorflow as tf
from keras_cnn.training import layerwise_optimizer
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
images, labels = np.random.default_rng(0).normal(size=(16, 4)).astype("float32"), np.arange(16) % 2
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
        optimizer = layerwise_optimizer(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1), model, 0.5)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(images, labels, batch_size=8, shuffle=False, verbose=0)
    found.append(model.get_weights())
print(max(np.abs(a - b).max() for a, b in zip(*found)))
"""


@pytest.mark.slow
def test_two_replicas_learn_what_one_does():
    done = subprocess.run([sys.executable, "-c", DISTRIBUTED], capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) < 1e-6
