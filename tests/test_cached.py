"""What training is fed with: every example once an epoch, in views and orders that the seed alone decides."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_cnn as kc
from pipelines import features
from pipelines.cached import CachedBatches
from pipelines.keep_best import KeepBest


def epoch(batches):
    """The activations and targets of one epoch, and on to the next."""
    found = [batches[index] for index in range(len(batches))]
    batches.on_epoch_end()
    return np.concatenate([x for x, _ in found])[:, 0], np.concatenate([y for _, y in found])


@pytest.fixture
def batches():
    # View 0 of example i is i, view 1 is i + 100.
    views = [np.arange(10, dtype="float16")[:, None], np.arange(100, 110, dtype="float16")[:, None]]
    return lambda seed=0: CachedBatches(views, np.arange(10) % 3, batch_size=4, classes=3, seed=seed)


def test_each_epoch_holds_every_example_once_with_its_target(batches):
    dataset = batches()
    assert [len(dataset[index][0]) for index in range(len(dataset))] == [4, 4, 2]
    for _ in range(3):
        values, targets = epoch(dataset)
        assert sorted(values % 100) == list(range(10))
        np.testing.assert_array_equal(targets.argmax(1), values % 100 % 3)


def test_order_and_views_change_by_epoch_and_depend_on_the_seed(batches):
    first, again, other = batches(), batches(), batches(seed=1)
    epochs = [epoch(first)[0] for _ in range(20)]
    np.testing.assert_array_equal(epochs, [epoch(again)[0] for _ in range(20)])
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[0], epoch(other)[0])
    # Of 200 draws about half are of either view: 100 with a deviation of 7.
    assert 70 < (np.array(epochs) >= 100).sum() < 130


def test_the_second_view_is_the_mirror_image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), "uint8")
    for number, image in enumerate((pixels, pixels[::-1])):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    seen = []
    plain, mirrored = features.compute(
        lambda batch: tf.cast(batch, tf.float32).numpy(),
        [str(tmp_path / "0.png"), str(tmp_path / "1.png")],
        kc.Preprocessing((4, 6)),
        seen.append,
        [tmp_path / "plain.npy", tmp_path / "mirrored.npy"],
    )
    np.testing.assert_array_equal(plain, [pixels, pixels[::-1]])
    np.testing.assert_array_equal(mirrored, [pixels[:, ::-1], pixels[::-1, ::-1]])
    assert sum(seen) == 2


class Weights:
    """A stand-in for a model: its weights are whatever was set last."""

    def __init__(self):
        self.value = "start"

    def get_weights(self):
        return self.value

    def set_weights(self, value):
        self.value = value


@pytest.mark.parametrize(
    ("start", "epochs", "kept"),
    [
        ((0.5, 1.0), [(0.6, 1.0), (0.8, 0.9), (0.8, 0.7), (0.7, 0.1)], "epoch 3"),  # accuracy first, then the loss
        ((0.9, 1.0), [(0.6, 0.1), (0.8, 0.1)], "start"),
        ((0.5, 1.0), [(0.5, 1.0)], "start"),
    ],
)
def test_the_best_weights_stay(start, epochs, kept):
    keeper = KeepBest(dict(zip(("accuracy", "loss"), start, strict=True)))
    model = Weights()
    keeper.set_model(model)
    keeper.on_train_begin()
    for number, (accuracy, loss) in enumerate(epochs, 1):
        model.value = f"epoch {number}"
        keeper.on_epoch_end(number, {"val_accuracy": accuracy, "val_crossentropy": loss})
    keeper.on_train_end()
    assert model.value == kept
    assert keeper.best["accuracy"] == max(accuracy for accuracy, _ in epochs)
