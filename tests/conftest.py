"""Fixtures that several test files share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gc
import hashlib
import random
import shutil

import hypothesis
import pytest

import pipelines  # noqa: F401 - it switches oneDNN on, before TensorFlow is loaded

hypothesis.settings.register_profile("no deadline", deadline=None)  # which a busy machine would miss
hypothesis.settings.load_profile("no deadline")

USING_JOB = ("test_cli.py", "test_fine_tuning.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file of tests in one process, and those that use `job` in the same, so that it is made once."""
    from xdist.scheduler import LoadFileScheduling

    class WithJob(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "job" if file.endswith(USING_JOB) else file

    return WithJob(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_finish(session):
    """The garbage collector passes over what all tests share, and runs less often: it took a twentieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True, scope="session")
def nobody_waits_for_the_disk():
    """`os.fsync` only checks its argument: a test cannot see more, and a busy disk lets it wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", os.fstat)
        yield


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Initial weights are the same in every run: what a test finds, it finds again."""
    random.seed(0)  # from which Keras draws the seeds of its layers


@pytest.fixture(autouse=True, scope="session")
def compiled_operations_stay():
    """`keras.utils.set_random_seed` sets all seeds but TensorFlow's own, which would empty TensorFlow's caches each time."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        yield None
        return
    import tensorflow as tf

    real = tf.random.set_seed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.random, "set_seed", lambda seed: None)
        yield real


@pytest.fixture(scope="module")
def seed_of_tensorflow(compiled_operations_stay):
    """`keras.utils.set_random_seed` sets it after all, for tests that shuffle by it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorflow.random.set_seed", compiled_operations_stay)
        yield


@pytest.fixture(scope="session")
def sample_photos(tmp_path_factory):
    """A folder with eight drawings of each of three classes, from the embedded sample."""
    from pipelines.sample import DIRECTORY

    folder = tmp_path_factory.mktemp("photos")
    for label in ("birds", "music", "plants"):
        (folder / label).mkdir()
        for path in sorted((DIRECTORY / label).iterdir())[:8]:
            shutil.copy(path, folder / label)
    return folder


@pytest.fixture(scope="module")
def versions_loaded_once():
    """Commands of a test file load a version only once, which takes seconds; no command changes a version."""
    from pipelines.evaluation import prediction

    load, loaded = prediction.load_signature, {}

    def load_once(saved_model, trust=False):
        content = (prediction.find_version(saved_model) / "saved_model.pb").read_bytes()
        key = hashlib.sha256(content).digest(), trust
        if key not in loaded:
            loaded[key] = load(saved_model, trust)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "load_signature", load_once)
        yield


@pytest.fixture
def decoded_file_by_file(monkeypatch):
    """Images are decoded without a `tf.data` pipeline, for tests of what is made of them."""
    from helpers.file_by_file import decode_files

    monkeypatch.setattr("pipelines.datasets.image_files.decode_files", decode_files)


@pytest.fixture(scope="session")
def job(sample_photos, tmp_path_factory):
    """A job on 24 drawings, two broken files and a text among them: its result, the callback it was given, its photos."""
    import keras
    from helpers.networks import random_backbone
    from helpers.serving_cases import in_this_process

    from keras_cnn.serving import verification
    from pipelines import fine_tune

    class Witness(keras.callbacks.Callback):
        """Counts epochs, and names the layers that the training of the later stages has changed by its end."""

        def on_train_begin(self, logs=None):
            self.epochs, self.start = 0, self._weights()

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1
            self.moved = {
                path.split("/")[0] for path, value in self._weights().items() if (value != self.start[path]).any()
            }

        def _weights(self):
            return {w.path: keras.ops.convert_to_numpy(w).copy() for w in self.model.weights}

    photos = tmp_path_factory.mktemp("data") / "photos"
    shutil.copytree(sample_photos, photos)
    (photos / "birds" / "torn.png").write_bytes((photos / "birds" / "duck.png").read_bytes()[:200])
    (photos / "music" / "empty.jpg").touch()
    (photos / "music" / "notes.txt").write_text("do re mi")
    witness = Witness()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "_run", in_this_process)
        options = {"train": "last", "epochs": 2, "learning_rate": 1e-3, "augmented_copies": 2}  # one rate: no race
        out = photos.parent / "out"
        result = fine_tune(photos, out, random_backbone(), callbacks=[witness], progress=False, **options)
    return result, witness, photos
