"""The command line: `keras-cnn fit`, `predict`, `evaluate`, `doctor`, `export`, `verify`, `analyze`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import sys
import warnings
from contextlib import contextmanager

from pipelines.commands import analyze as analyze_command
from pipelines.commands import data_options
from pipelines.commands import doctor as doctor_command
from pipelines.commands import evaluate as evaluate_command
from pipelines.commands import export as export_command
from pipelines.commands import verify as verify_command
from pipelines.commands.quiet import load_tensorflow
from pipelines.errors import InputError, TrainingError
from pipelines.names import path_to_cell, printable, to_cell

# Options of `fit` that are settings by the same name.
OVERRULING = (
    *("batch_size", "learning_rate", "mirror", "augmentation", "optimizer", "layer_decay", "average", "clip_norm"),
    *("accumulate", "patience", "mixed_precision", "views", "depthwise"),
)


def main(arguments=None) -> int:
    """Run one command; returns the exit status: 0, 2 for wrong use or bad input, 130 if interrupted, 1 for anything else."""
    if arguments is None:  # as a program of its own
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that `docker stop` leaves nothing either
        sys.stdout.reconfigure(errors="backslashreplace")  # names of classes need not be in the encoding of a terminal
        warnings.showwarning = _print_warning  # a line each, without the place in our code
    options = _parsed(arguments)
    try:
        load_tensorflow()
        return options.run(options) or 0
    except (InputError, TrainingError) as error:
        print(f"keras-cnn {options.command}: {printable(error)}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        left = "the same command goes on where it was" if _unfinished(options) else "nothing half-written is left"
        print(f"keras-cnn {options.command}: interrupted; {left}.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; say nothing, now or when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from keras_cnn import durable

        if not durable.is_disk_full(error):
            raise
        remedy = "Make room and run the same command again"
        print(f"keras-cnn {options.command}: a disk has no room left: {printable(error)}. {remedy}.", file=sys.stderr)
        return 1


def _unfinished(options):
    from pipelines.training import job_state

    return options.command == "fit" and job_state.exists(options.out)


def _parsed(arguments):
    """The options of one command; what it does not know is refused with its own usage, not that of the whole program."""
    parser, commands = _parser()
    options, unknown = parser.parse_known_args(_joined(sys.argv[1:] if arguments is None else arguments))
    if unknown:
        commands.choices[options.command].error(f"unknown: {printable(' '.join(unknown))}; see --help")
    return options


def _joined(arguments):
    """`--input-range -1,1` as one argument: argparse takes a value that begins with a minus sign for an option."""
    found = []
    for argument in arguments:
        if found and found[-1] == "--input-range":
            found[-1] += f"={argument}"
        else:
            found.append(argument)
    return found


def _print_warning(message, *_, **__):
    print(f"keras-cnn: warning: {printable(message)}", file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-cnn", description="From a folder of images to TF Serving.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_fit(commands)
    _add_predict(commands)
    evaluate_command.add_to(commands)
    doctor_command.add_to(commands)
    export_command.add_to(commands)
    verify_command.add_to(commands)
    analyze_command.add_to(commands)
    for command in commands.choices.values():
        command.allow_abbrev = False  # what is short today would be ambiguous with the next option
    return parser, commands


def _add_fit(commands):
    fit = commands.add_parser("fit", help="fine-tune a pretrained network on labelled images and export it")
    data_options.add_to(fit)
    fit.add_argument(
        "--out", required=True, metavar="DIR", help="such as saved_models/photos; a second fit adds version 2"
    )
    fit.add_argument("--backbone", default="efficientnet_lite0", help="the pretrained network (default: %(default)s)")
    fit.add_argument(
        "--input-range",
        type=_range,
        metavar="BLACK,WHITE",
        help="values that a .keras file was trained on, such as 0,1 or -1,1, where it does not scale 0..255 itself",
    )
    fit.add_argument("--size", type=_count, help="pixels, height and width of the input (default: as pretrained)")
    fit.add_argument(
        "--crop",
        type=_share,
        help="central share of each side that is used (default: 0.875; with few images 1.0 is tried as well)",
    )
    fit.add_argument(
        "--train",
        metavar="{head,last,all,STAGE}",
        help="the head; the last stage too; all; from a stage on, such as stage3 (default: by the data)",
    )
    fit.add_argument(
        "--epochs", type=_count, help="passes over the training images, 0: the head only (default: by the data)"
    )
    fit.add_argument("--batch-size", type=_count, help="images per step (default: 32)")
    fit.add_argument(
        "--learning-rate", type=float, help="peak learning rate of the schedule (default: depends on the data)"
    )
    fit.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="whether to learn from flipped images; not for text, digits, traffic signs (default: decided by validation)",
    )
    fit.add_argument(
        "--augmentation",
        choices=("none", "light", "medium", "strong"),
        help="data augmentation; strong adds MixUp and CutMix with --train all (default: light; none for head and last)",
    )
    fit.add_argument(
        "--views",
        type=_count,
        help="augmented copies of each image whose features are cached, itself included (default: 4; with STAGE one per epoch)",
    )
    fit.add_argument("--optimizer", choices=("adamw", "sgd"), help="default: adamw")
    fit.add_argument(
        "--layer-decay",
        type=float,
        help="multiply the learning rate by this for each layer nearer to the input (default: 1)",
    )
    fit.add_argument(
        "--average", type=float, help="momentum of a running average of weights, such as 0.99 (default: 0)"
    )
    fit.add_argument(
        "--clip-norm", type=float, help="clip the global gradient norm to this; 0: no clipping (default: 1)"
    )
    fit.add_argument(
        "--accumulate", type=_count, help="accumulate gradients over this many steps per update (default: 1)"
    )
    fit.add_argument("--patience", type=_count, help="stop after this many epochs without improvement (default: never)")
    fit.add_argument(
        "--depthwise",
        action=argparse.BooleanOptionalAction,
        help="train depthwise convolutions too (default: on a GPU, and for last)",
    )
    fit.add_argument(
        "--mixed-precision",
        action=argparse.BooleanOptionalAction,
        help="train in bfloat16 on weights in float32 (default: on GPUs that compute in it)",
    )
    fit.add_argument("--seed", type=_count, default=0, help="of the split, the order and dropout (default: 0)")
    fit.add_argument("--restart", action="store_true", help="drop what an interrupted job has left")
    fit.add_argument("--quiet", action="store_true", help="no progress bars")
    fit.add_argument("--json", action="store_true", help="print the result as JSON")
    fit.set_defaults(run=_fit)


def _fit(options):
    from pipelines import fine_tune
    from pipelines.commands.summary import print_summary

    result = fine_tune(
        data_options.read(options, options.out),
        options.out,
        options.backbone,
        input_range=options.input_range,
        size=options.size,
        crop=options.crop,
        train=options.train,
        epochs=options.epochs,
        seed=options.seed,
        restart=options.restart,
        progress=not options.quiet,
        **{name: getattr(options, name) for name in OVERRULING},
    )
    if options.json:
        paths = {"export": result.export, "run": result.run, "report": result.report}
        print(json.dumps({**result.metrics, **{name: str(path) for name, path in paths.items()}}))
    else:
        print_summary(result)


def _add_predict(commands):
    predict = commands.add_parser("predict", help="label images with an exported version")
    predict.add_argument(
        "saved_model", metavar="SAVED_MODEL", help="a version, or the folder of versions for the highest"
    )
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or folders of them")
    predict.add_argument(
        "--reject", type=_share, default=0.0, metavar="P", help='call it "unsure" below this probability'
    )
    predict.add_argument("--trust", action="store_true", help="load it even if it may do more than compute")
    predict.add_argument("--csv", metavar="FILE", help="write path, label, probability, status to a file")
    predict.add_argument("--json", action="store_true", help="print a JSON list with the best labels of each image")
    predict.set_defaults(run=_predict)


def _predict(options):
    from pipelines.evaluation.prediction import SURE, UNREADABLE, find_images, predict, skipped

    with _table(options.csv) as table:
        paths, others = find_images(options.images)
        if others:
            print(f"keras-cnn predict: {printable(skipped(others))}", file=sys.stderr)
        found = list(predict(options.saved_model, paths, options.reject, options.trust))
        if table:
            table.writerow(["path", "label", "probability", "status"])
            table.writerows(
                [path_to_cell(one.path), to_cell(", ".join(one.labels)), f"{one.probability:.4f}", one.status]
                for one in found
            )
    if table:
        print(f"{printable(options.csv)}: {len(found)} rows", file=sys.stderr)
    if options.json:
        print(json.dumps([one.to_dict() for one in found]))
    elif not options.csv:
        shown = [(", ".join(one.labels) or "(none)") if one.status == SURE else one.status for one in found]
        shown = [printable(text) for text in shown]
        width = max(map(len, shown))
        for one, text in zip(found, shown, strict=True):
            print(f"{text:<{width}}  {one.probability:.3f}  {printable(one.path)}")
    unreadable = [one.path for one in found if one.status == UNREADABLE]
    if unreadable:
        raise InputError(f"{len(unreadable)} of {len(found)} files are no images, such as {unreadable[0]}.")


@contextmanager
def _table(name):
    """A writer for rows of CSV, opened before the work and put in place after it; None without a name."""
    if name is None:
        yield None
        return
    if os.path.isdir(name):
        raise InputError(f"--csv must name a file. Received: {name}, which is a folder.")
    part = f"{name}.part"
    try:
        file = open(part, "w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise InputError(f"--csv must name a file that can be written. Received: {name}: {error.strerror}.") from None
    try:
        with file:
            yield csv.writer(file)
        os.replace(part, name)
    except BaseException:
        os.unlink(part)
        raise


def _count(text):
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 999999999. Received: {printable(text)}")
    return int(text)


def _range(text):
    try:
        black, white = (float(value) for value in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be two numbers, for black and for white, such as 0,1. Received: {text}"
        ) from None
    return black, white


def _share(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1. Received: {printable(text)}")
    return value


if __name__ == "__main__":
    sys.exit(main())
