"""Archives for tests of unpacking."""

import io
import tarfile

CONTENT = bytes(range(256)) * 500


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


def module_archive(mode, format=tarfile.PAX_FORMAT):
    """An archive of a SavedModel as small as can be, with a name that needs a header of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as archive:
        for name, content in (("saved_model.pb", CONTENT[:700]), ("variables/" + "é" * 60, CONTENT[300:900])):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
