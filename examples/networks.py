"""Well-known classifiers in a few lines each, made of `kc.blocks` and `kc.build`.

    python examples/networks.py resnet50

prints a network's layers. All of them take images that are normalised as their paper says, start from random weights,
and have as many parameters as published (tests/blocks/test_networks.py).
"""

import sys
from functools import partial

import keras

import keras_cnn as kc

conv, separable, inverted = kc.blocks.conv_norm_act, kc.blocks.depthwise_separable, kc.blocks.inverted_residual
IMAGE = (224, 224, 3)


def resnet(depth, input_shape=IMAGE, classes=1000, **options):
    """ResNet-18, 34 or 50, arXiv:1512.03385, table 1; stride in the 3 x 3 convolution and padding as in torchvision.

    `stride_in="1x1", use_bias=True` and a norm of epsilon 1.001e-5 make it `keras.applications.ResNet50`.
    """
    block, expansion, repeats = {
        18: (kc.blocks.residual, 1, (2, 2, 2, 2)),
        34: (kc.blocks.residual, 1, (3, 4, 6, 3)),
        50: (kc.blocks.bottleneck, 4, (3, 4, 6, 3)),
    }[depth]
    options = {"norm": partial(keras.layers.BatchNormalization, epsilon=1e-5, momentum=0.9)} | options
    stem = {key: value for key, value in options.items() if key != "stride_in"}
    # Symmetric padding: "same" would put the odd cell of a stride behind the map only.
    stages = {
        "c1": partial(conv, filters=64, kernel_size=7, strides=2, padding=3, **stem),
        "c1_pool": [keras.layers.ZeroPadding2D(1), keras.layers.MaxPooling2D(3, 2)],
    }
    for level, count in enumerate(repeats, 2):
        unit = partial(block, filters=64 * 2 ** (level - 2) * expansion, padding=1, **options)
        stages[f"c{level}"] = [partial(unit, strides=1 if level == 2 else 2)] + [unit] * (count - 1)
    return kc.build(input_shape, stages, kc.heads.classification(classes), name=f"resnet{depth}")


def mobilenet_v1(input_shape=IMAGE, classes=1000):
    """MobileNet, arXiv:1704.04861, table 1, with ReLU6 as the authors released it."""

    def units(*sizes):
        return [partial(separable, filters=filters, strides=s, activation="relu6") for filters, s in sizes]

    stages = {
        "c1": [partial(conv, filters=32, strides=2, activation="relu6"), *units((64, 1))],
        "c2": units((128, 2), (128, 1)),
        "c3": units((256, 2), (256, 1)),
        "c4": units((512, 2), *[(512, 1)] * 5),
        "c5": units((1024, 2), (1024, 1)),
    }
    return kc.build(input_shape, stages, kc.heads.classification(classes, dropout=1e-3), name="mobilenet_v1")


def mobilenet_v2(input_shape=IMAGE, classes=1000):
    """MobileNetV2, arXiv:1801.04381, table 2; normalisation as in `keras.applications.MobileNetV2`."""
    options = {"norm": partial(keras.layers.BatchNormalization, epsilon=1e-3, momentum=0.999), "activation": "relu6"}

    def units(filters, repeats, strides, expansion=6):
        unit = partial(inverted, filters=filters, expansion=expansion, **options)
        return [partial(unit, strides=strides)] + [unit] * (repeats - 1)

    stages = {
        "c1": [partial(conv, filters=32, strides=2, **options), *units(16, 1, 1, expansion=1)],
        "c2": units(24, 2, 2),
        "c3": units(32, 3, 2),
        "c4": units(64, 4, 2) + units(96, 3, 1),
        "c5": [*units(160, 3, 2), *units(320, 1, 1), partial(conv, filters=1280, kernel_size=1, **options)],
    }
    return kc.build(input_shape, stages, kc.heads.classification(classes), name="mobilenet_v2")


