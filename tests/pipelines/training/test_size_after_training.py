"""Images of another size after training: which size, the same network, its head, and when it is chosen."""

import dataclasses

import keras
import numpy as np
import pytest
from helpers.gray_images import SIZE, gray_images
from helpers.networks import staged_backbone

import keras_cnn as kc
from pipelines import defaults
from pipelines.datasets.array_cache import ArrayCache
from pipelines.errors import InputError
from pipelines.progress import Progress
from pipelines.training.classifier import FINE_TUNED, LINEAR_PROBE, Classifier, at_test_size
from pipelines.training.head import fit_head
from pipelines.training.restarts import FitResult
from pipelines.training.size_after_training import check_test_size, takes_size, with_size
from pipelines.training.size_after_training import test_size as size_after_training

QUIET = Progress(visible=False)
LARGER = 48
STAGES = staged_backbone("stage1", "stage2", "stage3")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return gray_images(tmp_path_factory.mktemp("data"), spread=0)


@pytest.fixture(scope="module")
def head(data, tmp_path_factory):
    """Of a network that is trained as a whole."""
    settings = defaults.choose(STAGES, 5_000, horizontal_flip=False, train="all")
    return fit_head(STAGES, data, settings, ArrayCache(tmp_path_factory.mktemp("cache")), QUIET)


@pytest.fixture
def classifier(head):
    """A function of validation probabilities and settings: that network, fine-tuned and selected."""

    def make(probabilities, **options):
        score = head.task.score(probabilities, head.truth)
        settings = dataclasses.replace(head.settings, **options)
        return Classifier(
            *(dataclasses.replace(head, settings=settings), FitResult([], score), FINE_TUNED, probabilities),
            validation={LINEAR_PROBE: head.score, FINE_TUNED: score},
        )

    return make


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({"preset": "best"}, (224, 224), (256, 256)),  # Touvron et al., 2019: 8/7 of the size of training
        ({"preset": "best"}, (128, 192), (160, 224)),
        ({"preset": "best"}, (64, 64), (64, 64)),  # the next multiple of 32 is half as large again
        ({"preset": "best", "train": "stage2"}, (224, 224), (224, 224)),
        ({"preset": "best", "test_size": 224}, (224, 224), (224, 224)),
        ({}, (224, 224), (224, 224)),
        ({"test_size": 320}, (224, 224), (320, 320)),
        ({"test_size": 320, "preset": "fast"}, (224, 224), (224, 224)),  # as a time limit may choose
    ],
)
def test_the_size_after_training(options, size, expected):
    assert size_after_training(defaults.choose(STAGES, 5_000, **options), size) == expected


def test_only_a_network_that_is_trained_as_a_whole_has_another_size():
    with pytest.raises(ValueError, match=r"^fit: `test_size` must be None unless the whole network is trained"):
        defaults.choose(STAGES, 5_000, train="stage2", test_size=48)


def test_a_network_on_larger_images_is_the_same_network(head, tmp_path):
    """Its kernels do not overlap, so that a feature depends on 8 x 8 pixels alone, wherever these are."""
    other = with_size(head, (LARGER, LARGER), ArrayCache(tmp_path), QUIET)
    images = np.random.default_rng(0).uniform(0, 255, (2, LARGER, LARGER, 3)).astype("float32")
    corner = other.backbone.model(images)[:, : SIZE // 8, : SIZE // 8]
    np.testing.assert_allclose(corner, head.backbone.model(images[:, :SIZE, :SIZE]), rtol=1e-5, atol=1e-4)
    sizes = (other.model.input_shape, other.data.images.source.shape, other.backbone.preprocessing.size)
    assert sizes == ((None, LARGER, LARGER, 3), (36, LARGER, LARGER, 3), (LARGER, LARGER))
    before = head.model.get_weights()
    other.model.set_weights([weight + 1 for weight in before])
    for one, two in zip(before, head.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.fixture
def fixed_size():
    """A network of which one layer asks for 8 x 8 positions."""
    image = keras.Input((16, 16, 3))
    maps = keras.layers.Reshape((8, 8, 4))(keras.layers.Conv2D(4, 2, 2)(image))
    return kc.Backbone(keras.Model(image, maps, name="fixed"), STAGES.stages, kc.Preprocessing(16), STAGES.source)


def test_a_network_of_one_size_has_no_other(fixed_size):
    assert not takes_size(fixed_size, (32, 32)) and takes_size(STAGES, (64, 64))
    settings = defaults.choose(STAGES, 5_000, train="all", test_size=32)
    expected = r"^fit: `test_size` must be None, because 'fixed' takes 16 pixels only\. Received: test_size=32\.?$"
    with pytest.raises(InputError, match=expected):
        check_test_size(fixed_size, settings)
    for accepted in ({"test_size": 16}, {"preset": "best"}):
        check_test_size(fixed_size, defaults.choose(STAGES, 5_000, train="all", **accepted))


@pytest.mark.parametrize(("sure", "chosen"), [(False, LARGER), (True, SIZE)])
def test_validation_decides_on_the_size_of_a_preset(classifier, data, tmp_path, monkeypatch, sure, chosen):
    """Probabilities that know nothing are worse than any fitted head, those that know all labels are better."""
    monkeypatch.setattr("pipelines.training.size_after_training.RATIO", LARGER / SIZE)
    monkeypatch.setattr("pipelines.training.size_after_training.MULTIPLE", 16)
    truth = np.eye(3, dtype="float32")[data.targets("validation")]
    before = classifier(0.98 * truth + 0.02 / 3 if sure else np.full((12, 3), 1 / 3), preset="best")
    kernel = before.head.model.get_layer("logits").get_weights()[0]
    after = at_test_size(before, ArrayCache(tmp_path), QUIET)
    assert after.head.model.input_shape == (None, chosen, chosen, 3)
    (decision,) = [each for each in after.decisions if each.name == "test_size"]
    assert decision.value == str(chosen) and decision.reason.endswith("pixels (12 validation images)")
    assert after.has_learned_from_validation == (not sure)
    np.testing.assert_array_equal(before.head.model.get_layer("logits").get_weights()[0], kernel)
    if sure:
        np.testing.assert_array_equal(after.validation_probabilities, before.validation_probabilities)
    else:
        score = after.head.task.score(after.validation_probabilities, data.targets("validation"))
        assert after.validation[FINE_TUNED] == score and score["loss"] < np.log(3)


def test_a_size_that_is_given_is_used_in_any_case_and_is_no_decision(classifier, data, tmp_path):
    truth = np.eye(3, dtype="float32")[data.targets("validation")]
    after = at_test_size(classifier(truth, test_size=LARGER), ArrayCache(tmp_path), QUIET)
    assert after.head.model.input_shape == (None, LARGER, LARGER, 3)
    assert [each.name for each in after.decisions].count("test_size") == 0
    saved = tmp_path / "model.keras"
    after.head.model.save(saved)
    images = np.random.default_rng(0).uniform(0, 255, (2, LARGER, LARGER, 3)).astype("float32")
    np.testing.assert_array_equal(keras.models.load_model(saved)(images), after.head.model(images))
