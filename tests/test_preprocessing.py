"""The record Preprocessing: what it accepts, and that JSON keeps it."""

import dataclasses
import json

import pytest

from keras_cnn import Preprocessing


def test_an_integer_is_a_square():
    assert Preprocessing(224).size == (224, 224)
    assert Preprocessing([16, 24]).size == (16, 24)


def test_json_keeps_the_record():
    record = Preprocessing((3, 4), "fit", 0, 0.875)
    assert Preprocessing.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert record.to_dict() == {"size": [3, 4], "resize": "fit", "background": 0, "crop_fraction": 0.875}


def test_a_changed_copy_is_checked_too():
    assert dataclasses.replace(Preprocessing(8), crop_fraction=0.5) == Preprocessing((8, 8), crop_fraction=0.5)
    with pytest.raises(ValueError, match="`crop_fraction` must be more than 0 and at most 1"):
        dataclasses.replace(Preprocessing(8), crop_fraction=2)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, True, "0.5", None])
def test_fractions_that_are_none(fraction):
    with pytest.raises(ValueError) as error:
        Preprocessing(8, crop_fraction=fraction)
    assert str(error.value) == (
        f"Preprocessing: `crop_fraction` must be more than 0 and at most 1. Received: crop_fraction={fraction!r}."
    )


def test_a_misspelt_rule_is_answered_with_the_rule_that_it_resembles():
    with pytest.raises(ValueError, match="Received: resize='covers'\\. Did you mean 'cover'\\?"):
        Preprocessing(8, resize="covers")


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Preprocessing(8).size = (9, 9)
