"""Adds the operations that are new in the installed TensorFlow to keras_cnn/safety/operations.txt.

python tools/make_operation_list.py            # say which are new, and which the installed TensorFlow does not have
python tools/make_operation_list.py --write    # put the new ones into the file, for a person to classify

A class is never changed, and no line removed: other versions of TensorFlow have other operations.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tensorflow.core.framework import op_def_pb2, types_pb2
from tensorflow.python.client import pywrap_tf_session

from keras_cnn.safety import operations


def registered():
    """The `OpDef` of every operation of the installed TensorFlow."""
    return op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())).op


def merged(text, definitions):
    """The text of the list with a line for each operation that it lacks, in order of name."""
    head = [line for line in text.splitlines() if line.startswith("#")]
    entries = {one.name: f"{operations.UNCLASSIFIED} | {facts(one)}" for one in definitions} | operations.entries(text)
    return "\n".join([*head, *(f"{name} | {entries[name]}" for name in sorted(entries))]) + "\n"


def facts(definition):
    """What the registry says that helps to judge an operation."""
    texts = [argument.name for argument in definition.input_arg if argument.type == types_pb2.DT_STRING]
    strings = [attribute.name for attribute in definition.attr if attribute.type in ("string", "list(string)")]
    functions = [attribute.name for attribute in definition.attr if "func" in attribute.type]
    lists = {"takes text": texts, "attributes of text": strings, "calls": functions}
    said = [f"{what}: {', '.join(names)}" for what, names in lists.items() if names]
    return "; ".join((["keeps state"] if definition.is_stateful else []) + said) or "neither state, text nor functions"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    definitions = registered()
    names = {one.name for one in definitions}
    new, missing = names - operations.classes().keys(), operations.classes().keys() - names
    print(f"{len(names)} operations, {len(new)} new: {', '.join(sorted(new)) or 'none'}")
    print(f"not in this TensorFlow: {', '.join(sorted(missing)) or 'none'}")
    if parser.parse_args().write:
        text = operations.FILE.read_text(encoding="utf-8")
        operations.FILE.write_text(merged(text, definitions), encoding="utf-8")


if __name__ == "__main__":
    main()
