"""From files to batches: each example once an epoch, the same for a seed whatever the threads, from any step on."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_cnn as kc
from pipelines import InputError
from pipelines.augment import Augmentation, preset
from pipelines.datasets import image_files, order
from pipelines.datasets.array_cache import Cache
from pipelines.datasets.image_batches import Batches
from pipelines.datasets.image_files import stored

ROOT = Path(__file__).parent.parent
SIZE = (8, 6)
VARIED = Augmentation(smallest_crop=0.5, mirror=True, brightness=0.3, mixup=0.4, cutmix=1.0)


def numbered(count, size=SIZE):
    """An array of images whose first pixel tells their row, all else is noise."""
    images = np.random.default_rng(1).integers(0, 256, (count, *size, 3), "uint8")
    images[:, 0, 0] = np.arange(count)[:, None]
    return images


def rows_in(dataset):
    """The rows of numbered images, batch by batch."""
    return [batch[0].numpy()[:, 0, 0, 0].astype(int).tolist() for batch in dataset]


def same(one, other):
    """Whether two lists of batches are equal to the bit."""
    pairs = list(zip(one, other, strict=True))
    return all(np.array_equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


@pytest.fixture
def photos(tmp_path):
    """Twelve small JPEG files, and their pixels as Pillow decodes them."""
    files = []
    for number in range(12):
        files.append(str(tmp_path / f"é{number}.png"))
        Image.fromarray(numbered(12, (20, 30))[number]).save(files[-1])
    return files


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 4), (1, 1)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_epoch_holds_every_example_once(count, batch_size, shuffle):
    images, steps = numbered(count), -(-count // batch_size)
    batches = Batches(images, np.arange(count), SIZE, batch_size, classes=count, shuffle=shuffle)
    dataset = batches.epochs(3)
    assert batches.steps == steps and dataset.cardinality() == 3 * steps
    found = rows_in(dataset)
    epochs = [np.concatenate(found[i : i + steps]) for i in range(0, len(found), steps)]
    assert len(epochs) == 3
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(count)] * 3)
    assert np.array_equal(epochs, np.sort(epochs)) == (not shuffle or count == 1)


def test_images_and_targets_belong_together():
    images, labels = numbered(10), np.arange(10) * 7 % 10
    for targets, classes in ((labels, 10), (np.eye(10)[labels], None), (np.tri(10)[labels], None)):
        for pictures, found in Batches(images, targets, SIZE, 4, classes=classes)(0):
            rows = pictures.numpy()[:, 0, 0, 0].astype(int)
            np.testing.assert_array_equal(pictures, images[rows])
            expected = targets[rows] if classes is None else np.eye(10)[targets[rows]]
            np.testing.assert_array_equal(found, expected)
            assert pictures.dtype == found.dtype == tf.float32


def test_orders_depend_on_seed_and_epoch_and_are_unlike():
    orders = {(seed, epoch): order.shuffled(1000, seed, epoch).numpy() for seed in range(2) for epoch in range(10)}
    assert all((np.sort(rows) == np.arange(1000)).all() for rows in orders.values())
    np.testing.assert_array_equal(order.shuffled(1000, 1, 3), orders[1, 3])
    correlations = np.corrcoef(list(orders.values())) - np.eye(20)
    assert np.abs(correlations).max() < 5 / np.sqrt(1000)


def test_small_orders_are_all_equally_likely():
    run = tf.function(lambda: tf.map_fn(lambda epoch: order.shuffled(4, 0, epoch), tf.range(2400, dtype=tf.int64)))
    _, counts = np.unique(run(), axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 100) ** 2 / 100).sum() < 50  # chi-squared, 23 degrees of freedom: 1 in 1,000


@pytest.mark.parametrize(
    ("augmentation", "starts"),
    [(Augmentation(), [(0, 1), (1, 0), (2, 2), (1, 3)]), (VARIED, [(1, 2)])],
    ids=["plain", "varied"],
)
def test_a_start_in_the_middle_gives_what_an_uninterrupted_run_gives(augmentation, starts):
    images = numbered(10, augmentation.stored_size(SIZE))
    batches = Batches(images, np.arange(10), SIZE, 4, classes=10, augmentation=augmentation, seed=3)
    whole = list(batches.epochs(3))
    assert [len(batch[0]) for batch in whole] == [4, 4, 2] * 3
    for epoch, step in starts:
        rest = batches(epoch, step)
        assert rest.cardinality() == 3 - step
        assert same(list(rest), whole[epoch * 3 + step : epoch * 3 + 3])
    assert not same(whole[:3], whole[3:6])


def test_threads_do_not_matter():
    images = numbered(40, VARIED.stored_size(SIZE))
    found = []
    for threads in (1, 8):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        batches = Batches(images, np.arange(40), SIZE, 4, classes=40, augmentation=VARIED)
        found.append(list(batches(1).with_options(options)))
    assert same(*found)


def test_the_batch_size_changes_no_view():
    augmentation = Augmentation(mirror=True, brightness=0.3)
    options = {"classes": 10, "augmentation": augmentation}
    found = [
        np.concatenate([pictures for pictures, _ in Batches(numbered(10), np.arange(10), SIZE, size, **options)(0)])
        for size in (3, 10)
    ]
    np.testing.assert_array_equal(*found)


def test_balanced_sampling_gives_all_classes_alike():
    labels = np.repeat([0, 2, 5], [2, 7, 31])
    draw = order.balanced(labels)
    counts = np.array([np.bincount(draw(0, epoch).numpy(), minlength=40) for epoch in range(50)])
    by_class = np.stack([counts[:, labels == name].sum(1) for name in (0, 2, 5)], 1)
    np.testing.assert_array_equal(by_class, [[14, 13, 13]] * 50)
    assert (counts[:, :2] == 7).all()
    assert set(counts[:, 2:9].ravel()) == {1, 2} and set(counts[:, 9:].ravel()) == {0, 1}
    assert (counts[:, 9:].sum(0) > 5).all()  # 13 of 31 in each of 50 epochs: 21 times, with a deviation of 3.5
    orders = [draw(0, epoch).numpy() for epoch in range(2)]
    assert (orders[0] != orders[1]).any() and (labels[orders[0]] != labels[orders[1]]).any()


def test_class_weights_are_those_of_scikit_learn():
    # sklearn.utils.class_weight.compute_class_weight("balanced", ...) on these labels
    np.testing.assert_allclose(order.class_weights(np.array([0, 0, 0, 1, 3, 3]), 4), [2 / 3, 2, 0, 1])


def test_balanced_batches():
    labels = np.repeat([0, 1], [2, 8])
    sampled = Batches(numbered(10), labels, SIZE, 5, classes=2, balance="sampling")
    assert np.concatenate([targets for _, targets in sampled(0)]).sum(0).tolist() == [5, 5]
    weighted = Batches(
        numbered(10), np.eye(2)[labels], SIZE, 5, balance="weights", augmentation=Augmentation(mixup=0.4)
    )
    for _, targets, weights in weighted(0):
        np.testing.assert_allclose(weights, targets.numpy() @ [10 / (2 * 2), 10 / (2 * 8)], rtol=1e-5)


def test_fit_goes_through_all_epochs():
    class Seen(keras.Model):
        def __init__(self):
            super().__init__()
            self.rows = []

        def train_step(self, data):
            self.rows.append(data[0].numpy()[:, 0, 0, 0].astype(int).tolist())
            return {"loss": 0.0}

    model = Seen()
    model.compile(run_eagerly=True)
    batches = Batches(numbered(10), np.arange(10), SIZE, 4, classes=10)
    model.fit(batches.epochs(3), epochs=3, steps_per_epoch=batches.steps, shuffle=False, verbose=0)
    assert [len(rows) for rows in model.rows] == [4, 4, 2] * 3
    for first in (0, 3, 6):
        assert sorted(np.concatenate(model.rows[first : first + 3])) == list(range(10))


def test_full_batches_have_a_static_size():
    for count, drop, expected in ((8, False, 4), (10, True, 4), (10, False, None)):
        batches = Batches(numbered(count), np.arange(count), SIZE, 4, classes=count, drop_remainder=drop)
        images, targets = batches(0).element_spec
        assert images.shape == (expected, *SIZE, 3) and targets.shape == (expected, count)
        assert len(rows_in(batches(0))) == batches.steps == (3 if expected is None else 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 0}, "Batches: `batch_size` must be an integer of at least 1. Received: batch_size=0."),
        ({"seed": -1}, "Batches: `seed` must be an integer of at least 0. Received: seed=-1."),
        ({"balance": "all"}, "Batches: `balance` must be one of None, 'sampling', 'weights'. Received: balance='all'."),
        (
            {"source": numbered(9)},
            "Batches: `source` must be uint8 (10, 8, 6, 3), an image a target. Received: source='uint8 (9, 8, 6, 3)'.",
        ),
        (
            {"augmentation": preset("light")},
            "Batches: `source` must be uint8 (10, 10, 7, 3), an image a target. Received: source='uint8 (10, 8, 6, 3)'.",
        ),
        (
            {"classes": 9},
            "Batches: `targets` must be class numbers from 0 to `classes` - 1, or rows of numbers. "
            "Received: targets='0 to 9, classes=9'.",
        ),
        (
            {"batch_size": 11, "drop_remainder": True},
            "Batches: `batch_size` must be at most 10. Received: batch_size=11. "
            "Leave drop_remainder off, or take smaller batches.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused(change, text):
    good = {"source": numbered(10), "targets": np.arange(10), "size": SIZE, "batch_size": 4, "classes": 10}
    with pytest.raises(ValueError) as error:
        Batches(**{**good, **change})
    assert str(error.value) == text


def test_several_labels_cannot_be_balanced():
    with pytest.raises(
        ValueError, match=r"^Batches: `targets` must be one-hot where `balance` is given. Received: .*1, 1, 0"
    ):
        Batches(numbered(2), np.array([[0, 1, 0], [1, 1, 0]]), SIZE, 1, balance="weights")


def test_decoded_images_are_kept(photos, tmp_path, monkeypatch):
    cache, preprocessing = Cache(tmp_path / "cache"), kc.Preprocessing((20, 30))
    done = []
    first = stored(photos, preprocessing, cache, done.append)
    assert sum(done) == 12 and first.dtype == np.uint8
    np.testing.assert_array_equal(first, numbered(12, (20, 30)))
    monkeypatch.setattr(image_files, "decoded", None)  # nothing is decoded from here on
    np.testing.assert_array_equal(stored(photos, preprocessing, cache, done.append), first)
    assert sum(done) == 24


@pytest.mark.parametrize("change", ["nothing", "content", "size", "background", "order", "decoder"])
def test_what_is_kept_is_forgotten_when_anything_changes(photos, tmp_path, monkeypatch, change):
    cache, preprocessing, decoded = Cache(tmp_path / "cache"), kc.Preprocessing((20, 30)), []

    def decode(paths, preprocessing, dtype):
        decoded.append(paths)
        images = np.zeros((len(paths), *preprocessing.size, 3), "uint8")
        return tf.data.Dataset.from_tensor_slices((np.arange(len(paths)), images))

    monkeypatch.setattr(image_files, "decoded", decode)
    stored(photos, preprocessing, cache)
    if change == "content":
        Path(photos[5]).write_bytes(b"another")
    elif change == "size":
        preprocessing = kc.Preprocessing((20, 29))
    elif change == "background":
        preprocessing = kc.Preprocessing((20, 30), background=0)
    elif change == "order":
        photos = photos[::-1]
    elif change == "decoder":
        monkeypatch.setattr(image_files, "code", lambda package: ["another"])
    stored(photos, preprocessing, cache)
    assert len(decoded) == (1 if change == "nothing" else 2)


def test_files_are_decoded_each_time_where_nothing_can_be_kept(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 1)  # no memory to speak of
    with pytest.warns(UserWarning, match=r"^The images are decoded again in every epoch. 0.0 GiB cannot be kept"):
        files = stored(photos, kc.Preprocessing((20, 30)), Cache(tmp_path / "cache", limit=1))
    monkeypatch.undo()
    found = [
        list(Batches(source, np.arange(12), (20, 30), 5, classes=12).epochs(2))
        for source in (files, numbered(12, (20, 30)))
    ]
    assert len(found[0]) == 6 and same(*found)


def test_a_file_that_vanishes_is_named(photos, tmp_path):
    preprocessing = kc.Preprocessing((20, 30))
    files = image_files.Files(photos, preprocessing)
    batches = Batches(files, np.arange(12), (20, 30), 5, classes=12)
    os.remove(photos[7])
    text = f"^{photos[7]} was readable a moment ago and is not any more. Keep the data as it is while a job runs.$"
    with pytest.raises(InputError, match=text), files.named_in_errors():
        list(batches(0))
    for make in (
        lambda: image_files.Files(photos, preprocessing),
        lambda: stored(photos, preprocessing, Cache(tmp_path / "c")),
    ):
        with pytest.raises(InputError, match=text):
            make()
    with pytest.raises(tf.errors.OpError), image_files.Files(photos[:7], preprocessing).named_in_errors():
        tf.io.decode_image(b"")  # not the files' fault


def test_a_file_that_is_cut_off_while_it_is_decoded_is_named(photos, tmp_path):
    Path(photos[3]).write_bytes(Path(photos[3]).read_bytes()[:100])
    with pytest.raises(InputError, match=f"^{photos[3]} was readable"):
        stored(photos, kc.Preprocessing((20, 30)), Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*/array.npy"))


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_in_mid_epoch(tmp_path):
    class Interruption(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 9:  # of 6 steps an epoch
                raise KeyboardInterrupt

    def fit(directory, *callbacks):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((*SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(22, "softmax")]
        model, resume = keras.Sequential(layers), kc.training.ExactResume(directory, seconds=0)
        model.compile("adam", "categorical_crossentropy")
        varied = Augmentation(mirror=True, brightness=0.2)
        batches = Batches(numbered(22), np.arange(22), SIZE, 4, classes=22, augmentation=varied)
        model.fit(resume.data(batches), epochs=3, callbacks=[resume, *callbacks], shuffle=False, verbose=0)
        return model.get_weights()

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a", Interruption())
    for interrupted, whole in zip(fit(tmp_path / "a"), fit(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(interrupted, whole)


@pytest.mark.slow
def test_memory_is_flat():
    images = numbered(64, VARIED.stored_size((64, 64)))
    batches = Batches(images, np.arange(64), (64, 64), 16, classes=64, augmentation=VARIED)
    taken = []
    for number, _ in enumerate(batches.epochs(100)):
        if number in (80, 399):  # after 20 epochs and after all
            taken.append(memory())
    for epoch in range(40):
        list(batches(epoch))
        if epoch in (20, 39):
            taken.append(memory())
    assert taken[1] - taken[0] < 4 and taken[3] - taken[2] < 8


def memory():
    """Megabytes of this process that are not files."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1024


@pytest.mark.slow
def test_images_on_disk_stay_there(tmp_path):
    size = (256, 256)
    array = Cache(tmp_path).array("a", (1000, *size, 3), "uint8", lambda array: array.fill(7))  # 188 megabytes
    before = memory()
    batches = Batches(array, np.zeros(1000, int), size, 4, classes=1)
    for images, _ in batches(0).take(20):
        assert images.numpy().min() == images.numpy().max() == 7
    assert memory() - before < 60


ENDS = """
import numpy as np
from pipelines.augment import preset
from pipelines.datasets.image_batches import Batches
images = np.zeros((64, 256, 256, 3), "uint8")
batches = Batches(images, np.zeros(64, int), (224, 224), 16, classes=1, augmentation=preset("light"))
iterator = iter(batches.epochs(50))
next(iterator)
raise KeyboardInterrupt
"""


@pytest.mark.slow
def test_a_process_ends_in_mid_epoch():
    """With Python inside the pipeline three of eight such processes hung for ever."""
    for _ in range(6):
        result = subprocess.run([sys.executable, "-c", ENDS], cwd=ROOT, capture_output=True, timeout=100, check=False)
        assert b"KeyboardInterrupt" in result.stderr
