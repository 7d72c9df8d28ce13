"""Batches: each example once per epoch, the same for one seed whatever the threads, starting at any step."""

import gc
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.numbered_images import SIZE, batches_are_equal, numbered

import keras_cnn as kc
from pipelines.augment import Augmentation, preset
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.image_batches import ImageBatches

ROOT = Path(__file__).parents[3]
AUGMENTED = Augmentation(min_crop_area=0.5, horizontal_flip=True, brightness=0.3, mixup=0.4, cutmix=1.0)


def indices_in(dataset):
    """The indices of numbered images, batch by batch."""
    return [batch[0].numpy()[:, 0, 0, 0].astype(int).tolist() for batch in dataset]


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 4), (1, 1)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_epoch_holds_every_example_once(count, batch_size, shuffle):
    images, steps = numbered(count), -(-count // batch_size)
    batches = ImageBatches(images, np.arange(count), SIZE, batch_size, classes=count, shuffle=shuffle)
    dataset = batches.epochs(3)
    assert batches.steps == steps and dataset.cardinality() == 3 * steps
    found = indices_in(dataset)
    epochs = [np.concatenate(found[i : i + steps]) for i in range(0, len(found), steps)]
    assert len(epochs) == 3
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(count)] * 3)
    assert np.array_equal(epochs, np.sort(epochs)) == (not shuffle or count == 1)


def test_images_and_targets_stay_together():
    images, labels = numbered(10), np.arange(10) * 7 % 10
    for targets, classes in ((labels, 10), (np.eye(10)[labels], None), (np.tri(10)[labels], None)):
        for batch, found in ImageBatches(images, targets, SIZE, 4, classes=classes)(0):
            indices = batch.numpy()[:, 0, 0, 0].astype(int)
            np.testing.assert_array_equal(batch, images[indices])
            expected = targets[indices] if classes is None else np.eye(10)[targets[indices]]
            np.testing.assert_array_equal(found, expected)
            assert batch.dtype == found.dtype == tf.float32


@pytest.mark.parametrize(
    ("augmentation", "starts"),
    [(Augmentation(), [(0, 1), (1, 0), (2, 2), (1, 3)]), (AUGMENTED, [(1, 2)])],
    ids=["plain", "augmented"],
)
def test_a_start_in_the_middle_gives_what_an_uninterrupted_run_gives(augmentation, starts):
    images = numbered(10, augmentation.stored_size(SIZE))
    batches = ImageBatches(images, np.arange(10), SIZE, 4, classes=10, augmentation=augmentation, seed=3)
    whole = list(batches.epochs(3))
    assert [len(batch[0]) for batch in whole] == [4, 4, 2] * 3
    for epoch, step in starts:
        rest = batches(epoch, step)
        assert rest.cardinality() == 3 - step
        assert batches_are_equal(list(rest), whole[epoch * 3 + step : epoch * 3 + 3])
    assert not batches_are_equal(whole[:3], whole[3:6])


def test_threads_do_not_matter():
    images = numbered(40, AUGMENTED.stored_size(SIZE))
    found = []
    for threads in (1, 8):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        batches = ImageBatches(images, np.arange(40), SIZE, 4, classes=40, augmentation=AUGMENTED)
        found.append(list(batches(1).with_options(options)))
    assert batches_are_equal(*found)


def test_the_batch_size_changes_no_augmented_image():
    augmentation = Augmentation(horizontal_flip=True, brightness=0.3)
    options = {"classes": 10, "augmentation": augmentation}
    found = [
        np.concatenate([images for images, _ in ImageBatches(numbered(10), np.arange(10), SIZE, size, **options)(0)])
        for size in (3, 10)
    ]
    np.testing.assert_array_equal(*found)


def test_balanced_batches():
    labels = np.repeat([0, 1], [2, 8])
    sampled = ImageBatches(numbered(10), labels, SIZE, 5, classes=2, balance="sampling")
    assert np.concatenate([targets for _, targets in sampled(0)]).sum(0).tolist() == [5, 5]
    weighted = ImageBatches(
        numbered(10), np.eye(2)[labels], SIZE, 5, balance="weights", augmentation=Augmentation(mixup=0.4)
    )
    for _, targets, weights in weighted(0):
        np.testing.assert_allclose(weights, targets.numpy() @ [10 / (2 * 2), 10 / (2 * 8)], rtol=1e-5)


def test_fit_goes_through_all_epochs():
    class Recorder(keras.Model):
        def __init__(self):
            super().__init__()
            self.indices = []

        def train_step(self, data):
            self.indices.append(data[0].numpy()[:, 0, 0, 0].astype(int).tolist())
            return {"loss": 0.0}

    model = Recorder()
    model.compile(run_eagerly=True)
    batches = ImageBatches(numbered(10), np.arange(10), SIZE, 4, classes=10)
    model.fit(batches.epochs(3), epochs=3, steps_per_epoch=batches.steps, shuffle=False, verbose=0)
    assert [len(indices) for indices in model.indices] == [4, 4, 2] * 3
    for first in (0, 3, 6):
        assert sorted(np.concatenate(model.indices[first : first + 3])) == list(range(10))


