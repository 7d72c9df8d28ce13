"""A real job, of a small network on coloured squares, that is killed at places all over its life and then run again."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.killing import Files
from helpers.serving_cases import in_this_process
from PIL import Image

import keras_cnn as kc
from keras_cnn.backbones import Stage
from keras_cnn.serving import verification
from pipelines import fine_tune
from pipelines.runs import records

PLACES = 8


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Eight squares of each of three colours, with noise."""
    folder, random = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for colour, pixel in {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}.items():
        (folder / colour).mkdir()
        for number in range(8):
            noise = random.integers(0, 50, (16, 16, 3), "uint8")
            Image.fromarray(np.array(pixel, "uint8") + noise).save(folder / colour / f"{number}.png")
    return folder


def network():
    """Two stages, the same weights each time."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="second")(x)
    stages = (Stage("first", 2, 4), Stage("second", 4, 8))
    return kc.Backbone(keras.Model(inputs, x, name="small"), stages, kc.Preprocessing(16), "made here")


def job(squares, place, train):
    options = {
        "train": train,
        "epochs": 2,
        "batch_size": 8,
        "crop_fraction": 1.0,
        "horizontal_flip": True,
        "progress": False,
    }
    return fine_tune(squares, place / "out", network(), **options)


def assert_published_are_whole(out):
    """Every version loads, has its run, and answers as the model in it does."""
    for version in (path for path in out.iterdir() if path.name.isdigit()) if out.exists() else ():
        model = keras.models.load_model(out / "runs" / version.name / "model.keras")
        image = np.full((1, 16, 16, 3), 90, "uint8")
        answer = tf.saved_model.load(str(version)).signatures["predict_images"](images=tf.constant(image))
        np.testing.assert_allclose(
            answer["all_probabilities"].numpy().argmax(), model.predict(image, verbose=0).argmax()
        )
        assert (out / "runs" / version.name / "report.html").stat().st_size > 1000


def test_what_keras_makes_while_it_saves_a_model_lies_in_the_staging_folder(tmp_path, monkeypatch):
    """A kill in that moment leaves it there, where the next job removes it."""
    (tmp_path / "staging" / "run").mkdir(parents=True)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    backbone, made, real = network(), [], tempfile.mkdtemp

    def mkdtemp(*arguments, **options):
        made.append(real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    records.save_model(tmp_path / "staging" / "run", backbone.model)
    assert made and {Path(folder).parent for folder in made} == {tmp_path / "staging"}
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["run"]
    assert tempfile.gettempdir() == str(tmp_path / "temporary")


@pytest.mark.slow
@pytest.mark.parametrize(("train", "places"), [("all", PLACES), ("last", 4)])
def test_killed_at_places_all_over_its_life_a_job_ends_as_if_it_had_not_been(
    squares, tmp_path, monkeypatch, train, places
):
    monkeypatch.setattr(verification, "_run", in_this_process)

    def at(number):
        """A place of its own for a job, with its cache and its temporary files."""
        place = tmp_path / str(number)
        (place / "temporary").mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(place / "temporary"))
        monkeypatch.setenv("KERAS_CNN_CACHE", str(place / "cache"))
        return place

    job(squares, at("warm"), train)  # what a process does once, it has done
    with Files(monkeypatch) as files:
        whole = job(squares, at("whole"), train)
    expected = keras.models.load_model(whole.run / "model.keras").get_weights()
    assert len(whole.metrics["validation"]) == 2 and files.count > 150
    # A slow machine takes a checkpoint more. The last steps are tried one by one in another test.
    for number in np.linspace(1, files.count - 15, places, dtype=int):
        place = at(number)
        with Files(monkeypatch, number) as killed:
            job(squares, place, train)
        assert killed.failed
        assert_published_are_whole(place / "out")
        found = job(squares, place, train)
        assert (found.run, found.export) == (place / "out" / "runs" / "1", place / "out" / "1")
        assert (found.accuracy, found.interval) == (whole.accuracy, whole.interval)
        assert found.metrics["validation"] == whole.metrics["validation"]
        for one, other in zip(keras.models.load_model(found.run / "model.keras").get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, other)
        assert_published_are_whole(place / "out")
        names = sorted(path.name for path in (place / "out").iterdir())
        assert names == [".lock", "1", "report.html", "runs", "serving"]
        assert [path.name for path in (place / "out" / "runs").iterdir()] == ["1"]
        assert list((place / "temporary").iterdir()) == []
        assert not list((place / "cache").glob(".staging-*"))
