"""Images of another size after training: which size, the same network, its head, and when it is chosen."""

import contextlib
import dataclasses
from pathlib import Path

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
from pipelines.recipes import within_a_time_limit
from pipelines.training.classifier import FINE_TUNED, LINEAR_PROBE, Classifier, at_other_size
from pipelines.training.head import fit_head
from pipelines.training.restarts import FitResult
from pipelines.training.size_after_training import check_input_size, choose_size, takes_size, with_size

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
        ({"preset": "best"}, (128, 192), (128, 192)),  # its proportions would change
        ({"preset": "best"}, (64, 64), (64, 64)),  # the next multiple of 32 is half as large again
        ({"preset": "best", "train": "stage2"}, (224, 224), (224, 224)),
        ({"preset": "best", "test_input_size": 224}, (224, 224), (224, 224)),
        ({}, (224, 224), (224, 224)),
        ({"test_input_size": 320}, (224, 224), (320, 320)),
        ({"test_input_size": 320, "preset": "fast"}, (224, 224), (224, 224)),  # as a time limit may choose
    ],
)
def test_the_size_after_training(options, size, expected):
    assert choose_size(defaults.choose(STAGES, 5_000, **options), size) == expected


@pytest.mark.parametrize(("train", "refused"), [("stage2", True), ("head", True), ("all", False), (None, False)])
def test_a_size_is_refused_where_the_user_trains_only_a_part(train, refused):
    with contextlib.ExitStack() as stack:
        if refused:
            expected = r"^fit: `test_input_size` must be None unless the whole network is trained"
            stack.enter_context(pytest.raises(InputError, match=expected))
        check_input_size(STAGES, {"train": train, "test_input_size": 48})


def test_no_candidate_within_a_time_limit_is_refused():
    for each in within_a_time_limit({"test_input_size": 48}):
        defaults.choose(STAGES, 5_000, **each, test_input_size=48)


def test_a_network_on_larger_images_is_the_same_network(head, tmp_path):
    """Its kernels do not overlap, so that a feature depends on 8 x 8 pixels alone, wherever these are."""
    other = with_size(head, (LARGER, LARGER), ArrayCache(tmp_path), QUIET)
    images = np.random.default_rng(0).uniform(0, 255, (2, LARGER, LARGER, 3)).astype("float32")
    corner = other.backbone.model(images)[:, : SIZE // 8, : SIZE // 8]
    np.testing.assert_allclose(corner, head.backbone.model(images[:, :SIZE, :SIZE]), rtol=1e-5, atol=1e-4)
    sizes = (other.model.input_shape, other.data.images.source.shape, other.backbone.preprocessing.size)
    assert sizes == ((None, LARGER, LARGER, 3), (36, LARGER, LARGER, 3), (LARGER, LARGER))


def test_layers_keep_what_is_no_weight_in_use(data, tmp_path):
    """`Normalization` computes with values that it made of its weights when it was adapted, and `set_weights` does not."""
    image = keras.Input((SIZE, SIZE, 3))
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(100, 50, (200, 3)))
    model = keras.Model(image, keras.layers.Identity(name="stage1")(normalization(image)))
    network = kc.Backbone(model, STAGES.stages[:1], kc.Preprocessing(SIZE), STAGES.source)
    head = fit_head(network, data, defaults.choose(network, 5_000, train="head"), ArrayCache(tmp_path), QUIET)
    images = np.full((1, LARGER, LARGER, 3), 100, "float32")
    larger = with_size(head, (LARGER, LARGER), ArrayCache(tmp_path), QUIET).backbone.model(images)
    assert np.abs(larger).max() < 0.5
    np.testing.assert_array_equal(larger[:, :SIZE, :SIZE], model(images[:, :SIZE, :SIZE]))


def test_an_image_that_is_torn_by_now_is_named(head, tmp_path):
    catalog, torn = head.data.catalog, tmp_path / "torn.png"
    torn.write_bytes(Path(catalog.paths[0]).read_bytes()[:100])
    catalog = dataclasses.replace(catalog, paths=(str(torn), *catalog.paths[1:]))
    changed = dataclasses.replace(head, data=dataclasses.replace(head.data, catalog=catalog))
    with pytest.raises(InputError, match=r"^fit: image files must stay as .*torn\.png cannot be read any more\.$"):
        with_size(changed, (LARGER, LARGER), ArrayCache(tmp_path), QUIET)