def test_full_batches_have_a_static_size():
    for count, expected in ((8, 4), (10, None)):
        batches = ImageBatches(numbered(count), np.arange(count), SIZE, 4, classes=count)
        images, targets = batches(0).element_spec
        assert images.shape == (expected, *SIZE, 3) and targets.shape == (expected, count)
        assert len(indices_in(batches(0))) == batches.steps == (3 if expected is None else 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 0}, "ImageBatches: `batch_size` must be an integer of at least 1. Received: batch_size=0."),
        ({"seed": -1}, "ImageBatches: `seed` must be an integer of at least 0. Received: seed=-1."),
        (
            {"balance": "all"},
            "ImageBatches: `balance` must be one of None, 'sampling', 'weights'. Received: balance='all'.",
        ),
        (
            {"source": numbered(9)},
            "ImageBatches: `source` must be uint8 (10, 8, 6, 3), one image per target. Received: source='uint8 (9, 8, 6, 3)'.",
        ),
        (
            {"augmentation": preset("light")},
            "ImageBatches: `source` must be uint8 (10, 10, 7, 3), one image per target. "
            "Received: source='uint8 (10, 8, 6, 3)'.",
        ),
        (
            {"classes": 9},
            "ImageBatches: `targets` must be class numbers from 0 to `classes` - 1, or one row of numbers per example. "
            "Received: targets='0 to 9, classes=9'.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_do_not_fit_together_are_refused(change, text):
    good = {"source": numbered(10), "targets": np.arange(10), "size": SIZE, "batch_size": 4, "classes": 10}
    with pytest.raises(ValueError) as error:
        ImageBatches(**{**good, **change})
    assert str(error.value) == text


def test_several_labels_cannot_be_balanced():
    with pytest.raises(
        ValueError, match=r"^ImageBatches: `targets` must be one-hot where `balance` is given. Received: .*1, 1, 0"
    ):
        ImageBatches(numbered(2), np.array([[0, 1, 0], [1, 1, 0]]), SIZE, 1, balance="weights")


@pytest.mark.slow
def test_an_interrupted_fit_resumes_within_the_epoch(tmp_path):
    class Interruption(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 9:  # of 6 steps per epoch
                raise KeyboardInterrupt

    def fit(directory, *callbacks):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((*SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(22, "softmax")]
        model, resume = keras.Sequential(layers), kc.training.ExactResume(directory, seconds=0)
        model.compile("adam", "categorical_crossentropy")
        augmentation = Augmentation(horizontal_flip=True, brightness=0.2)
        batches = ImageBatches(numbered(22), np.arange(22), SIZE, 4, classes=22, augmentation=augmentation)
        model.fit(resume.data(batches), epochs=3, callbacks=[resume, *callbacks], shuffle=False, verbose=0)
        return model.get_weights()

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a", Interruption())
    for interrupted, whole in zip(fit(tmp_path / "a"), fit(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(interrupted, whole)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_epochs():
    images = numbered(64, AUGMENTED.stored_size((64, 64)))
    batches = ImageBatches(images, np.arange(64), (64, 64), 16, classes=64, augmentation=AUGMENTED)
    used = []
    for number, _ in enumerate(batches.epochs(100)):
        if number in (80, 399):  # after 20 epochs and after all
            used.append(memory())
    for epoch in range(40):
        list(batches(epoch))
        if epoch in (20, 39):
            used.append(memory())
    # Had a quarter of each epoch's images stayed, the growth would reach these limits. The allocator's own is up to
    # 5 MB in a process that has run hundreds of other tests.
    quarter = images.nbytes / 2**20 / 4
    assert used[1] - used[0] < 80 * quarter and used[3] - used[2] < 19 * quarter


def memory():
    """Megabytes of memory of this process, mapped files excluded."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1024


@pytest.mark.slow
def test_images_on_the_disk_are_not_read_into_memory(tmp_path):
    size = (256, 256)
    array = ArrayCache(tmp_path).get_or_compute(
        "a", (1000, *size, 3), "uint8", lambda array: array.fill(7)
    )  # 188 megabytes
    before = memory()
    batches = ImageBatches(array, np.zeros(1000, int), size, 4, classes=1)
    for images, _ in batches(0).take(20):
        assert images.numpy().min() == images.numpy().max() == 7
    assert memory() - before < 60


INTERRUPTED = """
import numpy as np
from pipelines.augment import preset
from pipelines.datasets.image_batches import ImageBatches
images = np.zeros((64, 256, 256, 3), "uint8")
batches = ImageBatches(images, np.zeros(64, int), (224, 224), 16, classes=1, augmentation=preset("light"))
iterator = iter(batches.epochs(50))
next(iterator)
raise KeyboardInterrupt
"""


@pytest.mark.slow
def test_an_interrupted_process_ends():
    """With Python inside the pipeline three of eight such processes hung forever."""
    for _ in range(6):
        result = subprocess.run(
            [sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, timeout=100, check=False
        )
        assert b"KeyboardInterrupt" in result.stderr
