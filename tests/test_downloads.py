"""Downloads are complete or absent, and errors are clear sentences."""

import hashlib

import pytest
from helpers.http_server import Server
from helpers.tar_files import CONTENT, files_in

from keras_cnn.downloads import download, file_checksum


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


def test_a_file_is_downloaded_once(server, cache):
    address = server.put("/a/weights.h5", CONTENT)
    first, second = download(address), download(address)
    assert first == second
    assert first.name == "weights.h5"
    assert first.read_bytes() == CONTENT
    assert server.asked == ["/a/weights.h5"]
    assert first.is_relative_to(cache)


def test_checksums_are_those_of_hashlib(server, tmp_path):
    address = server.put("/weights.h5", CONTENT)
    for algorithm in (hashlib.sha256, hashlib.md5):
        assert download(address, algorithm(CONTENT).hexdigest()).read_bytes() == CONTENT
        assert download(address, algorithm(CONTENT).hexdigest().upper()).read_bytes() == CONTENT
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert file_checksum(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_another_checksum_is_refused_and_nothing_is_kept(server, cache):
    address = server.put("/weights.h5", CONTENT)
    with pytest.raises(ValueError, match=f"must have the checksum {'0' * 64}. Received: [0-9a-f]{{64}}"):
        download(address, "0" * 64)
    assert files_in(cache) == []


def test_a_cached_file_with_another_checksum_is_downloaded_again(server):
    address = server.put("/weights.h5", b"old")
    download(address)
    server.put("/weights.h5", CONTENT)
    assert download(address, hashlib.sha256(CONTENT).hexdigest()).read_bytes() == CONTENT


def test_an_incomplete_download_is_not_kept(server, cache):
    address = server.put("/weights.h5", CONTENT[:1000], length=len(CONTENT))
    with pytest.raises(FileNotFoundError, match=r"broke off after 1,000 of 128,000 bytes"):
        download(address)
    assert files_in(cache) == []
    server.put("/weights.h5", CONTENT)
    assert download(address).read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["/nothing.h5", "/"])
def test_a_missing_file_is_reported_in_one_sentence(server, cache, path):
    address = server.put("/else", b"")[: -len("/else")] + path
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded: HTTP Error 404: Not Found\. Check"
    ) as caught:
        download(address)
    assert address in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert files_in(cache) == []


def test_a_missing_connection_is_reported_in_one_sentence():
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded: .*refused"):
        download("http://127.0.0.1:9/weights.h5")


def test_a_cache_that_cannot_be_written_is_reported(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=rf"The cache {tmp_path}/file cannot be written: .*Name another directory by"):
        download(server.put("/weights.h5", CONTENT))


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "weights.h5"])
def test_other_kinds_of_address_are_refused(address):
    with pytest.raises(ValueError, match="`address` must be an https address"):
        download(address)
