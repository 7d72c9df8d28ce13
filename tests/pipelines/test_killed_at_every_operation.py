"""A job that dies, or finds its disk full, at any of its operations on files; then it is run again.

What trains here is arithmetic, so that all of several hundred places can be tried. What is written, and how, is what a job
writes: checkpoints, the record of an unfinished job, a version with its run.
"""

import re
import shutil

import numpy as np
import pytest
from helpers.killing import Files

from keras_cnn import durable
from keras_cnn.serving import journal
from keras_cnn.training.checkpoints import Checkpoints
from pipelines import InputError
from pipelines.errors import TrainingError
from pipelines.runs import output_folder
from pipelines.training import job_state

JOB = {"epochs": 3, "data": "a" * 64, "horizontal_flip": None, "crop_fraction": 0.875}
EPOCHS = 3
# From 0, 1, 2: what three epochs of x -> 3 x + epoch give, and two.
WEIGHTS = np.array([5, 32, 59, 1, 10, 19], "float32").tobytes()


def train(directory):
    """Weights after three epochs whose end depends on each of them."""
    checkpoints = Checkpoints(job_state.open_or_create(directory, JOB) / "checkpoints")
    weights = best = np.arange(3, dtype="float32")
    (weights, best), state = checkpoints.load() or ([weights, best], {"epoch": 0})
    for epoch in range(state["epoch"], EPOCHS):
        weights = 3 * weights + epoch
        best = weights if epoch < 2 else best
        checkpoints.save([weights, best], {"epoch": epoch + 1})
    return weights, best


def job(directory, description=JOB, trains=True):
    with output_folder.open_output(directory) as files:
        (files.staging / "features").write_bytes(b"what takes time before a job knows whether it is done")
        if paths := files.already_published(description):
            return paths
        weights = np.concatenate(train(directory)) if trains else np.zeros(1)
        files.version.mkdir()
        (files.version / "saved_model.pb").write_bytes(weights.tobytes())
        (files.run / "model.keras").write_bytes(weights.tobytes())
        (files.run / "report.html").write_text(f"version {files.number}")
        return files.publish(description, remove_checkpoints=trains)


def versions(directory):
    return sorted(path.name for path in directory.iterdir() if path.name.isdigit())


def assert_whole(directory):
    """Whatever TF Serving can see is complete, and so is its run."""
    for number in versions(directory) if directory.exists() else ():
        run, version = directory / "runs" / number, directory / number
        assert (run / "model.keras").read_bytes() == (version / "saved_model.pb").read_bytes() == WEIGHTS
        assert (run / "report.html").read_text() == f"version {number}"
        assert (directory / "serving" / "models.config").read_text().count("{") == 2


def assert_done(directory, numbers):
    assert versions(directory) == numbers
    assert sorted(path.name for path in (directory / "runs").iterdir()) == numbers
    assert sorted(path.name for path in directory.iterdir()) == [".lock", *numbers, "report.html", "runs", "serving"]
    assert len(list((directory / "serving").iterdir())) == 3
    assert (directory / "report.html").read_text() == f"version {numbers[-1]}"


def places(monkeypatch, directory, full=False):
    """Run the job in copies of `directory`, failing at each of its operations in turn; yields each copy afterwards."""
    place = 0
    while True:
        place += 1
        copy = directory.parent / f"{directory.name} {place}"
        if directory.exists():
            shutil.copytree(directory, copy)
        with Files(monkeypatch, place, full) as files:
            try:
                job(copy)
            except (InputError, TrainingError) as error:
                assert full and re.search("No space left|no room left", str(error))
        if not files.failed:
            return
        yield place, copy
        shutil.rmtree(copy, ignore_errors=True)  # where it was killed at once, there is none


def test_killed_at_any_operation_a_job_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    for place, out in places(monkeypatch, tmp_path / "new"):
        assert_whole(out)
        assert job(out) == (out / "runs" / "1", out / "1"), place
        assert_done(out, ["1"])
        assert_whole(out)
    assert place > 100


