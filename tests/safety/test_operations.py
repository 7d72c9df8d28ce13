"""Every operation of the installed TensorFlow has been looked at, and those that reach beyond the graph are not harmless."""

import importlib.util
import re
from pathlib import Path

import pytest

from keras_cnn.safety import operations

TOOL = Path(__file__).parents[2] / "tools" / "make_operation_list.py"
KNOWN = {operations.COMPUTES, operations.KEEPS_STATE, operations.SAVER} | {
    "reads files",
    "writes files",
    "reaches the network",
    "runs other code",
    "prints",
    "ends the process",
    "drives a TPU",
    "reaches what other models keep",
    "is internal to TensorFlow",
    "belongs to TensorFlow's own tests",
}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_operation_list", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def registered(tool):
    return {one.name: one for one in tool.registered()}


def test_every_operation_of_the_installed_tensorflow_is_classified(registered):
    assert len(registered) > 1500
    assert registered.keys() - operations.classes().keys() == set(), (
        "run tools/make_operation_list.py and classify these"
    )
    assert set(operations.classes().values()) == KNOWN


def test_the_list_is_as_the_tool_writes_it(tool):
    text = operations.FILE.read_text(encoding="utf-8")
    assert tool.merged(text, []) == text


def test_a_new_operation_is_put_in_its_place_and_judged_by_nobody(tool, registered):
    new = type(registered["Abs"])()
    new.CopyFrom(registered["ReadFile"])
    new.name = "AbsorbFile"
    text = operations.FILE.read_text(encoding="utf-8")
    lines = tool.merged(text, [*registered.values(), new]).splitlines()
    (line,) = set(lines) - set(text.splitlines())
    assert line == "AbsorbFile | has not been classified | takes text: filename"
    assert lines[lines.index(line) - 1].startswith("Abs |")


def test_operations_that_take_names_of_files_or_addresses_are_not_harmless(registered):
    """By what the registry says of their inputs and attributes."""
    words = re.compile(
        r"file|path|dir(ectory)?\b|prefix|url|uri|address|server|descriptor|memory_region", re.IGNORECASE
    )

    def speaks(one):
        names = [argument.name for argument in one.input_arg if argument.type == 7]  # DT_STRING
        names += [attribute.name for attribute in one.attr if attribute.type in ("string", "list(string)")]
        return any(words.search(name) for name in names)

    found = {name for name, one in registered.items() if speaks(one)}
    assert len(found) > 40
    harmless = {name for name in found if operations.effect(name) is None}
    # The saver's own, which saver.py judges, and the tag that statistics of a data set are counted under.
    counters = {"SetStatsAggregatorDataset", "ExperimentalSetStatsAggregatorDataset"}
    assert harmless == {"SaveV2", "RestoreV2", "MergeV2Checkpoints", *counters}


def test_operations_whose_names_speak_of_more_than_computing_are_not_harmless(registered):
    words = (
        "File Record Disk Dump Socket Rpc Remote PyFunc Host Custom Service Save Load Send Recv Write Read Print Debug"
    )
    named = {name for name in registered if any(word in name for word in words.split())}
    harmless = {name for name in named if operations.effect(name) is None}
    memory = {
        name for name in harmless if re.match("ReadVariable|DisableCopyOnRead|TensorArray|RngReadAndSkip|Barrier", name)
    }
    numbers = {
        "DebugGradientIdentity",
        "DebugGradientRefIdentity",
        "DebugNumericSummaryV2",
        "BoostedTreesExampleDebugOutputs",
    }
    names = {"ShardedFilename", "ShardedFilespec"}  # which make names and open nothing
    assert harmless - memory == {"SaveV2", "CustomAggregator", *numbers, *names}


@pytest.mark.parametrize(
    ("operation", "effect"),
    [
        ("ReadFile", "reads files"),
        ("TFRecordDatasetV2", "reads files"),
        ("InitializeTableFromTextFileV2", "reads files"),
        ("LoadAndRemapMatrix", "reads files"),
        ("GenerateVocabRemapping", "reads files"),
        ("ImmutableConst", "reads files"),
        ("WriteFile", "writes files"),
        ("DumpTensor", "writes files"),
        ("DebugIdentityV3", "writes files"),
        ("DataServiceDatasetV4", "reaches the network"),
        ("RpcCall", "reaches the network"),
        ("EagerPyFunc", "runs other code"),
        ("DatasetFromGraph", "runs other code"),
        ("XlaCallModule", "runs other code"),
        ("NoSuchOperation", "is not an operation of TensorFlow"),
        ("GetSessionHandleV2", "reaches what other models keep"),
        ("Conv2D", None),
        ("DecodeImage", None),
        ("HashTableV2", None),
        ("LookupTableFindV2", None),
        ("StatefulPartitionedCall", None),
        ("VarHandleOp", None),
        ("ReadVariableOp", None),
        ("ParallelMapDatasetV2", None),
    ],
)
def test_what_operations_do(operation, effect):
    assert operations.effect(operation) == effect
