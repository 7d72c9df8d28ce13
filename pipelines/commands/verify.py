"""`keras-cnn verify`: proof that an exported version gives what was recorded, or a look into one without running it."""

from __future__ import annotations

import json
import sys

from pipelines.errors import InputError
from pipelines.names import printable


def add_to(commands) -> None:
    """Add the subcommand to the ones of `argparse`."""
    verify = commands.add_parser("verify", help="run an exported version in a fresh process and compare its scores")
    verify.add_argument(
        "saved_model", metavar="SAVED_MODEL", help="a version, or the folder of versions for the highest"
    )
    verify.add_argument("--inspect", action="store_true", help="say what it holds and may do, without loading it")
    verify.add_argument("--trust", action="store_true", help="load it even if it may do more than compute")
    verify.add_argument("--json", action="store_true", help="print what was found as JSON")
    verify.set_defaults(run=_verify)


def _verify(options):
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
        print(_inspected(found) if options.inspect else _verified(found))
    return 0


def _verified(found):
    signatures = ", ".join(f"{name} {difference:.1e}" for name, difference in found.differences.items())
    return (
        f"{found.path}: {found.images} images, largest differences by signature: {signatures}; "
        f"{found.warm_up_requests} warm-up requests replayed; loads in {found.load_seconds:.1f} s, {found.size / 1e6:.1f} MB"
    )


def _inspected(found):
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
    lines += [f"of training: {operation}" for operation in found.training_operations]
    lines += [f"path of another machine: {path!r}" for path in found.absolute_paths]
    if not found.suspicious:
        lines.append(
            "nothing but computing: no operation reads or writes files, reaches the network or runs other code"
        )
    return "\n".join(line.encode("unicode_escape").decode() if not line.isprintable() else line for line in lines)
