"""The speed of the machine is measured, and the network is as before."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.networks import random_backbone, staged_backbone

import keras_cnn as kc
from keras_cnn import heads, keras_internals
from pipelines import defaults
from pipelines.training import speed
from pipelines.training.speed import measure_speed


def test_the_network_is_as_before():
    network = random_backbone()
    kc.freeze(network.model, up_to="stage1")
    layers = list(keras_internals.sublayers(network.model))
    flags, weights = [layer.trainable for layer in layers], network.model.get_weights()
    candidates = [
        defaults.choose(network, 100, train=train, batch_size=4) for train in ("all", "stage2", "last", "head")
    ]
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3))
    found = measure_speed(network, heads.classification(5), images, candidates, 100)
    assert set(found.steps) == {"all", "stage2", "last"}
    seconds = [found.features, found.exact, found.build, found.trace, found.augmentation]
    seconds += [value for step in found.steps.values() for value in (step.image, step.build)]
    assert min(seconds) > 0 and np.isfinite(seconds).all()
    assert found.steps["all"].frozen == 1 and all(0 < step.frozen <= 1 for step in found.steps.values())
    assert [layer.trainable for layer in layers] == flags
    for before, after in zip(weights, network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("seconds", "runs", "expected"), [([4.0, 1.0], 2, 0.5), ([12.0, 1.0], 1, 6.0)])
def test_the_first_run_which_also_allocates_memory_does_not_count_unless_it_takes_very_long(
    monkeypatch, seconds, runs, expected
):
    clock, calls = [0.0], []
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def work():
        clock[0] += seconds[len(calls)]
        calls.append(1)

    assert speed._fastest(work, images=2) == expected and len(calls) == runs


@pytest.mark.slow
def test_many_images_and_a_network_of_which_only_the_head_can_be_trained():
    network = staged_backbone("stage1")
    found = measure_speed(
        network, heads.multi_label(5), np.zeros((1, 32, 32, 3)), [defaults.choose(network, 5_000)], 5_000
    )
    assert found.steps == {} and found.features > 0
