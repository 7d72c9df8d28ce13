"""`python hub_processes.py FUNCTION ARGUMENT...` prints JSON: what `test_hub_layer.py` does in processes of their own."""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_cnn.layers import HubLayer

RATE = 0.1


def images(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 8, 8, 3)).astype("float32")


def reload(path, data, out):
    """Load a saved model, train it for two more steps, and store what it was before and after."""
    x, y = (np.load(data)[name] for name in "xy")
    model = keras.models.load_model(path, safe_mode=False)
    variables = model.variables + model.optimizer.variables
    stored = {f"before_{number}": keras.ops.convert_to_numpy(v).copy() for number, v in enumerate(variables)}
    history = model.fit(x, y, batch_size=len(x), epochs=2, shuffle=False, verbose=0).history["loss"]
    stored |= {f"after_{number}": keras.ops.convert_to_numpy(v) for number, v in enumerate(variables)}
    np.savez(out, **stored)
    return history


def mirrored(directory, out):
    """One step on two devices and on one: losses, and the weights on each device, of equal and of different halves."""
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    y = np.zeros((16, 4), "float32")
    results = {}
    for name, x in (("equal", np.concatenate([images(8)] * 2)), ("different", images(16))):
        for where, scope in (("two", strategy), ("one", tf.distribute.get_strategy())):
            with scope.scope():
                layer = HubLayer(directory, trainable=True, output_key="vector", name="hub")
                model = keras.Sequential([keras.Input((8, 8, 3)), layer])
                model.compile(keras.optimizers.SGD(RATE), "mse")
            loss = model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"][0]
            weights = {
                weight.name: [part.numpy().tolist() for part in strategy.experimental_local_results(weight.value)]
                for weight in layer.weights
            }
            results[f"{name} {where}"] = {"loss": loss, "weights": weights}
            if where == "two":
                model.save(out)
                outputs = model.predict(x, verbose=0)
    with strategy.scope():
        loaded = [keras.models.load_model(out, safe_mode=False)]
    loaded.append(keras.models.load_model(out, safe_mode=False))
    results["loaded"] = [float(np.abs(each.predict(x, verbose=0) - outputs).max()) for each in loaded]
    return results


def against_keras_2(directory):
    """Outputs, and losses of 20 steps, of `hub.KerasLayer` in Keras 2 and of HubLayer in Keras 3."""
    import tensorflow_hub
    import tf_keras

    x, y = images(160), np.random.default_rng(1).integers(0, 3, 160)
    head = [np.random.default_rng(2).normal(size=(4, 3)).astype("float32"), np.zeros(3, "float32")]
    results = []
    for library, layer in ((tf_keras, tensorflow_hub.KerasLayer), (keras, HubLayer)):
        for trainable in (True, False):
            inputs = library.Input((8, 8, 3))
            dense = library.layers.Dense(3)
            model = library.Model(inputs, dense(layer(directory, trainable=trainable, output_key="vector")(inputs)))
            dense.set_weights(head)
            outputs = model.predict(x, verbose=0).tolist()
            model.compile(library.optimizers.Adam(0.05), library.losses.SparseCategoricalCrossentropy(from_logits=True))
            losses = []
            for start in range(0, 160, 8):
                batch = slice(start, start + 8)
                losses += model.fit(x[batch], y[batch], batch_size=8, verbose=0).history["loss"]
            results.append({"outputs": outputs, "losses": losses})
    return results


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
