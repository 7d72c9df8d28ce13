"""The plan of a job: seconds by hand, what fits into a time limit, and what people read."""

import dataclasses
import math

import pytest
from helpers.networks import staged_backbone

from pipelines import defaults
from pipelines.recipes import within_a_time_limit
from pipelines.training.plan import COMPILE, EXPORT, PROBE, Counts, Plan, duration, make_plan, predict
from pipelines.training.speed import Speed, StepSpeed

STAGES = staged_backbone("stage1", "stage2", "stage3")
SPEED = Speed(
    features=0.01,
    exact=0.02,
    build=3.0,
    trace=0.5,
    augmentation=0.001,
    steps={
        "all": StepSpeed(image=0.05, build=2.0, frozen=1.0),
        "stage2": StepSpeed(image=0.03, build=1.5, frozen=0.25),
        "stage3": StepSpeed(image=0.02, build=1.0, frozen=0.5),
        "last": StepSpeed(image=0.02, build=1.0, frozen=0.5),
    },
)
MANY = Counts(train=3_200, validation=100, test=500, classes=10, features=16, reading=0.002)
FEW = Counts(train=320, validation=60, test=50, classes=10, features=16, reading=0.002, crops=2)


def settings(count, **overrides):
    return defaults.choose(STAGES, count.train, **overrides)


def test_the_head_by_hand():
    probe = 3_200 * PROBE * 16 * 10
    assert predict(settings(MANY, train="head"), MANY, SPEED) == pytest.approx(
        {
            "Features of train": 3 + 3_200 * 0.01,
            "Features of validation": 100 * 0.01,
            "Fitting the head": probe,
            "Fitting the head again": probe,
            "Testing": 3 + 500 * 0.02,
            "Exporting and verifying": EXPORT * 0.5,
        }
    )


def test_the_whole_network_by_hand():
    found = predict(settings(MANY, epochs=7, train="all"), MANY, SPEED)
    assert found["Reading larger images"] == pytest.approx(3_200 * 0.002)
    assert found["Fine-tuning"] == pytest.approx(COMPILE * 2 + 7 * (3_200 * (0.05 + 0.001) + 100 * 0.02))
    assert found["Features after training"] == pytest.approx(3 + 3_300 * 0.01)
    assert "Choosing the learning rate" not in found and "Features of augmented copies" not in found


def test_larger_images_after_training_by_hand():
    """256 instead of 224 pixels: 64/49 of the area, for all that comes after training."""
    plain, larger = (
        predict(settings(MANY, epochs=7, train="all", **options), MANY, SPEED)
        for options in ({}, {"test_input_size": 256})
    )
    assert larger["Reading images at the test size"] == pytest.approx((3_200 + 100 + 500) * 0.002)
    assert larger["Features after training"] == pytest.approx(3 + 3_300 * 0.01 + 3 + 3_300 * 0.01 * 64 / 49)
    assert larger["Testing"] == pytest.approx(3 + 500 * 0.02 * 64 / 49)
    assert larger["Fine-tuning"] == plain["Fine-tuning"] and "Reading images at the test size" not in plain
    preset = predict(settings(MANY, preset="best"), MANY, SPEED)
    assert preset["Testing"] == larger["Testing"]


def test_a_race_on_augmented_copies_by_hand():
    chosen = settings(FEW, train="last", epochs=6)
    found = predict(chosen, FEW, SPEED)
    # Two crop fractions, each with four more copies; the frozen half of the network runs over them.
    assert found["Features of augmented copies"] == pytest.approx(2 * 4 * 320 * (0.01 * 0.5 + 0.001))
    assert found["Fine-tuning"] == pytest.approx(COMPILE * 1 + 60 * 32 * 0.02 + 6 * 60 * 0.01)
    assert found["Reading images"] == pytest.approx((320 + 60 + 50) * 0.002)  # for the second crop fraction
    assert found["Features of train, flipped"] == pytest.approx(2 * 60 * (0.005 + 0.01))  # to judge flips
    # Two rates, 40 steps each, and four shares of fine-tuning to judge.
    assert found["Choosing the learning rate"] == pytest.approx(2 * (COMPILE * 1 + 40 * 32 * 0.02 + 4 * 60 * 0.01))