@pytest.fixture
def fixed_size():
    """A network of which one layer asks for 8 x 8 positions."""
    image = keras.Input((16, 16, 3))
    maps = keras.layers.Reshape((8, 8, 4))(keras.layers.Conv2D(4, 2, 2)(image))
    return kc.Backbone(keras.Model(image, maps, name="fixed"), STAGES.stages, kc.Preprocessing(16), STAGES.source)


def test_a_network_of_one_size_has_no_other(fixed_size):
    assert not takes_size(fixed_size, (32, 32)) and takes_size(STAGES, (64, 64))
    expected = r"^fit: `test_input_size` must be None, or a size that 'fixed' takes\. Received: test_input_size=32\.?$"
    with pytest.raises(InputError, match=expected):
        check_input_size(fixed_size, {"train": "all", "test_input_size": 32})
    for accepted in ({"test_input_size": 16}, {"preset": "best"}):
        check_input_size(fixed_size, accepted)


@pytest.mark.parametrize(("sure", "chosen"), [(False, LARGER), (True, SIZE)])
def test_validation_decides_on_the_size_of_a_preset(classifier, data, tmp_path, monkeypatch, sure, chosen):
    """Probabilities that know nothing are worse than any fitted head, those that know all labels are better."""
    monkeypatch.setattr("pipelines.training.size_after_training.RATIO", LARGER / SIZE)
    monkeypatch.setattr("pipelines.training.size_after_training.MULTIPLE", 16)
    truth = np.eye(3, dtype="float32")[data.targets("validation")]
    before = classifier(0.98 * truth + 0.02 / 3 if sure else np.full((12, 3), 1 / 3), preset="best")
    kernel = before.head.model.get_layer("logits").get_weights()[0]
    after = at_other_size(before, ArrayCache(tmp_path), QUIET)
    assert after.head.model.input_shape == (None, chosen, chosen, 3)
    (decision,) = [each for each in after.decisions if each.name == "test_input_size"]
    assert decision.value == str(chosen) and decision.reason.endswith("pixels (12 validation images)")
    assert after.has_learned_from_validation == (not sure)
    np.testing.assert_array_equal(before.head.model.get_layer("logits").get_weights()[0], kernel)
    if sure:
        np.testing.assert_array_equal(after.validation_probabilities, before.validation_probabilities)
    else:
        score = after.head.task.score(after.validation_probabilities, data.targets("validation"))
        assert after.validation[FINE_TUNED] == score and score["loss"] < np.log(3)


def test_a_size_that_is_given_is_used_in_any_case(classifier, data, tmp_path):
    truth = np.eye(3, dtype="float32")[data.targets("validation")]
    after = at_other_size(classifier(truth, test_input_size=LARGER), ArrayCache(tmp_path), QUIET)
    assert after.head.model.input_shape == (None, LARGER, LARGER, 3)
    (decision,) = [each for each in after.decisions if each.name == "test_input_size"]
    assert decision.value == str(LARGER) and decision.reason.startswith("as given; loss ")
    (selected,) = [each for each in after.decisions if each.name == "selected"]
    assert "accuracy 100.0 % against" in selected.reason  # at the size of training, where it was selected
    saved = tmp_path / "model.keras"
    after.head.model.save(saved)
    images = np.random.default_rng(0).uniform(0, 255, (2, LARGER, LARGER, 3)).astype("float32")
    np.testing.assert_array_equal(keras.models.load_model(saved)(images), after.head.model(images))


def test_a_given_size_that_is_not_used_is_reported(classifier, tmp_path):
    probe = dataclasses.replace(classifier(np.full((12, 3), 1 / 3), test_input_size=LARGER), selected=LINEAR_PROBE)
    after = at_other_size(probe, ArrayCache(tmp_path), QUIET)
    assert after.head.model.input_shape == (None, SIZE, SIZE, 3)
    assert [each.value for each in after.decisions if each.name == "test_input_size"] == [str(SIZE)]
