"""Checkpoints: a damaged one is never used, whichever of its two files is damaged."""

import shutil
import warnings

import numpy as np
import pytest

from keras_cnn import durable
from keras_cnn.training.checkpoints import Checkpoints

STATE = {
    "epoch": 2,
    "step": 0,
    "job": {"optimizer config learning_rate": 1e-05, "loss": "categorical_crossentropy", "name": "é"},
    "history": {"loss": [0.5, 0.25], "accuracy": [0.5, None]},
    "callbacks": [{"_kept": [0.5, 1.25], "_waited": 0}],
}


@pytest.fixture
def pair(tmp_path):
    """A directory with two checkpoints; the state of the older one says so."""
    checkpoints = Checkpoints(tmp_path / "kept")
    checkpoints.save([np.zeros(2)], {"older": True})
    checkpoints.save([np.ones(2)], STATE)
    return checkpoints


def assert_skipped(checkpoints):
    with pytest.warns(UserWarning, match=r"^Checkpoint .*2\.json is damaged \(.*\) and is skipped\.$"):
        (array,), state = Checkpoints(checkpoints.directory).load()
    assert state == {"older": True} and array.tolist() == [0, 0]


def test_values_and_arrays_come_back(pair):
    (array,), state = pair.load()
    assert array.tolist() == [1, 1] and state == STATE


def with_a_bit_flipped(path, bits):
    """The indices of the bits, each while that bit of the file is flipped."""
    content = path.read_bytes()
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        yield bit
    path.write_bytes(content)


def test_any_bit_of_the_plain_values(pair):
    path = pair.directory / "2.json"
    every = range(8 * path.stat().st_size)
    for _ in with_a_bit_flipped(path, every):
        with pytest.raises(ValueError, match=r"^the checksum in 2\.json differs$"):
            durable.read_record(path)
    for _ in with_a_bit_flipped(path, every[::29]):
        assert_skipped(pair)
    assert pair.load()[1] == STATE


def test_a_bit_of_the_arrays(pair):
    path = pair.directory / "2.npz"
    for _ in with_a_bit_flipped(path, range(0, 8 * path.stat().st_size, 29)):
        assert_skipped(pair)
    assert pair.load()[1] == STATE


@pytest.mark.parametrize("half", ["json", "npz"])
def test_any_length_of_either_file(pair, half):
    path = pair.directory / f"2.{half}"
    content = path.read_bytes()
    for length in range(0, len(content), 1 if half == "json" else 7):
        path.write_bytes(content[:length])
        assert_skipped(pair)
    for more in (b"\0", b"\n", content):
        path.write_bytes(content + more)
        assert_skipped(pair)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "2.npz").unlink(),
        lambda folder: shutil.copy(folder / "1.npz", folder / "2.npz"),
        lambda folder: shutil.copy(folder / "1.json", folder / "2.json"),
        lambda folder: (folder / "2.json").write_text('{"state": {}, "types": ["float64"], "sha256": ""}'),
        lambda folder: (folder / "2.json").unlink() or (folder / "2.json").mkdir(),
    ],
    ids=["no arrays", "arrays of another", "halves of two", "no checksum", "a folder"],
)
def test_pairs_that_do_not_belong_together(pair, damage):
    damage(pair.directory)
    with pytest.warns(UserWarning, match=r"2\.json is damaged"):
        found = pair.load()
    assert found is None or found[1] == {"older": True}


def test_a_valid_checkpoint_stays_when_a_damaged_one_is_newer(pair):
    """Two valid ones are kept; the damaged one does not count."""
    (pair.directory / "2.npz").write_bytes(b"")
    assert_skipped(pair)
    with pytest.warns(UserWarning, match="damaged"):
        pair.load()
    pair.save([np.ones(1)], {"number": 3})
    assert {path.name for path in pair.directory.iterdir()} == {"1.json", "1.npz", "3.json", "3.npz"}
    (pair.directory / "3.json").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"3\.json is damaged"):
        assert pair.load()[1] == {"older": True}


def test_the_next_checkpoint_removes_what_a_killed_process_left_and_nothing_else(pair):
    for name in ("3.npz.part", "3.json.part", "9.npz", "0.npz", "notes.txt", "².json", "3.npz.part.old"):
        (pair.directory / name).write_text("left")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pair.load()[1] == STATE
    pair.save([], {})
    names = {path.name for path in pair.directory.iterdir()}
    assert names == {"2.json", "2.npz", "3.json", "3.npz", "notes.txt", "².json", "3.npz.part.old"}


def test_a_symbolic_link_is_replaced_and_not_followed(pair, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    for name in ("3.npz", "3.npz.part", "3.json.part"):
        (pair.directory / name).symlink_to(precious)
    pair.save([np.ones(1)], {"number": 3})
    assert precious.read_text() == "years of work" and pair.load()[1] == {"number": 3}
    assert not list(pair.directory.glob("*.part")) and not (pair.directory / "3.npz").is_symlink()
