"""What the kept activations of varied views are a function of, and what of a network is trained."""

import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from test_settings import backbone

import keras_cnn as kc
from keras_cnn import surgery
from keras_cnn.builder import attach
from keras_cnn.training import fit_linear_probe
from pipelines import settings
from pipelines.datasets.array_cache import Cache
from pipelines.progress import Steps
from pipelines.training import feature_extractor
from pipelines.training.learning import Learning
from pipelines.training.task import OneLabel

NETWORK = SimpleNamespace(stages=[], model=None)


@pytest.fixture
def asked(monkeypatch):
    """A function of changes to the settings: the (key, epoch) of each view, and the augmentation that it was asked for."""
    chosen = settings.choose(NETWORK, 100, train="head", augmentation="strong", views=3, mirror=True)

    def ask(**changes):
        seen = []
        learning = Learning.__new__(Learning)
        learning.chosen = dataclasses.replace(chosen, **changes)
        learning._steps = SimpleNamespace(step=lambda name, total: nullcontext(lambda count: None))
        activations = lambda batches, key, view, progress, epoch: seen.append((key, epoch))  # noqa: E731
        learning._front = SimpleNamespace(activations=activations)
        learning._larger = lambda augmentation: ([], kc.Preprocessing(augmentation.stored_size((32, 32))))
        made = []

        def batches(augmentation, batch_size, shuffle):
            made.append(augmentation)
            return SimpleNamespace(source=np.zeros(0), examples=0)

        learning._varied_batches = batches
        learning._varied()
        return seen, made[0]

    return ask


def test_views_have_keys_of_their_own_by_all_that_varies_them(asked):
    plain, _ = asked()
    assert [epoch for _, epoch in plain] == [1, 2] and plain == asked()[0]
    keys = {
        plain[0][0],
        *(asked(**one)[0][0][0] for one in ({"seed": 1}, {"augmentation": "light"}, {"mirror": False})),
    }
    assert len(keys) == 4


def test_kept_views_are_not_mixed_and_mirrored_only_where_that_is_harmless(asked):
    _, augmentation = asked()
    assert (augmentation.mixup, augmentation.cutmix, augmentation.mirror) == (0, 0, True)
    assert augmentation.erasing > 0 and not asked(mirror=False)[1].mirror


@pytest.mark.parametrize(
    ("train", "depthwise", "expected"),
    [
        ("all", True, {"stem", "block1", "block9"}),
        ("all", False, {"stem", "block1", "block9"}),
        ("stage4", False, {"block9"}),
    ],
)
def test_what_is_trained(train, depthwise, expected):
    network = kc.load_backbone("efficientnet_lite0", (32, 32, 3), weights=None)
    learning = Learning.__new__(Learning)
    learning.model = network.model
    learning.chosen = settings.choose(network, 5_000, train=train, depthwise=depthwise)
    learning._unfreeze(None if train == "all" else train)
    paths = [weight.path for weight in network.model.trainable_weights]
    assert expected == {
        name for name in ("stem", "block1", "block9") if any(path.startswith(f"{name}_") for path in paths)
    }
    assert any("depthwise" in path for path in paths) == depthwise
    assert not any("_bn/" in path for path in paths) and "top_conv/kernel" in paths


