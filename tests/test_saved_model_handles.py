"""The directory of a SavedModel, from a folder, an archive, an address or Kaggle."""

import sys

import pytest
from helpers.http_server import Server
from helpers.tar_files import files_in, module_archive, tar_of

from keras_cnn import saved_model_handles
from keras_cnn.saved_model_handles import saved_model_directory


@pytest.fixture
def server():
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_saved_model_comes_from_a_folder_an_archive_or_an_address(server, tmp_path, cache):
    archive = tar_of(("./saved_model.pb", b"graph"), ("./variables/variables.index", b"index"))
    (tmp_path / "module.tar.gz").write_bytes(archive)
    local = saved_model_directory(tmp_path / "module.tar.gz")
    address = server.put("/module.tar.gz", archive)
    remote = saved_model_directory(address)
    for directory in (local, remote):
        assert files_in(directory) == ["saved_model.pb", "variables/variables.index"]
        assert (directory / "saved_model.pb").read_bytes() == b"graph"
        assert saved_model_directory(directory) == directory
    assert local == saved_model_directory(str(tmp_path / "module.tar.gz"))
    assert remote == saved_model_directory(address)
    assert server.asked == ["/module.tar.gz"]
    assert len(files_in(cache)) == 4


def test_a_saved_model_may_lie_one_folder_deeper_and_uncompressed(tmp_path):
    (tmp_path / "module.tar").write_bytes(tar_of(("module/saved_model.pb", b"graph"), mode="w"))
    assert saved_model_directory(tmp_path / "module.tar").name == "module"


def test_a_folder_of_versions_is_not_one_saved_model(tmp_path):
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    with pytest.raises(ValueError, match=rf"one SavedModel, not the folder of 2, such as {tmp_path}/2\. Received"):
        saved_model_directory(tmp_path)


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("https://tfhub.dev/google/x/5", "https://tfhub.dev/google/x/5?tf-hub-format=compressed"),
        ("https://example.org/x.tar.gz", "https://example.org/x.tar.gz"),
    ],
)
def test_tf_hub_is_asked_for_the_archive(monkeypatch, address, asked):
    def download_to(path, address, checksum):
        path.write_bytes(tar_of(("saved_model.pb", address.encode())))
        return path

    monkeypatch.setattr(saved_model_handles, "download_to", download_to)
    assert (saved_model_directory(address) / "saved_model.pb").read_text() == asked


@pytest.mark.parametrize(
    ("handle", "asked"),
    [
        ("google/mobilenet-v2/tensorFlow2/100-224/1", "google/mobilenet-v2/tensorFlow2/100-224/1"),
        ("kaggle:google/resnet/tensorFlow1/50", "google/resnet/tensorFlow1/50"),
        (
            "https://www.kaggle.com/models/google/x/frameworks/TensorFlow2/variations/y/versions/3",
            "google/x/TensorFlow2/y/3",
        ),
        ("https://kaggle.com/models/google/x/tensorFlow2/y", "google/x/tensorFlow2/y"),
    ],
)
def test_models_of_kaggle_are_downloaded_by_kagglehub(monkeypatch, tmp_path, handle, asked):
    class Kagglehub:
        @staticmethod
        def model_download(handle):
            assert handle == asked
            return str(tmp_path)

    (tmp_path / "saved_model.pb").touch()
    monkeypatch.setitem(sys.modules, "kagglehub", Kagglehub)
    assert saved_model_directory(handle) == tmp_path
    Kagglehub.model_download = staticmethod(lambda handle: 1 / 0)
    with pytest.raises(FileNotFoundError, match=f"kagglehub could not download '{asked}': division by zero"):
        saved_model_directory(handle)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(FileNotFoundError, match="pip install kagglehub"):
        saved_model_directory(handle)


def test_an_unknown_handle_is_reported_with_what_is_expected():
    with pytest.raises(
        FileNotFoundError, match=r"must be an existing folder or \.tar\.gz file, an https .*'nowhere/at/all'"
    ):
        saved_model_directory("nowhere/at/all")


@pytest.mark.parametrize("wrong", ["announced less", "announced more", "announced nothing", "announced nonsense"])
def test_an_archive_whose_download_is_cut_is_not_kept(server, cache, wrong):
    content = module_archive("w:gz")
    half = len(content) // 2
    announced = {
        "announced less": (content, half),
        "announced more": (content[:half], None),
        "announced nothing": (content[:half], ""),
        "announced nonsense": (content[:half], "many"),
    }
    sent, length = announced[wrong]
    address = server.put("/module.tar.gz", sent, len(content) if length is None else length)
    with pytest.raises(
        (ValueError, FileNotFoundError), match=r"is not a complete \.tar|broke off after|could not be downloaded"
    ):
        saved_model_directory(address)
    assert files_in(cache) == []
    server.put("/module.tar.gz", content)
    assert len(files_in(saved_model_directory(address))) == 2