@pytest.mark.slow
def test_killed_at_any_operation_a_second_job_leaves_the_first(tmp_path, monkeypatch):
    job(tmp_path / "old")
    for place, out in places(monkeypatch, tmp_path / "old"):
        assert_whole(out)
        assert job(out) == (out / "runs" / "2", out / "2"), place
        assert_done(out, ["1", "2"])


def test_another_command_after_a_kill_takes_the_steps_that_are_left(tmp_path, monkeypatch):
    """Of a job killed while it published nothing is lost when the next command in its folder is another one."""
    published = 0
    for _, out in places(monkeypatch, tmp_path / "new"):
        trained, before = (out / ".unfinished").exists(), (out / ".publishing").exists() or (out / "1").exists()
        number = 2 if before else 1
        assert job(out, {"epochs": 0}, trains=False)[1] == out / str(number)
        assert versions(out) == ["1", "2"][:number]
        if before:
            shutil.rmtree(out / "2")
            assert_whole(out)
        assert (out / ".unfinished").exists() == (trained and not before)  # what another command has no part in stays
        published += before
    assert published > 10


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_on_a_disk_that_is_full_from_any_operation_on(tmp_path, monkeypatch, again):
    """One sentence, nothing half-written, and with room again the job resumes."""
    if again:
        job(tmp_path / "out")
    number = "2" if again else "1"
    for place, out in places(monkeypatch, tmp_path / "out", full=True):
        if out.exists():
            assert_whole(out)
            assert bool(list(out.glob(".staging-*"))) == (out / ".publishing").exists()
            assert not list(out.rglob("*.part"))
        if not out.exists() or number not in versions(out) or (out / ".publishing").exists():
            assert job(out) == (out / "runs" / number, out / number), place
        assert_done(out, ["1", "2"] if again else ["1"])


@pytest.mark.slow
def test_killed_at_any_operation_and_once_more_at_any_operation(tmp_path, monkeypatch):
    """Before there is a journal, whose steps are the ones that are taken twice, at some places only."""
    with_journal = 0
    for first, once in places(monkeypatch, tmp_path / "new"):
        journal = (once / ".publishing").exists()
        with_journal += journal
        if not journal and first % 20:
            continue
        once.mkdir(exist_ok=True)
        for second, twice in places(monkeypatch, once):
            assert_whole(twice)
            assert job(twice) == (twice / "runs" / "1", twice / "1"), (first, second)
            assert_done(twice, ["1"])
    assert with_journal > 20


def test_what_gets_a_name_is_on_the_disk_before_and_its_name_afterwards(tmp_path, monkeypatch):
    """As far as the loss of power goes: every file of what is renamed has been synchronized, then the folder of the name."""
    synchronized, named = set(), []
    real = {name: getattr(durable.os, name) for name in ("fsync", "replace", "unlink", "rename")}

    def inode(path):
        found = durable.os.stat(path)
        return found.st_dev, found.st_ino

    def fsync(handle):
        real["fsync"](handle)
        synchronized.add(inode(handle))
        named[:] = [path for path in named if inode(path.parent) != inode(handle)]

    def replace(source, target):
        everything = [source, *source.rglob("*")]
        assert [path for path in everything if inode(path) not in synchronized] == []
        real["replace"](source, target)
        synchronized.discard(inode(target.parent))
        if not target.name.startswith(".staging-"):  # nobody needs what is left of it
            named.append(target)

    def unlink(path, **options):
        assert named == []  # nothing goes before what takes its place is there for good
        real["unlink"](path, **options)

    def rename(*_):
        raise AssertionError("a name that nobody has looked after")

    for function in (fsync, replace, unlink, rename):
        monkeypatch.setattr(durable.os, function.__name__, function)
    job(tmp_path / "out")
    monkeypatch.undo()
    assert len(synchronized) > 15 and named == []


def test_killed_again_before_it_knows_that_it_is_done_a_job_is_not_published_twice(tmp_path, monkeypatch):
    stopped_while_publishing(tmp_path, monkeypatch)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), output_folder.open_output(tmp_path) as files:
            assert versions(tmp_path) == ["1"] and files.number == 2
            raise KeyboardInterrupt
    assert job(tmp_path)[1] == tmp_path / "1"
    assert_done(tmp_path, ["1"])
    assert job(tmp_path)[1] == tmp_path / "2"


