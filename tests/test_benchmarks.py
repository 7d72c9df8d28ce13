"""The benchmarks share one harness, and each of them stands with its command in the docs."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HELPERS = ("harness", "image_sets", "random_weights")
FILES = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.py"))}
SCRIPTS = [name for name in FILES if name not in HELPERS]
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))

spec = importlib.util.spec_from_file_location("harness", FILES["harness"])
harness = importlib.util.module_from_spec(spec)
spec.loader.exec_module(harness)


def imported(path):
    """The names of the modules that a file imports on its own level, in their order."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def documented_options(text):
    """Options such as `--size` in a text."""
    return set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text))


def options(path):
    """Options that a script defines, those of the harness included."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    names = {call.func.attr: call for call in calls if isinstance(call.func, ast.Attribute)}
    parser = names["parser"]
    turns = len(parser.args) > 1 or any(keyword.arg == "turns" for keyword in parser.keywords)
    own = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
    }
    return {"--json", *own} | ({"--turns"} if turns else set())


def test_seconds_are_those_of_the_clocks_and_every_turn_begins_with_another_function(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(harness.time, "process_time", lambda: 2 * now[0])

    def lasts(name, seconds):
        def function():
            calls.append(name)
            now[0] += seconds[calls.count(name) - 1]

        return function

    functions = {"a": lasts("a", [100, 1, 2, 3]), "b": lasts("b", [100, 4, 4, 3])}
    times = harness.time_in_turns(functions, turns=3, warmup=1)
    assert calls == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert times == {"a": [(1, 2), (2, 4), (3, 6)], "b": [(4, 8), (4, 8), (3, 6)]}


def test_ratios_are_those_within_a_turn():
    # The median of the ratios, 2, is not the ratio of the medians, 3 / 2.
    assert harness.paired_ratios([2, 3, 30], [1, 2, 10]) == [2, 1.5, 3]
    # By hand, as in `statistics.quantiles`: positions 4/4 and 12/4 of three sorted values.
    assert harness.quartiles([3, 1, 2]) == [1, 3]
    assert harness.quartiles([5]) == [5, 5]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (15470264320, "15,470,264,320"),
        (1234.5, "1,234"),
        (812.04, "812.0"),
        (0.0043, "0.004300"),
        (4.4e-6, "4.400e-06"),
        ([0.5, 2.25], "0.5000 – 2.250"),
        (None, ""),
        ("ours", "ours"),
    ],
)
def test_numbers_are_formatted_by_one_rule(value, text):
    assert harness.format_value(value) == text


def test_a_table_is_aligned_and_has_the_columns_of_all_rows(capsys):
    rows = [{"layer": "conv", "images_per_second": 1200.0}, {"layer": "pooling 2x2", "images_per_second": 7, "l2": 1}]
    harness.show(iter(rows), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "| layer       | images per second |  l2 |",
        "| ----------- | ----------------: | --: |",
        "| conv        |             1,200 |     |",
        "| pooling 2x2 |                 7 |   1 |",
    ]
    harness.show(rows, as_json=False, columns=["l2"])
    assert capsys.readouterr().out == "|  l2 |\n| --: |\n|     |\n|   1 |\n"


def test_json_has_all_columns_and_rows_are_shown_as_they_come(capsys):
    harness.show(harness.echo({"n": n, "runs": [n]} for n in (1, 2)), as_json=True, columns=["n"])
    printed = capsys.readouterr()
    assert json.loads(printed.out) == [{"n": 1, "runs": [1]}, {"n": 2, "runs": [2]}]
    assert printed.err == "n 1, runs 1\nn 2, runs 2\n"


def test_there_are_as_many_turns_as_the_script_says_unless_the_user_says_more():
    assert vars(harness.parser("What it does.\n\nMore.", turns=7).parse_args([])) == {"json": False, "turns": 7}
    assert harness.parser("What it does.", turns=7).parse_args(["--turns", "9", "--json"]).turns == 9
    assert not hasattr(harness.parser("What it does.").parse_args([]), "turns")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_uses_the_harness(name):
    modules = list(imported(FILES[name]))
    # TensorFlow reads the level of its log when it is imported.
    libraries = [modules.index(library) for library in ("keras", "tensorflow", "keras_cnn") if library in modules]
    assert all(modules.index("harness") < index for index in libraries)
    assert "argparse" not in modules or name in ("serving_gpu", "transfer")  # options of the processes that they start


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_stands_with_its_command_in_the_docs(name):
    document = ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8")))
    commands = re.findall(rf"python benchmarks/{name}\.py([^`\n]*)", PAGES)
    assert commands
    assert documented_options("\n".join(commands)) <= options(FILES[name])
    in_docstring = documented_options("\n".join(re.findall(r"^    (.*)$", document, re.MULTILINE)))
    assert options(FILES[name]) - HIDDEN <= in_docstring | {"data", "networks"} <= options(FILES[name]) | {"data", "networks"}
