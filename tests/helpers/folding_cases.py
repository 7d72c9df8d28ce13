"""Networks whose batch normalisation folds, for the tests of `fold_batch_norm` and `fold_frozen`."""

import keras
import numpy as np

import keras_cnn as kc

L = keras.layers


def bn(name=None, **kwargs):
    return L.BatchNormalization(name=name, **kwargs)


def with_random_statistics(model, seed=0):
    """Statistics in a wide range: scales of any sign, some of them tiny, variances over nine orders of magnitude."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(size=size))
            layer.moving_variance.assign(10.0 ** random.uniform(-8, 1, size))
            if layer.scale:
                layer.gamma.assign(random.normal(size=size) * 10.0 ** random.integers(-4, 1, size))
            if layer.center:
                layer.beta.assign(random.normal(size=size))
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(random.normal(size=layer.bias.shape))
    return model


def assert_same_outputs(folded, model, shape, tolerance=1e-4):
    images = np.random.default_rng(7).normal(size=(2, *shape)).astype("float32")
    for found, expected in zip(*(keras.tree.flatten(m(images)) for m in (folded, model)), strict=True):
        found, expected = (keras.ops.convert_to_numpy(x).astype("float64") for x in (found, expected))
        assert np.ptp(expected) > 1e-3
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def norms(model):
    return [layer.name for layer in model._flatten_layers() if isinstance(layer, L.BatchNormalization)]


def shared(x):
    conv, norm = L.Conv2D(4, 3, name="conv"), bn()
    return L.Add()([norm(conv(x)), norm(conv(L.Rescaling(2.0)(x)))])


def nested(x, *, twice=False):
    inputs = keras.Input((8, 9, 3))
    inner = keras.Model(inputs, L.LeakyReLU()(bn()(L.Conv2D(3, 3, padding="same")(inputs))), name="inner")
    return inner(inner(x)) if twice else L.Conv2D(2, 1)(inner(x))


FOLDS = {
    "convolution": lambda x: bn()(L.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv")(x)),
    "with bias": lambda x: bn()(L.Conv2D(4, 3, name="conv")(x)),
    "without scale": lambda x: bn(scale=False)(L.Conv2D(4, 3)(x)),
    "without center": lambda x: bn(center=False)(L.Conv2D(4, 3)(x)),
    "groups": lambda x: bn()(L.Conv2D(6, 3, groups=3)(x)),
    "dilated": lambda x: bn(epsilon=1e-5)(L.Conv2D(4, 3, dilation_rate=2)(x)),
    "depthwise": lambda x: bn()(L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", use_bias=False)(x)),
    "separable": lambda x: bn()(L.SeparableConv2D(4, 3, depth_multiplier=2)(x)),
    "transposed": lambda x: bn()(L.Conv2DTranspose(5, 3, strides=2)(x)),
    "dense": lambda x: bn()(L.Dense(4)(x)),
    "numeric padding": lambda x: bn()(kc.layers.Conv2D(4, 3, padding=2, padding_mode="reflect")(x)),
    "one axis": lambda x: bn()(L.SeparableConv1D(4, 3)(L.Reshape((8, 27))(x))),
    "one axis, transposed": lambda x: bn()(L.Conv1DTranspose(4, 3)(bn()(L.DepthwiseConv1D(3)(L.Reshape((8, 27))(x))))),
    "three axes": lambda x: bn()(L.Conv3DTranspose(2, 2)(bn()(L.Conv3D(4, 2)(L.Reshape((8, 9, 3, 1))(x))))),
    "after zero padding": lambda x: L.ReLU()(bn()(L.Conv2D(4, 3)(L.ZeroPadding2D(1)(x)))),
    "before, no padding": lambda x: L.Conv2D(4, 3, activation="relu", use_bias=False)(bn()(x)),
    "before, 1 x 1": lambda x: L.Conv2D(4, 1, strides=2, padding="same")(bn()(x)),
    "before, padded by reflection": lambda x: kc.layers.Conv2D(4, 3, padding=1, padding_mode="reflect")(bn()(x)),
    "before dense": lambda x: L.Dense(4)(bn()(L.GlobalMaxPooling2D()(x))),
    "on both sides": lambda x: bn()(L.Conv2D(4, 3)(bn()(x))),
    "shared": shared,
    "nested": nested,
    "nested, called twice": lambda x: nested(x, twice=True),
    "sequence": lambda x: keras.Sequential([L.Conv2D(4, 3), bn(), L.LeakyReLU()])(x),
}


def network(function):
    inputs = keras.Input((8, 9, 3), name="image")
    return with_random_statistics(keras.Model(inputs, function(inputs), name="network"))
