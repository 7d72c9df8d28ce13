"""Archives are unpacked completely or refused, and nothing lands outside the folder meant for them."""

import gzip
import re
import shutil
import tarfile
import zlib

import pytest
from helpers.tar_files import CONTENT, files_in, module_archive, tar_of

from keras_cnn import archives
from keras_cnn.archives import unpack
from keras_cnn.cache_folder import cache_directory
from keras_cnn.saved_model_handles import saved_model_directory


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
    "twice": (tar_of(("a", b"x"), ("a", b"y")), "is not a complete .tar or .tar.gz file"),
    "file as folder": (tar_of(("a", b"x"), ("a/b", b"y")), "is not a complete .tar or .tar.gz file"),
    "cut off": (tar_of(("a", CONTENT))[:-1000], "is not a complete .tar or .tar.gz file"),
    "cut off, plain": (tar_of(("a", CONTENT), mode="w")[:2000], "is not a complete .tar or .tar.gz file"),
    "no archive": (b"<html>Sign in</html>", "is not a complete .tar or .tar.gz file"),
    "empty": (b"", "is not a complete .tar or .tar.gz file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_broken_archives_are_refused_and_leave_nothing(tmp_path, cache, name):
    content, reason = HOSTILE[name]
    (tmp_path / "evil.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"unpack: the archive evil\.tar\.gz ") as caught:
        saved_model_directory(tmp_path / "evil.tar.gz")
    assert reason in str(caught.value)
    assert files_in(tmp_path) == ["evil.tar.gz"]


def unpacked(path):
    """The files that are unpacked from an archive with their content, None if it is refused by one clear sentence."""
    try:
        directory = saved_model_directory(path)
    except ValueError as error:
        assert re.match(
            r"unpack: the archive module\.tar\S* .*[^.]\. Nothing of it is used; get it again\.$", str(error)
        )
        assert files_in(cache_directory()) == []
        return None
    files = {name: (directory / name).read_bytes() for name in files_in(directory)}
    shutil.rmtree(cache_directory())
    return files


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_any_flipped_bit_of_a_compressed_archive_is_noticed(tmp_path, format):
    """By the checksum of gzip. A bit of the time stamp, or of another encoding of the same content, changes no file."""
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
    """Whether Python decompresses the file to the same as `content`."""
    try:
        return gzip.decompress(path.read_bytes()) == gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return False


def test_a_flipped_bit_in_a_header_of_a_plain_archive_is_noticed(tmp_path):
    """Its headers have checksums, its files have none. Python takes a damaged header for the end."""
    content, path = module_archive("w", tarfile.GNU_FORMAT), tmp_path / "module.tar"
    headers = [
        position for position in range(0, len(content), 512) if content[position + 257 : position + 262] == b"ustar"
    ]
    assert len(headers) == 3
    checksum = range(148 + 7, 148 + 8)  # its last byte is an unused blank
    places = [8 * (head + byte) + 3 for head in headers for byte in range(0, 500, 7) if byte not in checksum]
    assert [place for place in places if unpacked(flipped(path, content, place)) is not None] == []


def flipped(path, content, place):
    """`path` with the content, of which one bit is flipped."""
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    path.write_bytes(changed)
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_that_is_cut_or_is_too_long_is_noticed(tmp_path, mode):
    content, path = module_archive(mode), tmp_path / ("module.tar.gz" if mode == "w:gz" else "module.tar")
    ends = [content[:-cut] for cut in range(1, 9)] + [
        content + more for more in (b"x", b"\0" * 600 + b"x", content[:50])
    ]
    for end in ends:
        path.write_bytes(end)
        assert unpacked(path) is None
    # Without its end, though each file is complete.
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
    path.write_bytes(b"".join(parts) + bytes(100))  # zeros that fill a tape block are valid
    assert len(unpacked(path)) == 2


def test_an_archive_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_READ", 10**5)
    path = tmp_path / "module.tar.gz"
    path.write_bytes(gzip.compress(module_archive("w") + bytes(10**6)))
    assert unpacked(path) is None


def test_large_archives_are_refused_before_they_fill_the_disk(tmp_path, monkeypatch, cache):
    path = tmp_path / "large.tar.gz"
    path.write_bytes(tar_of(("a", CONTENT), ("b", CONTENT)))
    for name, limit in (("MAX_BYTES", 2 * len(CONTENT)), ("MAX_MEMBERS", 2)):
        with monkeypatch.context() as patched:
            patched.setattr(archives, name, limit - 1)
            with pytest.raises(ValueError, match="has more than "):
                saved_model_directory(path)
            assert files_in(tmp_path) == ["large.tar.gz"]
            patched.setattr(archives, name, limit)
            unpack(path, tmp_path / name)
            assert files_in(tmp_path / name) == ["a", "b"]
            (tmp_path / name / "a").unlink()
            (tmp_path / name / "b").unlink()


def test_a_table_that_unpacks_to_more_than_memory_is_refused(tmp_path):
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 2**40
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10**6)))
    with pytest.raises(ValueError, match="its tables are too large"):
        unpack(tmp_path / "bomb.tar.gz", tmp_path / "out")
