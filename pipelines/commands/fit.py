"""`keras-cnn fit`: fine-tune a pretrained network and export it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pipelines.commands import argument_types, data_options

TYPES = {"int": argument_types.count, "float": argument_types.number, "str": str}
TYPE_OF = {"time_limit": argument_types.duration}  # where the kind alone does not say it
METAVARS = {"int": "N", "float": "X"}


def add_to(commands: Any) -> None:
    """Add the subcommand to the ones of `argparse`."""
    fit = commands.add_parser("fit", help="fine-tune a pretrained network on labelled images and export it")
    data_options.add_to(fit)
    fit.add_argument(
        "--out", required=True, metavar="DIR", help="such as saved_models/photos; a second fit adds version 2"
    )
    fit.add_argument("--backbone", default="efficientnet_lite0", help="the pretrained network (default: %(default)s)")
    fit.add_argument(
        "--input-range",
        type=argument_types.input_range,
        metavar="BLACK,WHITE",
        help="pixel values that a .keras file was trained on, such as 0,1 or -1,1, if it does not rescale 0..255 itself",
    )
    fit.add_argument(
        "--size", type=argument_types.count, help="height and width of the input in pixels (default: as pretrained)"
    )
    fit.add_argument(
        "--crop-fraction",
        type=argument_types.share,
        metavar="FRACTION",
        help="share of height and width, from the centre, that the network sees "
        "(default: 0.875; below 1,500 images the better of 0.875 and 1 on validation)",
    )
    _add_settings(fit.add_argument_group("settings", "the same names in Python, with _ for -"))
    fit.add_argument("--restart", action="store_true", help="discard what an interrupted job has left")
    fit.add_argument("--quiet", action="store_true", help="no progress bars")
    fit.add_argument("--json", action="store_true", help="print the metrics as JSON")
    fit.set_defaults(run=_run)


def _add_settings(group) -> None:
    """One option per setting."""
    from pipelines import settings

    for field in settings.options():
        option, kind = settings.option_of(field), settings.kind_of(field)
        how = (
            {"action": argparse.BooleanOptionalAction}
            if kind == "bool"
            else {
                "type": TYPE_OF.get(field.name, TYPES[kind]),
                "choices": option.choices or None,
                "metavar": option.metavar or METAVARS.get(kind),
            }
        )
        text = f"{option.help} (default: {option.default})".replace("%", "%%")
        group.add_argument(f"--{field.name.replace('_', '-')}", help=text, default=None, **how)


def _run(options) -> None:
    from pipelines import fine_tune, settings
    from pipelines.commands.summary import print_summary

    result = fine_tune(
        data_options.read(options, options.out),
        options.out,
        options.backbone,
        input_range=options.input_range,
        size=options.size,
        crop_fraction=options.crop_fraction,
        restart=options.restart,
        progress=not options.quiet,
        **{field.name: getattr(options, field.name) for field in settings.options()},
    )
    if options.json:
        paths = {"export": result.export, "run": result.run, "report": result.report}
        print(json.dumps({**result.metrics, **{name: str(path) for name, path in paths.items()}}))
    else:
        print_summary(result)
