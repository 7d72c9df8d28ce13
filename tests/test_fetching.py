"""Downloads and archives: whole or not at all, and nothing outside the folder meant for them."""

import gzip
import hashlib
import io
import re
import shutil
import sys
import tarfile
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from keras_cnn import fetching

CONTENT = bytes(range(256)) * 500


class Server:
    """Answers by path: content, its announced length, its status."""

    def __init__(self):
        self.answers, self.asked = {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                content, length, status = server.answers.get(self.path, (b"", 0, 404))
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, path, content, length=None):
        self.answers[path] = (content, len(content) if length is None else length, 200)
        return f"http://127.0.0.1:{self.http.server_port}{path}"


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


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def tar_of(*members, mode="w:gz"):
    """The bytes of an archive of (name, content), or of `TarInfo`s."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def test_a_file_is_downloaded_once(server, cache):
    address = server.put("/a/weights.h5", CONTENT)
    first, second = fetching.download(address), fetching.download(address)
    assert first == second
    assert first.name == "weights.h5"
    assert first.read_bytes() == CONTENT
    assert server.asked == ["/a/weights.h5"]
    assert first.is_relative_to(cache)


def test_checksums_are_those_of_hashlib(server, tmp_path):
    address = server.put("/weights.h5", CONTENT)
    for algorithm in (hashlib.sha256, hashlib.md5):
        assert fetching.download(address, algorithm(CONTENT).hexdigest()).read_bytes() == CONTENT
        assert fetching.download(address, algorithm(CONTENT).hexdigest().upper()).read_bytes() == CONTENT
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert fetching.digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_another_checksum_is_refused_and_kept_nowhere(server, cache):
    address = server.put("/weights.h5", CONTENT)
    with pytest.raises(ValueError, match=f"must have the checksum {'0' * 64}. Received: [0-9a-f]{{64}}"):
        fetching.download(address, "0" * 64)
    assert files_in(cache) == []


def test_a_kept_file_with_another_checksum_is_downloaded_anew(server):
    address = server.put("/weights.h5", b"old")
    fetching.download(address)
    server.put("/weights.h5", CONTENT)
    assert fetching.download(address, hashlib.sha256(CONTENT).hexdigest()).read_bytes() == CONTENT


def test_what_breaks_off_is_not_kept(server, cache):
    address = server.put("/weights.h5", CONTENT[:1000], length=len(CONTENT))
    with pytest.raises(FileNotFoundError, match=r"broke off after 1,000 of 128,000 bytes"):
        fetching.download(address)
    assert files_in(cache) == []
    server.put("/weights.h5", CONTENT)
    assert fetching.download(address).read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["/nothing.h5", "/"])
def test_what_is_not_there_is_one_sentence(server, cache, path):
    address = server.put("/else", b"")[: -len("/else")] + path
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded: HTTP Error 404: Not Found\. Check"
    ) as caught:
        fetching.download(address)
    assert address in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert files_in(cache) == []


def test_no_connection_is_one_sentence():
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded: .*refused"):
        fetching.download("http://127.0.0.1:9/weights.h5")


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=rf"The cache {tmp_path}/file cannot be written: .*Name another folder by"):
        fetching.download(server.put("/weights.h5", CONTENT))


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "weights.h5"])
def test_other_kinds_of_address_are_refused(address):
    with pytest.raises(ValueError, match="`address` must be an https address"):
        fetching.download(address)


def test_a_saved_model_comes_from_a_folder_an_archive_or_an_address(server, tmp_path, cache):
    archive = tar_of(("./saved_model.pb", b"graph"), ("./variables/variables.index", b"index"))
    (tmp_path / "module.tar.gz").write_bytes(archive)
    local = fetching.saved_model_directory(tmp_path / "module.tar.gz")
    address = server.put("/module.tar.gz", archive)
    remote = fetching.saved_model_directory(address)
    for directory in (local, remote):
        assert files_in(directory) == ["saved_model.pb", "variables/variables.index"]
        assert (directory / "saved_model.pb").read_bytes() == b"graph"
        assert fetching.saved_model_directory(directory) == directory
    assert local == fetching.saved_model_directory(str(tmp_path / "module.tar.gz"))
    assert remote == fetching.saved_model_directory(address)
    assert server.asked == ["/module.tar.gz"]
    assert len(files_in(cache)) == 4


def test_a_saved_model_may_lie_one_folder_deeper_and_uncompressed(tmp_path):
    (tmp_path / "module.tar").write_bytes(tar_of(("module/saved_model.pb", b"graph"), mode="w"))
    assert fetching.saved_model_directory(tmp_path / "module.tar").name == "module"


def test_a_folder_of_versions_is_not_one_saved_model(tmp_path):
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    with pytest.raises(ValueError, match=rf"one SavedModel, not the folder of 2, such as {tmp_path}/2\. Received"):
        fetching.saved_model_directory(tmp_path)


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("https://tfhub.dev/google/x/5", "https://tfhub.dev/google/x/5?tf-hub-format=compressed"),
        ("https://example.org/x.tar.gz", "https://example.org/x.tar.gz"),
    ],
)
def test_tf_hub_is_asked_for_the_archive(monkeypatch, address, asked):
    def fetch(address, path, checksum):
        path.write_bytes(tar_of(("saved_model.pb", address.encode())))
        return path

    monkeypatch.setattr(fetching, "_fetch", fetch)
    assert (fetching.saved_model_directory(address) / "saved_model.pb").read_text() == asked


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
def test_models_of_kaggle_are_left_to_kagglehub(monkeypatch, tmp_path, handle, asked):
    class Kagglehub:
        @staticmethod
        def model_download(handle):
            assert handle == asked
            return str(tmp_path)

    (tmp_path / "saved_model.pb").touch()
    monkeypatch.setitem(sys.modules, "kagglehub", Kagglehub)
    assert fetching.saved_model_directory(handle) == tmp_path
    Kagglehub.model_download = staticmethod(lambda handle: 1 / 0)
    with pytest.raises(FileNotFoundError, match=f"kagglehub could not download '{asked}': division by zero"):
        fetching.saved_model_directory(handle)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(FileNotFoundError, match="pip install kagglehub"):
        fetching.saved_model_directory(handle)


def test_what_is_nowhere_says_what_is_expected():
    with pytest.raises(
        FileNotFoundError, match=r"must be an existing folder or \.tar\.gz file, an https .*'nowhere/at/all'"
    ):
        fetching.saved_model_directory("nowhere/at/all")


def link(kind):
    info = tarfile.TarInfo("a")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


HOSTILE = {
    "absolute": (tar_of(("/tmp/keras_cnn_evil", b"x")), "'/tmp/keras_cnn_evil', a path that leads out of it"),
    "upwards": (tar_of(("ok", b"x"), ("a/../../evil", b"x")), "a path that leads out of it"),
    "symbolic link": (tar_of(link(tarfile.SYMTYPE)), "'a', which is neither a plain file nor a folder"),
    "hard link": (tar_of(link(tarfile.LNKTYPE)), "neither a plain file nor a folder"),
    "device": (tar_of(link(tarfile.CHRTYPE)), "neither a plain file nor a folder"),
    "pipe": (tar_of(link(tarfile.FIFOTYPE)), "neither a plain file nor a folder"),
    "twice": (tar_of(("a", b"x"), ("a", b"y")), "is no whole .tar or .tar.gz file"),
    "file as folder": (tar_of(("a", b"x"), ("a/b", b"y")), "is no whole .tar or .tar.gz file"),
    "cut off": (tar_of(("a", CONTENT))[:-1000], "is no whole .tar or .tar.gz file"),
    "cut off, plain": (tar_of(("a", CONTENT), mode="w")[:2000], "is no whole .tar or .tar.gz file"),
    "no archive": (b"<html>Sign in</html>", "is no whole .tar or .tar.gz file"),
    "empty": (b"", "is no whole .tar or .tar.gz file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_broken_archives_are_refused_and_leave_nothing(tmp_path, cache, name):
    content, reason = HOSTILE[name]
    (tmp_path / "evil.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"unpack: the archive evil\.tar\.gz ") as caught:
        fetching.saved_model_directory(tmp_path / "evil.tar.gz")
    assert reason in str(caught.value)
    assert files_in(tmp_path) == ["evil.tar.gz"]


def module_archive(mode, format=tarfile.PAX_FORMAT):
    """An archive of a SavedModel as small as can be, with a name that needs a header of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as archive:
        for name, content in (("saved_model.pb", CONTENT[:700]), ("variables/" + "é" * 60, CONTENT[300:900])):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpacked(path):
    """The files that are unpacked from an archive with their content, None if it is refused by one clear sentence."""
    try:
        directory = fetching.saved_model_directory(path)
    except ValueError as error:
        assert re.match(
            r"unpack: the archive module\.tar\S* .*[^.]\. Nothing of it is used; get it anew\.$", str(error)
        )
        assert files_in(fetching.cache()) == []
        return None
    files = {name: (directory / name).read_bytes() for name in files_in(directory)}
    shutil.rmtree(fetching.cache())
    return files


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_any_flipped_bit_of_a_compressed_archive_is_noticed(tmp_path, format):
    """By the checksum of gzip. A bit that tells the time, or puts the same content in another way, changes no file."""
    content, path = module_archive("w:gz", format), tmp_path / "module.tar.gz"
    path.write_bytes(content)
    whole = unpacked(path)
    assert len(whole) == 2
    refused = 0
    for place in [*range(0, 8 * len(content), 41), *range(8 * len(content) - 64, 8 * len(content))]:
        found = unpacked(flipped(path, content, place))
        assert (found == whole) if stays_the_same(path, content) else (found is None)
        refused += found is None
    assert refused > 150


