"""`keras-cnn verify`: checks that an exported version gives the recorded probabilities, or inspects it without running it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pipelines.errors import InputError
from pipelines.names import printable


def add_to(commands: Any) -> None:
    """Add the subcommand to the subparsers of `argparse`."""
    verify = commands.add_parser(
        "verify",
        help="check that an exported version gives the recorded probabilities",
        description="Loads an exported version in a fresh process and compares its probabilities with those that were recorded "
        "when it was exported. With --inspect the SavedModel is not loaded: its operations are listed.",
    )
    verify.add_argument(
        "saved_model",
        metavar="SAVED_MODEL",
        help="an exported version, such as saved_models/photos/1, or the folder of versions: then the highest version",
    )
    verify.add_argument(
        "--inspect",
        action="store_true",
        help="list the contents of the SavedModel, and operations that do more than compute, without loading it",
    )
    verify.add_argument(
        "--trust",
        action="store_true",
        help="load the SavedModel even if it may do more than compute, such as read files (default: refuse it)",
    )
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from keras_cnn.serving import VerificationError, inspect, verify

    try:
        found = inspect(options.saved_model) if options.inspect else verify(options.saved_model, options.trust)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(str(error)) from None
    except VerificationError as error:
        print(f"keras-cnn verify: {printable(error)}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found.to_dict()))
    else:
        print(_format_inspection(found) if options.inspect else _format_verification(found))
    return 0


def _format_verification(found: Any) -> str:
    signatures = ", ".join(f"{name} {difference:.1e}" for name, difference in found.differences.items())
    return (
        f"{found.path}: {found.images} images, largest difference of each signature: {signatures}; "
        f"{found.warm_up_requests} warm-up requests replayed; loads in {found.load_seconds:.1f} s, {found.size / 1e6:.1f} MB"
    )


def _format_inspection(found: Any) -> str:
    lines = [
        f"{found.path}: {found.size / 1e6:.1f} MB in {len(found.files)} files, by TensorFlow {found.tensorflow_version}"
    ]
    for name, tensors in found.signatures.items():
        lines.append(f"signature {name}")
        for kind, arrow in (("inputs", "<-"), ("outputs", "->")):
            lines += [f"  {arrow} {tensor}: {text}" for tensor, text in tensors[kind].items()]
    operations = ", ".join(f"{count} {name}" for name, count in list(found.operations.items())[:12])
    lines.append(f"{sum(found.operations.values())} operations of {len(found.operations)} kinds: {operations}, ...")
    lines.append(f"compiled by XLA: {found.compiled_functions} functions")
    lines += [f"MAY DO MORE THAN COMPUTE: {sentence}" for sentence in found.suspicious]
    lines += [f"operation of training: {operation}" for operation in found.training_operations]
    lines += [f"absolute path: {path!r}" for path in found.absolute_paths]
    if not found.suspicious:
        lines.append("only computation: no operation reads or writes files, uses the network or runs other code")
    return "\n".join(line.encode("unicode_escape").decode() if not line.isprintable() else line for line in lines)
