"""The command line: `keras-cnn fit`, `predict`, `evaluate`, `doctor`, `export`, `verify`, `analyze`, `report`."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from pipelines.commands import analyze, doctor, evaluate, export, fit, predict, report, verify
from pipelines.commands.quiet import load_tensorflow
from pipelines.errors import InputError, TrainingError
from pipelines.names import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for wrong use or bad input, 130 if interrupted, 1 for anything else."""
    if arguments is None:  # as a program of its own
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that `docker stop` leaves nothing either
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of classes need not be in its encoding
        warnings.showwarning = _print_warning  # a line each, without the place in our code
    options = _parsed(arguments)
    try:
        load_tensorflow()
        return options.run(options) or 0
    except (InputError, TrainingError) as error:
        print(f"keras-cnn {options.command}: {printable(error)}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        left = "run the same command again to resume" if _unfinished(options) else "nothing half-written is left"
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
    for command in (fit, predict, evaluate, doctor, export, verify, analyze, report):
        command.add_to(commands)
    for command in commands.choices.values():
        command.allow_abbrev = False  # what is short today would be ambiguous with the next option
    return parser, commands


if __name__ == "__main__":
    sys.exit(main())