def stays_the_same(path, content):
    """Whether Python's own reading of all of a compressed file finds what is in `content`."""
    try:
        return gzip.decompress(path.read_bytes()) == gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return False


def test_a_flipped_bit_in_a_header_of_a_plain_archive_is_noticed(tmp_path):
    """Its headers have checksums, what is in its files has none. Python takes a damaged header for the end."""
    content, path = module_archive("w", tarfile.GNU_FORMAT), tmp_path / "module.tar"
    headers = [
        position for position in range(0, len(content), 512) if content[position + 257 : position + 262] == b"ustar"
    ]
    assert len(headers) == 3
    checksum = range(148 + 7, 148 + 8)  # its last byte is a blank that nobody reads
    places = [8 * (head + byte) + 3 for head in headers for byte in range(0, 500, 7) if byte not in checksum]
    assert [place for place in places if unpacked(flipped(path, content, place)) is not None] == []


def flipped(path, content, place):
    """`path` with the content, of which one bit is another one."""
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    path.write_bytes(changed)
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_that_is_cut_or_goes_on_is_noticed(tmp_path, mode):
    content, path = module_archive(mode), tmp_path / ("module.tar.gz" if mode == "w:gz" else "module.tar")
    ends = [content[:-cut] for cut in range(1, 9)] + [
        content + more for more in (b"x", b"\0" * 600 + b"x", content[:50])
    ]
    for end in ends:
        path.write_bytes(end)
        assert unpacked(path) is None
    # Without its end, though each file is whole.
    path.write_bytes(gzip.compress(content[: 512 * 7]) if mode == "w:gz" else content[: 512 * 7])
    assert unpacked(path) is None


