"""What an interrupted job leaves, and which job may resume it."""

import pytest

from keras_cnn import durable
from pipelines.errors import InputError
from pipelines.training import job_state

JOB = {"epochs": 3, "data": "a" * 64, "horizontal_flip": None}


def test_the_same_job_finds_what_it_left(tmp_path):
    folder = job_state.open_or_create(tmp_path, JOB)
    (folder / "checkpoint").touch()
    assert job_state.exists(tmp_path)
    assert (job_state.open_or_create(tmp_path, dict(JOB)) / "checkpoint").exists()
    job_state.remove(tmp_path)
    assert not job_state.exists(tmp_path)


def test_another_job_is_told_what_differs(tmp_path):
    (job_state.open_or_create(tmp_path, JOB) / "checkpoint").touch()
    with pytest.raises(InputError) as caught:
        job_state.open_or_create(tmp_path, {**JOB, "epochs": 5, "data": "b" * 64})
    assert str(caught.value) == (
        f"The interrupted job in {tmp_path} can resume only with the same data and settings. Received others: epochs is 5, was "
        "3, data is 'bbbbbbbbbbb…, was 'aaaaaaaaaaa…. Run the same command as before, or add --restart to discard that job."
    )
    assert (tmp_path / ".unfinished" / "checkpoint").exists()
    folder = job_state.open_or_create(tmp_path, {**JOB, "epochs": 5}, restart=True)
    assert [path.name for path in folder.iterdir()] == ["job.json"]
    assert durable.read_record(folder / "job.json")["epochs"] == 5


def test_a_job_that_was_stopped_before_it_began_leaves_nothing_to_go_on_with(tmp_path):
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "job.json.part").write_text("{")
    assert [path.name for path in job_state.open_or_create(tmp_path, JOB).iterdir()] == ["job.json"]


@pytest.mark.parametrize("damage", ["a bit", "half", "empty", "a folder"])
def test_a_record_that_cannot_be_read_loses_no_checkpoint(tmp_path, damage):
    folder = job_state.open_or_create(tmp_path, JOB)
    (folder / "checkpoint").touch()
    record = folder / "job.json"
    content = bytearray(record.read_bytes())
    record.unlink()
    if damage == "a folder":
        record.mkdir()
    else:
        content[10] ^= 1
        record.write_bytes({"a bit": content, "half": content[:20], "empty": b""}[damage])
    with pytest.raises(
        InputError, match=r"^An interrupted job can resume only if .*job\.json can be read\. Received: "
    ):
        job_state.open_or_create(tmp_path, JOB)
    assert (folder / "checkpoint").exists()
    assert not (job_state.open_or_create(tmp_path, JOB, restart=True) / "checkpoint").exists()


def test_a_bit_of_the_record_never_makes_it_another_job(tmp_path):
    record = job_state.open_or_create(tmp_path, JOB) / "job.json"
    content = record.read_bytes()
    for bit in range(0, 8 * len(content), 5):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        record.write_bytes(damaged)
        with pytest.raises(InputError, match="can be read"):
            job_state.open_or_create(tmp_path, JOB)


PLAN = {"preset": "fast", "train": "stage4", "epochs": 4, "augmented_copies": 4}


def test_an_interrupted_job_resumes_its_plan_for_the_same_time_limit(tmp_path):
    assert job_state.planned(tmp_path, {"time_limit": 60.0}) == {}
    job_state.open_or_create(tmp_path, {**JOB, **PLAN, "time_limit": 60.0})
    assert job_state.planned(tmp_path, {"time_limit": 60.0, "preset": None}) == PLAN
    assert job_state.planned(tmp_path, {"time_limit": 60.0, "preset": "default", "epochs": 4}) == PLAN
    # Other jobs, which `open_or_create` refuses.
    others = [{"time_limit": 90.0}, {"time_limit": 60.0, "train": "head"}, {"time_limit": 60.0, "epochs": 3}]
    assert [job_state.planned(tmp_path, other) for other in others] == [{}, {}, {}]


def test_a_job_that_was_killed_while_it_published_is_recognised_by_its_plan(tmp_path):
    job = {**JOB, **PLAN, "time_limit": 60.0}
    assert job_state.planned(tmp_path, {"time_limit": 60.0}, job) == PLAN
    assert job_state.planned(tmp_path, {"time_limit": 90.0}, job) == {}


def test_a_damaged_record_stops_only_a_job_that_needs_it(tmp_path):
    job_state.open_or_create(tmp_path, JOB)
    (tmp_path / ".unfinished" / "job.json").write_text("{")
    assert job_state.planned(tmp_path, {"time_limit": None}) == {}
    with pytest.raises(InputError, match="can resume only if"):
        job_state.planned(tmp_path, {"time_limit": 60.0})