def test_a_head_alone_learns_from_validation_images_once_they_have_judged_it():
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 4))
    truth = {split: np.arange(size) % 3 for split, size in (("train", 60), ("validation", 30))}
    pooled = {
        split: (centres[labels] + random.normal(size=(len(labels), 4))).astype("float16")
        for split, labels in truth.items()
    }
    learning = Learning.__new__(Learning)
    learning.chosen, learning.objective, learning._classes = settings.choose(NETWORK, 60, train="head"), OneLabel(3), 3
    learning._steps, learning.validation, learning.truth = Steps(visible=False), {}, truth.get
    learning.selected = "solved head"
    learning._rest = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", name="logits")])
    learning._run_tail = feature_extractor.inference(learning._rest)
    learning._views, learning._pooled_held_out = [pooled["train"]], pooled["validation"]
    learning._solve()
    judged, score = learning.scores("validation"), learning.validation["solved head"]
    penalty, first = learning._head.l2, learning._rest.layers[-1].get_weights()
    learning._solve_on_all()
    np.testing.assert_array_equal(learning.scores("validation"), judged)
    assert learning.validation["solved head"] == score
    # At the solution for all examples the gradient is zero: X'(p - y) / n + penalty W, on standardised features.
    x = np.concatenate([pooled["train"], pooled["validation"]]).astype("float64")
    y = np.eye(3)[np.concatenate([truth["train"], truth["validation"]])]
    for (kernel, bias), at_solution in ((first, False), (learning._rest.layers[-1].get_weights(), True)):
        logits = x @ kernel + bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        residual = (p / p.sum(1, keepdims=True) - y) / len(y)
        gradient = ((x - x.mean(0)) / x.std(0)).T @ residual + penalty * kernel * x.std(0)[:, None]
        assert (np.abs(gradient).max() < 2e-3) == at_solution


@pytest.mark.parametrize(("train", "expected"), [("head", 2), ("last", 1), ("stage2", 1), ("all", 1)])
def test_where_more_is_trained_the_head_does_not_see_validation_images(monkeypatch, tmp_path, train, expected):
    network = backbone("stage1", "stage2", "stage3")
    learning = Learning.__new__(Learning)
    learning.network, learning.objective, learning._classes = network, OneLabel(3), 3
    learning.chosen = settings.choose(network, 12, train=train, mirror=False)
    learning.model = attach(network.model, learning.objective.head(0.0))
    learning._steps, learning._cache, learning.validation = Steps(visible=False), Cache(tmp_path), {}
    truth = {"train": np.arange(12) % 3, "validation": np.arange(6) % 3, "test": np.zeros(0, int)}
    learning.truth, learning._rows = truth.get, truth.get
    front, _ = surgery.split(learning.model, learning.chosen.boundary)
    images = np.random.default_rng(0).normal(size=(12, 32, 32, 3)).astype("float32")
    learning._activations = lambda split, view: front(images[: len(truth[split])]).numpy()
    learning._varied = lambda: [learning._activations("train", "plain")] * (learning.chosen.views - 1)
    learned = []

    def solve(features, labels, *others, **options):
        learned.append(len(labels))
        return fit_linear_probe(features, labels, *others, **options)

    monkeypatch.setattr("pipelines.training.learning.fit_linear_probe", solve)
    learning.solve()
    assert learned == [12, 18][:expected]
    assert len(learning._views) == (learning.chosen.views if train == "stage2" else 1)
    if train == "stage2":
        model, batches, validation, _ = learning._on_activations()
        trained = {weight.path.split("/")[0] for weight in model.trainable_weights}
        assert trained == {layer.name for layer in network.model.layers[3:] if layer.weights} | {"logits"}
        assert model.input_shape[1:] == (16, 16, 4) and batches.steps == 1
        assert sum(len(x) for x, _ in validation) == 6


def test_no_more_views_are_made_than_the_cache_can_keep(tmp_path):
    network = backbone("stage1", "stage2")
    front, _ = surgery.split(network.model, "stage1")
    learning = Learning.__new__(Learning)
    learning.chosen, learning._rows = settings.choose(network, 10, train="stage2", epochs=8), lambda split: range(10)
    eight = 8 * 10 * 16 * 16 * 4 * 2  # bytes of eight views of ten examples in float16
    for limit, views in ((eight, 6), (10, 2), (2**30, 8)):
        chosen, learning._front = learning.chosen, feature_extractor.Front(front, network, Cache(tmp_path, limit), 10)
        learning._limit_views()
        assert learning.chosen.views == views
        learning.chosen = chosen
