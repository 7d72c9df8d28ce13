"""The folder that a job writes: ours alone, one job at a time, nothing half-written."""

import errno
import os
import signal
import sys

import pytest
import tensorflow as tf

from keras_cnn.serving import FolderError, version_folder
from pipelines import InputError, cli
from pipelines.errors import TrainingError
from pipelines.runs import output_folder
from pipelines.training import job_state


def finish(files, text="report"):
    """What a job writes before it publishes."""
    (files.run / "report.html").write_text(text)
    files.version.mkdir()
    (files.version / "saved_model.pb").touch()
    return files.publish({}, remove_checkpoints=False)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_versions_and_runs_are_numbered_together(tmp_path):
    out = tmp_path / "new" / "photos"
    for number in (1, 2):
        with output_folder.open_output(out) as files:
            assert finish(files, f"report {number}") == (out / "runs" / str(number), out / str(number))
    assert visible(out) == ["1", "2", "report.html", "runs", "serving"]
    assert (out / "report.html").read_text() == "report 2"
    (out / "7").mkdir()
    (out / "7" / "saved_model.pb").touch()
    with output_folder.open_output(out) as files:
        assert files.number == 8


def test_a_failed_job_leaves_nothing(tmp_path):
    out = tmp_path / "new" / "photos"
    with pytest.raises(KeyboardInterrupt), output_folder.open_output(out) as files:
        (files.version / "variables").mkdir(parents=True)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failed_second_job_leaves_the_first(tmp_path):
    with output_folder.open_output(tmp_path) as files:
        finish(files)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError), output_folder.open_output(tmp_path) as files:
        (files.version / "variables").mkdir(parents=True)
        raise RuntimeError
    assert sorted(tmp_path.rglob("*")) == before


def test_the_leavings_of_a_killed_job_are_invisible_and_removed(tmp_path):
    (tmp_path / ".staging-killed" / "version").mkdir(parents=True)
    (tmp_path / ".lock").touch()
    with output_folder.open_output(tmp_path) as files:
        assert files.number == 1
        finish(files)
    assert not (tmp_path / ".staging-killed").exists()


def test_one_job_at_a_time(tmp_path):
    with (
        output_folder.open_output(tmp_path),
        pytest.raises(InputError, match=r"Another job is writing to .*\. Wait for it"),
    ):
        with output_folder.open_output(tmp_path):
            pass


def test_folders_of_others_are_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(InputError, match=r"which holds thesis\.txt\. Name another folder\."),
        output_folder.open_output(tmp_path),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="which is a file"), output_folder.open_output(tmp_path / "thesis.txt"):
        pass


def test_a_folder_of_classes_named_by_digits_is_no_output(tmp_path):
    # The digits 0 to 9 as classes look like versions, but hold no SavedModel.
    (tmp_path / "0").mkdir()
    with pytest.raises(InputError, match="which holds 0"):
        output_folder.check(tmp_path)


