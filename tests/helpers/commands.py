"""`keras-cnn export` and `verify` in the process of a test."""

import argparse

from pipelines.commands import export, verify


def run_command(*arguments):
    """The exit status of a command with these arguments, such as `run_command("verify", path)`. Errors are raised."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for module in (export, verify):
        module.add_to(commands)
    options = parser.parse_args(list(map(str, arguments)))
    return options.run(options)
