"""Averaged weights: validation sees them, training does not."""

import keras
import numpy as np
import pytest

import keras_cnn as kc


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


def test_validation_sees_the_running_average_and_training_goes_on_with_the_weights():
    witness, plain = Witness(), Witness()
    final = fitted([kc.training.AveragedWeights(), witness], use_ema=True, ema_momentum=0.75)
    fitted([plain])
    average, averages = None, []
    for (kernel, bias), (own_kernel, own_bias) in zip(witness.steps, plain.steps, strict=True):
        np.testing.assert_array_equal(kernel, own_kernel)  # not a bit is lost by the exchange
        np.testing.assert_array_equal(bias, own_bias)
        average = own_kernel if average is None else 0.75 * average + 0.25 * own_kernel
        averages.append(average)
    assert len(averages) == 6
    for seen, expected in zip(witness.seen, [averages[2]] * 3 + [averages[5]] * 3, strict=True):
        np.testing.assert_allclose(seen[0], expected, rtol=1e-5)
    np.testing.assert_allclose(final[0], averages[5], rtol=1e-5)


def test_the_averages_can_be_saved_in_between():
    averaged, witness = kc.training.AveragedWeights(), Witness()

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            before = self.model.get_weights()
            with averaged.inside():
                np.testing.assert_array_equal(self.model.get_weights()[0], witness.seen[-1][0])
                assert (self.model.get_weights()[0] != before[0]).any()
            np.testing.assert_array_equal(self.model.get_weights()[0], before[0])

    fitted([averaged, witness, Save()], use_ema=True, ema_momentum=0.75)


def test_an_optimizer_without_averages_is_refused():
    with pytest.raises(ValueError, match=r"^AveragedWeights: `optimizer` must be one with use_ema=True. Received:"):
        fitted([kc.training.AveragedWeights()])
