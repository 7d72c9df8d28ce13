"""The folder that a job writes: ours alone, one job at a time, nothing half-written."""

import os
import signal
import sys

import pytest

from pipelines import InputError, output


def finish(files, text="report"):
    """What a job writes before it publishes."""
    (files.run / "report.html").write_text(text)
    files.version.mkdir()
    (files.version / "saved_model.pb").touch()
    return files.publish({}, unfinished=False)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_versions_and_runs_are_numbered_together(tmp_path):
    out = tmp_path / "new" / "photos"
    for number in (1, 2):
        with output.opened(out) as files:
            assert finish(files, f"report {number}") == (out / "runs" / str(number), out / str(number))
    assert visible(out) == ["1", "2", "report.html", "runs", "serving"]
    assert (out / "report.html").read_text() == "report 2"
    (out / "7").mkdir()
    (out / "7" / "saved_model.pb").touch()
    with output.opened(out) as files:
        assert files.number == 8


def test_a_failed_job_leaves_nothing(tmp_path):
    out = tmp_path / "new" / "photos"
    with pytest.raises(KeyboardInterrupt), output.opened(out) as files:
        (files.version / "variables").mkdir(parents=True)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failed_second_job_leaves_the_first(tmp_path):
    with output.opened(tmp_path) as files:
        finish(files)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError), output.opened(tmp_path) as files:
        (files.version / "variables").mkdir(parents=True)
        raise RuntimeError
    assert sorted(tmp_path.rglob("*")) == before


def test_the_leavings_of_a_killed_job_are_invisible_and_removed(tmp_path):
    (tmp_path / ".staging-killed" / "version").mkdir(parents=True)
    (tmp_path / ".lock").touch()
    with output.opened(tmp_path) as files:
        assert files.number == 1
        finish(files)
    assert not (tmp_path / ".staging-killed").exists()


def test_one_job_at_a_time(tmp_path):
    with output.opened(tmp_path), pytest.raises(InputError, match=r"Another job is writing to .*\. Wait for it"):
        with output.opened(tmp_path):
            pass


def test_folders_of_others_are_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"which holds thesis\.txt\. Name another folder\."), output.opened(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="which is a file"), output.opened(tmp_path / "thesis.txt"):
        pass


def test_a_folder_of_classes_named_by_digits_is_no_output(tmp_path):
    # The digits 0 to 9 as classes look like versions, but hold no SavedModel.
    (tmp_path / "0").mkdir()
    with pytest.raises(InputError, match="which holds 0"):
        output.check(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written: Permission denied"), output.opened(tmp_path / "new"):
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

        with output.opened(out) as files:
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
        with output.opened(out) as files:
            finish(files)
        assert not list(out.glob(".staging*"))
        number += 1
    assert number >= 10