def test_a_publication_that_is_done_does_not_touch_what_another_job_leaves_unfinished(tmp_path, monkeypatch):
    stopped_while_publishing(tmp_path, monkeypatch)
    another = {**JOB, "epochs": 9}
    with pytest.raises(KeyboardInterrupt), output_folder.open_output(tmp_path) as files:
        assert files.already_published(another) is None
        (job_state.open_or_create(tmp_path, another) / "checkpoint").touch()
        raise KeyboardInterrupt
    assert job_state.exists(tmp_path)
    with output_folder.open_output(tmp_path) as files:
        assert (
            files.already_published(another) is None
            and (job_state.open_or_create(tmp_path, another) / "checkpoint").exists()
        )
    assert job(tmp_path)[1] == tmp_path / "1"
    assert (tmp_path / ".unfinished" / "checkpoint").exists()


def test_a_job_that_is_run_a_second_time_on_purpose_adds_a_version(tmp_path):
    for number in (1, 2):
        assert job(tmp_path)[1] == tmp_path / str(number)


def test_an_unfinished_publication_is_part_of_a_folder_that_moves(tmp_path, monkeypatch):
    for _, out in places(monkeypatch, tmp_path / "new"):
        if (out / ".publishing").exists():
            moved = out.rename(tmp_path / "moved")
            assert job(moved)[1] == moved / "1"
            assert_whole(moved)
            assert_done(moved, ["1"])
            moved.rename(out)
        else:
            out.mkdir(exist_ok=True)


def stopped_while_publishing(out, monkeypatch):
    """A folder with a journal whose steps have not been taken."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(journal, "finish", stop_at_second_call())
        job(out)
    assert (out / ".publishing").exists() and versions(out) == []
    return out


def stop_at_second_call():
    calls = []

    def finish(directory):
        calls.append(directory)
        if len(calls) == 2:
            raise KeyboardInterrupt

    return finish


@pytest.mark.parametrize("damage", ["a bit", "half", "empty", "elsewhere"])
def test_a_damaged_journal_is_refused_and_nothing_removed(tmp_path, monkeypatch, damage):
    out, precious = stopped_while_publishing(tmp_path / "out", monkeypatch), tmp_path / "precious"
    (precious / "run").mkdir(parents=True)
    journal = out / ".publishing"
    content = bytearray(journal.read_bytes())
    content[20] ^= 1
    changed = {"a bit": bytes(content), "half": content[: len(content) // 2], "empty": b""}
    if damage == "elsewhere":  # made by somebody else, with a right checksum
        durable.write_record(journal, {"staging": "../precious", "number": 1, "job": None, "remove_checkpoints": False})
    else:
        journal.write_bytes(changed[damage])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"its file \.publishing, which says .* is damaged\. Remove that file"):
        job(out)
    assert sorted(tmp_path.rglob("*")) == before
    journal.unlink()
    assert job(out)[1] == out / "1"


def test_what_was_to_be_published_is_gone(tmp_path, monkeypatch):
    out = stopped_while_publishing(tmp_path / "out", monkeypatch)
    for staging in out.glob(".staging-*"):
        shutil.rmtree(staging)
    assert job(out)[1] == out / "1"
    assert_whole(out)
    assert_done(out, ["1"])


def test_a_number_that_something_else_has_taken(tmp_path, monkeypatch):
    out = stopped_while_publishing(tmp_path / "out", monkeypatch)
    (out / "1").mkdir()
    (out / "1" / "saved_model.pb").write_text("copied here by hand")
    with pytest.raises(InputError, match=r"1 is there, and comes from something else\. Move it away"):
        job(out)
    assert (out / "1" / "saved_model.pb").read_text() == "copied here by hand"
    shutil.rmtree(out / "1")
    assert job(out)[1] == out / "1"
    assert_done(out, ["1"])
