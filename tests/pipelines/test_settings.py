"""One definition per setting: command line, keywords, checks and documentation say the same."""

import argparse
import inspect
from pathlib import Path

import pytest

from pipelines import fine_tune, settings
from pipelines.augment import PRESETS
from pipelines.commands import fit

NAMES = [field.name for field in settings.options()]


def test_every_setting_is_an_option_and_a_keyword():
    parser = argparse.ArgumentParser()
    fit.add_to(parser.add_subparsers())
    text = parser._subparsers._group_actions[0].choices["fit"].format_help()
    parameters = inspect.signature(fine_tune).parameters
    for name in NAMES:
        assert f"--{name.replace('_', '-')} " in text or f"--{name.replace('_', '-')}\n" in text
        assert parameters[name].default is None and f"        {name}: " in fine_tune.__doc__
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values())


def test_the_documentation_has_the_table():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    assert settings.table() in page


def test_every_preset_is_a_choice():
    assert tuple(PRESETS) == settings.AUGMENTATIONS


def test_a_setting_that_does_not_exist():
    with pytest.raises(TypeError, match=r"Received: batchsize\. Did you mean `batch_size`\?$"):
        settings.check_names({"batchsize": 3})