def googlenet(input_shape=IMAGE, classes=1000, norm=None, kernel_size=5):
    """GoogLeNet (Inception-v1), arXiv:1409.4842, table 1, without auxiliary classifiers and response normalisation.

    Batch normalisation and kernel size 3 where the paper has 5 make it torchvision's.
    """
    layer = partial(conv, norm=norm)

    def module(one, reduce3, three, reduce5, five, pool):
        branches = [
            [(one, 1)],
            [(reduce3, 1), (three, 3)],
            [(reduce5, 1), (five, kernel_size)],
            [("max", 3), (pool, 1)],
        ]
        return partial(kc.blocks.inception, branches=branches, norm=norm)

    def halve():
        return keras.layers.MaxPooling2D(3, 2, padding="same")

    stages = {
        "c1": partial(layer, filters=64, kernel_size=7, strides=2),
        "c2": [halve(), partial(layer, filters=64, kernel_size=1), partial(layer, filters=192)],
        "c3": [halve(), module(64, 96, 128, 16, 32, 32), module(128, 128, 192, 32, 96, 64)],
        "c4": [
            halve(),
            module(192, 96, 208, 16, 48, 64),
            module(160, 112, 224, 24, 64, 64),
            module(128, 128, 256, 24, 64, 64),
            module(112, 144, 288, 32, 64, 64),
            module(256, 160, 320, 32, 128, 128),
        ],
        "c5": [halve(), module(256, 160, 320, 32, 128, 128), module(384, 192, 384, 48, 128, 128)],
    }
    return kc.build(input_shape, stages, kc.heads.classification(classes, dropout=0.4), name="googlenet")


def xception(input_shape=(299, 299, 3), classes=1000):
    """Xception, arXiv:1610.02357, figure 5."""
    plain = partial(separable, intermediate=False)

    def unit(x, *widths, activate_first=True, strides=1, name=None):
        """Activation before each separable convolution; pooling and a projection where the map is halved."""
        y = x
        for place, filters in enumerate(widths, 1):
            y = keras.layers.Activation("relu")(y) if place > 1 or activate_first else y
            y = plain(y, filters, activation=None, name=f"{name}_{place}")
        if strides == 1:
            return keras.layers.Add(name=f"{name}_add")([y, x])
        x = conv(x, widths[-1], 1, strides, activation=None, name=f"{name}_shortcut")
        y = keras.layers.MaxPooling2D(3, strides, padding="same", name=f"{name}_pool")(y)
        return keras.layers.Add(name=f"{name}_add")([y, x])

    def halve(*widths, **options):
        return lambda x, name=None: unit(x, *widths, strides=2, name=name, **options)

    def keep(x, name=None):
        return unit(x, 728, 728, 728, name=name)

    stages = {
        "c1": [partial(conv, filters=32, strides=2, padding="valid"), partial(conv, filters=64, padding="valid")],
        "c2": halve(128, 128, activate_first=False),
        "c3": halve(256, 256),
        "c4": [halve(728, 728)] + [keep] * 8,
        "c5": [halve(728, 1024), partial(plain, filters=1536), partial(plain, filters=2048)],
    }
    return kc.build(input_shape, stages, kc.heads.classification(classes), name="xception")


def efficientnet_lite0(input_shape=IMAGE, classes=1000):
    """EfficientNet-Lite0: arXiv:1905.11946, table 1, without squeeze-excite, with ReLU6 (the authors' repository)."""

    def units(filters, kernel_size, repeats, strides, expansion=6):
        unit = partial(inverted, filters=filters, kernel_size=kernel_size, expansion=expansion)
        return [partial(unit, strides=strides)] + [unit] * (repeats - 1)

    options = {"activation": "relu6"}
    stages = {
        "c1": [partial(conv, filters=32, strides=2, **options), *units(16, 3, 1, 1, expansion=1)],
        "c2": units(24, 3, 2, 2),
        "c3": units(40, 5, 2, 2),
        "c4": units(80, 3, 3, 2) + units(112, 5, 3, 1),
        "c5": [*units(192, 5, 4, 2), *units(320, 3, 1, 1), partial(conv, filters=1280, kernel_size=1, **options)],
    }
    return kc.build(input_shape, stages, kc.heads.classification(classes, dropout=0.2), name="efficientnet_lite0")


NETWORKS = {
    "resnet18": partial(resnet, 18),
    "resnet34": partial(resnet, 34),
    "resnet50": partial(resnet, 50),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "googlenet": googlenet,
    "xception": xception,
    "efficientnet_lite0": efficientnet_lite0,
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in NETWORKS:
        sys.exit(f"usage: python examples/networks.py {{{','.join(NETWORKS)}}}")
    NETWORKS[sys.argv[1]]().summary(line_length=120)