def precious(tmp_path):
    """A file and a folder of somebody else."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    return other


NAMES = (".lock", ".publishing", ".unfinished", "runs", "serving")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["thesis.txt", ".", "nothing"])
def test_links_in_the_place_of_our_own_are_refused_and_not_followed(tmp_path, name, target):
    other, out = precious(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(other / target)
    wanted = "a plain file" if name in (".lock", ".publishing") else "a folder"
    sentence = (
        f"What jobs write into the output folder {out} must be theirs alone. Received: {name}, which is not {wanted} but a "
        "symbolic link. Move it away, or name another folder."
    )
    for function in (output_folder.check, lambda path: output_folder.open_output(path).__enter__()):
        with pytest.raises(InputError) as caught:
            function(out)
        assert str(caught.value) == sentence
    with (
        pytest.raises(FolderError, match="a symbolic link"),
        version_folder.open_staging(out),
    ):  # as `keras_cnn.export` does
        pass
    assert [path.name for path in out.iterdir()] == [name]
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    assert (other / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "make", "wanted"),
    [
        (".lock", os.mkdir, "a plain file"),
        (".lock", os.mkfifo, "a plain file"),
        (".publishing", os.mkdir, "a plain file"),
        ("report.html", os.mkdir, "a file"),
        ("runs", os.mkfifo, "a folder"),
        ("serving", lambda path: path.write_text("tea"), "a folder"),
        (".unfinished", lambda path: path.write_text("symphony"), "a folder"),
    ],
)
def test_things_of_another_kind_in_the_place_of_our_own_are_refused(tmp_path, name, make, wanted):
    make(tmp_path / name)
    with (
        pytest.raises(InputError, match=rf"Received: {name}, which is not {wanted}\. Move it away"),
        output_folder.open_output(tmp_path),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_lock_that_becomes_a_link_after_the_check_is_refused(tmp_path, monkeypatch):
    other, out = precious(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / ".lock").symlink_to(other / "thesis.txt")
    monkeypatch.setattr(version_folder, "check_directory", lambda path: path)
    with (
        pytest.raises(InputError, match=r"cannot be written: \.lock in it must be a plain file"),
        output_folder.open_output(out),
    ):
        pass
    assert (other / "thesis.txt").read_text() == "years of work"


def test_a_link_in_the_place_of_the_report_is_replaced(tmp_path):
    other, out = precious(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "report.html").symlink_to(other / "thesis.txt")
    with output_folder.open_output(out) as files:
        finish(files)
    assert (other / "thesis.txt").read_text() == "years of work" and (out / "report.html").read_text() == "report"
    assert not (out / "report.html").is_symlink()


def test_hard_links_in_the_place_of_our_own_lose_the_name_and_not_the_content(tmp_path):
    other, out = precious(tmp_path), tmp_path / "out"
    (out / "serving").mkdir(parents=True)
    names = ("report.html", ".lock", "serving/README.md", "serving/models.config")
    for name in names:
        os.link(other / "thesis.txt", out / name)
    with output_folder.open_output(out) as files:
        finish(files)
    assert (other / "thesis.txt").read_text() == "years of work"


def test_leavings_that_are_links_go_without_what_they_lead_to(tmp_path):
    other, out = precious(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / ".staging-link").symlink_to(other)
    (out / ".staging-file").symlink_to(other / "thesis.txt")
    (out / ".staging-nothing").symlink_to(other / "nothing")
    with output_folder.open_output(out) as files:
        finish(files)
    assert not list(out.glob(".staging*")) and (other / "thesis.txt").read_text() == "years of work"


def test_the_output_itself_may_be_a_link_to_a_folder(tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large disk")
    with output_folder.open_output(tmp_path / "out") as files:
        assert finish(files)[1] == tmp_path / "out" / "1"
    assert (
        visible(tmp_path / "large disk") == ["1", "report.html", "runs", "serving"] and (tmp_path / "out").is_symlink()
    )


FULL = "No space left on device"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, FULL),
        OSError(errno.EDQUOT, "Disk quota exceeded", "model.keras"),
        tf.errors.ResourceExhaustedError(None, None, f"version/variables/variables.data; {FULL}"),
        RuntimeError(f"Unable to synchronously close file (file write failed: errno = 28, error message = '{FULL}')"),
    ],
    ids=["Python", "quota", "TensorFlow", "HDF5"],
)
def test_a_full_disk_is_one_sentence_and_leaves_what_is_unfinished(tmp_path, error):
    with pytest.raises(
        TrainingError, match=r"^The disk has no room left.*\. Make room and run the same command again: "
    ):
        with output_folder.open_output(tmp_path) as files:
            job_state.open_or_create(tmp_path, {"epochs": 3})
            (files.version / "variables").mkdir(parents=True)
            raise error
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".unfinished"]
    assert job_state.open_or_create(tmp_path, {"epochs": 3})


@pytest.mark.parametrize(
    "error", [InputError(f"The cache: {FULL}."), TrainingError(f"{FULL}."), OSError(5, "Input/output")]
)
def test_what_says_itself_what_was_wrong_is_left_as_it_is(tmp_path, error):
    with pytest.raises(type(error)) as caught, output_folder.open_output(tmp_path):
        raise error
    assert caught.value is error or str(caught.value) == str(error)


def test_the_command_line_ends_with_status_1_where_a_disk_is_full(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, FULL, "answers.csv")

    monkeypatch.setattr("pipelines.evaluation.prediction.predict", full)
    photo = tmp_path / "photo.jpg"
    photo.touch()
    assert cli.main(["predict", "model", str(photo)]) == 1
    said = f"a disk has no room left: [Errno 28] {FULL}: 'answers.csv'. Make room and run the same command again."
    assert capsys.readouterr().err == f"keras-cnn predict: {said}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with (
        pytest.raises(InputError, match="cannot be written: Permission denied"),
        output_folder.open_output(tmp_path / "new"),
    ):
        pass


def killed_at_event(out, number):
    """Run a job in a child that kills itself before its `number`-th operation on files; whether that came."""
    child = os.fork()
    if not child:
        seen = 0

        def count(event, arguments):
            nonlocal seen
            if event.startswith(("os.", "open", "shutil.", "tempfile.")):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        with output_folder.open_output(out) as files:
            sys.addaudithook(count)
            finish(files)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
def test_killed_before_any_operation_on_files(tmp_path):
    """Whenever a job dies, TF Serving sees whole versions alone, with their records, and the next job works."""
    number = 0
    while killed_at_event(tmp_path / str(number), number + 1):
        out = tmp_path / str(number)
        for version in (path for path in out.iterdir() if path.name.isdigit()):
            assert (version / "saved_model.pb").is_file() and (out / "runs" / version.name / "report.html").is_file()
        with output_folder.open_output(out) as files:
            finish(files)
        assert not list(out.glob(".staging*"))
        number += 1
    assert number >= 10