def test_cross_validation_trains_each_fold_to_the_end():
    few = dataclasses.replace(FEW, train=100, validation=20, crops=1)
    found = predict(settings(few, train="last", epochs=10), few, SPEED)
    training, judging = 10 * 120 * 0.02, 120 * 0.01
    assert found["Choosing the learning rate"] == pytest.approx(2 * (COMPILE * 1 + 4 * training + 4 * judging))
    assert found["Fine-tuning"] == pytest.approx(COMPILE * 1 + training + 10 * 20 * 0.01)
    given = predict(settings(few, train="last", epochs=10, learning_rate=1e-3), few, SPEED)
    assert given["Choosing the learning rate"] == pytest.approx(found["Choosing the learning rate"] / 2)


def candidates(count):
    return [(each, settings(count, **each)) for each in within_a_time_limit({})]


def test_the_best_that_fits_into_the_limit_is_chosen():
    totals = [sum(predict(each, MANY, SPEED).values()) for _, each in candidates(MANY)]
    assert totals == sorted(totals, reverse=True) and len(set(totals)) == 4
    for number, total in enumerate(totals):
        plan = make_plan(candidates(MANY), MANY, SPEED, limit=total / 0.9 + 1)
        assert plan.total == pytest.approx(total) and plan.total <= 0.9 * plan.limit
        assert len(plan.dropped) == number
        shorter = make_plan(candidates(MANY), MANY, SPEED, limit=total / 0.9 - 1)
        assert shorter.total < total or number == len(totals) - 1
    assert make_plan(candidates(MANY), MANY, SPEED, limit=1).settings.train == "head"
    assert make_plan(candidates(MANY), MANY, SPEED).total == totals[0]


def test_what_is_the_same_is_one_candidate():
    """Of few images `fast` is the head alone, which is also the last resort: it is not called too long for itself."""
    plan = make_plan(candidates(FEW), FEW, SPEED, limit=1)
    assert plan.settings.train == "head" and [settings.train for settings, _ in plan.dropped] == ["stage2", "last"]


def test_what_memory_does_not_allow_is_not_chosen():
    speed = dataclasses.replace(SPEED, steps={**SPEED.steps, "all": StepSpeed(math.inf, 2.0, 1.0)})
    plan = make_plan(candidates(MANY), MANY, speed, limit=1e6)
    assert plan.settings.train == "stage2" and plan.dropped == ()


def test_training_ends_so_that_the_test_and_the_export_fit():
    plan = make_plan(candidates(MANY), MANY, SPEED, limit=100)
    last = sum(plan.seconds[name] for name in ("Fitting the head again", "Testing", "Exporting and verifying"))
    assert plan.training_ends - plan.made == pytest.approx(100 - last)
    whole = make_plan([({}, settings(MANY, train="all"))], MANY, SPEED, limit=1_000)
    last += whole.seconds["Fitting the head again"] - plan.seconds["Fitting the head again"]
    assert whole.training_ends - whole.made == pytest.approx(1_000 - last - whole.seconds["Features after training"])
    assert make_plan(candidates(MANY), MANY, SPEED).training_ends is None


def test_what_people_read():
    chosen = settings(MANY, train="stage2", epochs=4)
    seconds = {"Features of train": 30.0, "Fitting the head": 9.6, "Fine-tuning": 250.0}
    seconds |= {"Testing": 10.0, "Exporting and verifying": 15.0}
    plan = Plan({}, chosen, seconds)
    assert plan.to_text(now=0.0).startswith(
        "Plan: linear probe about 40 s; then stage2 and later stages, 4 epochs on 4 copies of each image, about 4 min; "
        "test and export about 25 s. Ends at about "
    )
    slow = settings(MANY, train="all", epochs=10)
    limited = dataclasses.replace(plan, limit=400.0, dropped=((slow, 900.0),))
    assert limited.to_text().startswith("Plan, preset default: linear probe about 40 s; ")
    assert limited.to_text().endswith(
        " The time limit is too short for the whole network, 10 epochs: about 15 min in all."
    )
    assert limited.decision().reason == (
        "expected 5 min, with 7 min left of the time limit after the images were read; the whole network, 10 epochs would "
        "take 15 min"
    )
    short = dataclasses.replace(plan, limit=100.0)
    assert short.to_text().endswith(" That is more than the time limit leaves: 2 min.")
    assert [duration(value) for value in (0.2, 40, 88.4, 90, 5_300, 5_400)] == [
        *("1 s", "40 s", "89 s", "2 min", "88 min", "1.5 h")
    ]