def test_an_archive_of_several_compressed_parts_is_read_to_the_last(tmp_path):
    """As `pigz` and `cat a.gz b.gz` make them."""
    content, path = module_archive("w"), tmp_path / "module.tar.gz"
    parts = [gzip.compress(content[:1500]), gzip.compress(content[1500:])]
    path.write_bytes(b"".join(parts))
    assert len(unpacked(path)) == 2
    for place in range(8 * len(parts[0]) - 64, 8 * len(parts[0])):  # the checksum in the middle
        assert unpacked(flipped(path, b"".join(parts), place)) is None
    path.write_bytes(parts[0])
    assert unpacked(path) is None
    path.write_bytes(b"".join(parts) + bytes(100))  # zeros that fill a block of a tape are no damage
    assert len(unpacked(path)) == 2


def test_an_archive_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "MOST_AT_ONCE", 10**5)
    path = tmp_path / "module.tar.gz"
    path.write_bytes(gzip.compress(module_archive("w") + bytes(10**6)))
    assert unpacked(path) is None


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
        (ValueError, FileNotFoundError), match=r"is no whole \.tar|broke off after|could not be downloaded"
    ):
        fetching.saved_model_directory(address)
    assert files_in(cache) == []
    server.put("/module.tar.gz", content)
    assert len(files_in(fetching.saved_model_directory(address))) == 2


def test_large_archives_are_refused_before_they_fill_the_disk(tmp_path, monkeypatch, cache):
    path = tmp_path / "large.tar.gz"
    path.write_bytes(tar_of(("a", CONTENT), ("b", CONTENT)))
    for name, limit in (("MOST_BYTES", 2 * len(CONTENT)), ("MOST_MEMBERS", 2)):
        with monkeypatch.context() as patched:
            patched.setattr(fetching, name, limit - 1)
            with pytest.raises(ValueError, match="has more than "):
                fetching.saved_model_directory(path)
            assert files_in(tmp_path) == ["large.tar.gz"]
            patched.setattr(fetching, name, limit)
            fetching.unpack(path, tmp_path / name)
            assert files_in(tmp_path / name) == ["a", "b"]
            (tmp_path / name / "a").unlink()
            (tmp_path / name / "b").unlink()


def test_a_table_that_unpacks_to_more_than_memory_is_refused(tmp_path):
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 2**40
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10**6)))
    with pytest.raises(ValueError, match="its tables are too large"):
        fetching.unpack(tmp_path / "bomb.tar.gz", tmp_path / "out")
