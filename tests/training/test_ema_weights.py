"""The moving averages of weights: validation sees them, training does not."""

import keras
import numpy as np
import pytest

import keras_cnn as kc

pytestmark = pytest.mark.usefixtures("seed_of_tensorflow")


class Witness(keras.callbacks.Callback):
    """The weights after every step, and those with which validation computes."""

    def __init__(self):
        super().__init__()
        self.steps, self.seen = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(self.model.get_weights())

    def on_test_batch_end(self, batch, logs=None):
        self.seen.append(self.model.get_weights())


def fitted(callbacks, **options):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(24, 3)).astype("float32"), random.normal(size=(24, 1)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.1, **options), "mse")
    model.fit(x, y, batch_size=8, epochs=2, validation_data=(x, y), callbacks=callbacks, shuffle=False, verbose=0)
    return model.get_weights()


def test_validation_sees_the_moving_average_and_training_the_raw_weights():
    witness, plain = Witness(), Witness()
    final = fitted([kc.training.EMAWeights(), witness], use_ema=True, ema_momentum=0.75)
    fitted([plain])
    average, averages = None, []
    for (kernel, bias), (raw_kernel, raw_bias) in zip(witness.steps, plain.steps, strict=True):
        np.testing.assert_array_equal(kernel, raw_kernel)  # bit for bit
        np.testing.assert_array_equal(bias, raw_bias)
        average = raw_kernel if average is None else 0.75 * average + 0.25 * raw_kernel
        averages.append(average)
    assert len(averages) == 6
    for seen, expected in zip(witness.seen, [averages[2]] * 3 + [averages[5]] * 3, strict=True):
        np.testing.assert_allclose(seen[0], expected, rtol=1e-5)
    np.testing.assert_allclose(final[0], averages[5], rtol=1e-5)


def test_the_averages_can_be_saved_between_steps():
    averaged, witness = kc.training.EMAWeights(), Witness()

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            with averaged.swapped_in():
                np.testing.assert_array_equal(self.model.get_weights()[0], witness.seen[-1][0])
            np.testing.assert_array_equal(self.model.get_weights()[0], witness.seen[-1][0])  # until the next epoch

        def on_train_batch_end(self, batch, logs=None):
            before = self.model.get_weights()
            with averaged.swapped_in():
                assert batch == 0 or (self.model.get_weights()[0] != before[0]).any()
            np.testing.assert_array_equal(self.model.get_weights()[0], before[0])

    fitted([averaged, witness, Save()], use_ema=True, ema_momentum=0.75)


R = np.random.default_rng(0)
VECTORS, CLASSES = R.normal(size=(64, 4)).astype("float32"), R.integers(0, 3, 64)
HELD_OUT = VECTORS[:32], CLASSES[:32]


def classifier(optimizer=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    optimizer = optimizer or keras.optimizers.Adam(0.3, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True)  # faster than tracing
    return model


def loss(model):
    return model.evaluate(*HELD_OUT, verbose=0)


def loss_of_file(path):
    """The loss of a saved model or of a weight file."""
    model = classifier()
    if path.suffix == ".keras":
        model.set_weights(keras.models.load_model(path, compile=False).get_weights())
        return loss(model)
    model.optimizer.build(model.trainable_variables)  # the file has its state too
    model.load_weights(path)
    return loss(model)


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_other_callbacks_keep_the_weights_that_were_validated(first, tmp_path):
    best = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), save_best_only=True)
    weights = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "best.weights.h5"), save_best_only=True, save_weights_only=True
    )
    every = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True)
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    others, averaged = [best, weights, every, stop], kc.training.EMAWeights()
    model = classifier()
    history = model.fit(
        VECTORS,
        CLASSES,
        validation_data=HELD_OUT,
        epochs=12,
        verbose=0,
        callbacks=[averaged, *others] if first else [*others, averaged],
    ).history["val_loss"]
    assert min(history) < history[-1]  # the best epoch is not the last
    assert loss(model) == pytest.approx(min(history), abs=1e-6)
    assert loss_of_file(tmp_path / "best.keras") == pytest.approx(min(history), abs=1e-6)
    assert loss_of_file(tmp_path / "best.weights.h5") == pytest.approx(min(history), abs=1e-6)
    for epoch in (1, len(history)):
        assert loss_of_file(tmp_path / f"{epoch}.weights.h5") == pytest.approx(history[epoch - 1], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_saving_the_averages_does_not_change_training(first, tmp_path):
    histories = []
    for callbacks in ([], [keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), save_best_only=True)]):
        if callbacks:
            callbacks.insert(0 if first else 1, kc.training.EMAWeights())
        model = classifier()
        histories.append(
            model.fit(VECTORS, CLASSES, validation_data=HELD_OUT, epochs=4, verbose=0, callbacks=callbacks)
        )
    assert histories[0].history["loss"] == histories[1].history["loss"]
    assert loss(model) == histories[1].history["val_loss"][-1]  # at the end the averages stay


@pytest.mark.slow
def test_a_separate_evaluation_or_one_within_an_epoch_restores_the_weights():
    averaged = kc.training.EMAWeights()

    class Look(keras.callbacks.Callback):
        """Evaluates the averages after each step."""

        def on_train_batch_end(self, batch, logs=None):
            self.model.evaluate(*HELD_OUT, callbacks=[averaged], verbose=0)

    plain, looked = classifier(), classifier()
    plain.fit(VECTORS, CLASSES, epochs=2, verbose=0, shuffle=False)
    looked.fit(VECTORS, CLASSES, epochs=2, verbose=0, shuffle=False, callbacks=[Look(), averaged])
    for one, other in zip(plain.optimizer.variables, looked.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    weights = looked.get_weights()
    looked.trainable_variables[0].assign_add(keras.ops.ones((4, 3)))
    looked.evaluate(*HELD_OUT, callbacks=[averaged], verbose=0)
    np.testing.assert_allclose(looked.get_weights()[0], weights[0] + 1, rtol=1e-6)


@pytest.mark.slow
def test_a_loss_scale_around_the_optimizer_changes_nothing(tmp_path):
    inner = keras.optimizers.Adam(0.3, use_ema=True, ema_momentum=0.9)
    model = classifier(keras.optimizers.LossScaleOptimizer(inner))
    best = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), save_best_only=True)
    callbacks = [best, kc.training.EMAWeights()]
    history = model.fit(VECTORS, CLASSES, validation_data=HELD_OUT, epochs=3, verbose=0, callbacks=callbacks).history
    assert loss_of_file(tmp_path / "best.keras") == pytest.approx(min(history["val_loss"]), abs=1e-6)


def test_an_optimizer_without_averages_is_refused():
    with pytest.raises(ValueError, match=r"^EMAWeights: `optimizer` must be one with use_ema=True. Received:"):
        fitted([kc.training.EMAWeights()])
