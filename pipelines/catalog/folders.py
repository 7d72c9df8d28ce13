"""Images below a folder, whose folders name the classes, and the splits where they are called `train`, `test` and so on."""

from __future__ import annotations

import os
from collections import Counter

from keras_cnn.arguments import join_some
from pipelines.catalog import kinds
from pipelines.catalog.splits import SPELLINGS
from pipelines.errors import InputError

CLASS_FOLDERS = ("first", "last")


def rows(folder: str, class_folder: str):
    """Yield `(path, label, split, reason)` for every visible file below a folder; see `Catalog.from_folder`."""
    if class_folder not in CLASS_FOLDERS:
        raise InputError(f"The folder of a class must be 'first' or 'last'. Received: {class_folder!r}.")
    if not os.path.isdir(folder):
        raise InputError(
            f"The data must be a folder with a folder of images for each class. Received: {folder}, no folder."
        )
    listed = list(_visible(folder))
    splits = _splits(folder, listed[0][2])
    depth, level, found, empty = bool(splits), 0 if class_folder == "first" else -1, set(), {}
    for names, files, folders in listed:
        split, place = splits.get(names[0], "") if names else "", names[depth:]
        label = place[level] if place else ""
        if files:
            found.add(label)
        elif label and (not folders or class_folder == "first"):
            empty[label] = None
        for path, _, reason in files:
            yield path, label, split, reason if label else "not in the folder of a class"
    if missing := [label for label in empty if label not in found]:
        names = join_some(missing)
        raise InputError(f"Each class needs images. Received: empty folders in {folder}: {names}. Fill or remove them.")
    if not any(found):
        raise InputError(
            f"The data must be a folder with a folder of images for each class. Received: {folder}, without such folders."
        )


def images(folder) -> tuple[list[str], Counter]:
    """The images below a folder at any depth, in order of name, and how many other files there are by ending.

    Images of a format that cannot be decoded are among them. Hidden files and what usually lies beside images, such as tables
    and notes, are neither.
    """
    paths, others = [], Counter()
    for _, files, _ in _visible(os.fspath(folder)):
        paths += [path for path, kind, _ in files if kind in (kinds.IMAGE, kinds.FOREIGN)]
        others.update(os.path.splitext(path)[1].lower() for path, kind, _ in files if kind == kinds.OTHER)
    return paths, others


def _splits(folder, names):
    """The split of each folder on the first level, if that is what they are: `train` beside another one."""
    splits = {name: SPELLINGS[name.lower()] for name in names if name.lower() in SPELLINGS}
    if not {"train"} < set(splits.values()):
        return {}
    others = [name for name in names if name not in splits]
    if others:
        raise InputError(
            f"Beside the folders of splits there must be no others. Received: {', '.join(splits)} and {others[0]} in "
            f"{folder}. Move {others[0]} into a split or elsewhere."
        )
    return splits


def _visible(top):
    """Yield `(names, files, folders)` of each folder from `top` down, parents first, in order of name, without hidden ones.

    `names` lead from `top` to the folder, `files` are path, kind (of `kinds`) and the reason why it is no image that can be
    used, `folders` are names.
    Links are followed, except to a folder that they lie in, which would have no end.
    """
    waiting = [((), top, frozenset())]
    while waiting:
        names, folder, around = waiting.pop()
        try:
            identity = os.stat(folder)
            around |= {(identity.st_dev, identity.st_ino)}
            with os.scandir(folder) as entries:
                visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"The folder {folder} cannot be read: {error.strerror}. Allow it, or move it away."
            ) from None
        files, folders = [], []
        for entry in visible:
            kind, reason = _kind(entry, around)
            if kind == "folder":
                folders.append(entry.name)
            else:
                files.append((entry.path, kind, reason))
        yield names, files, folders
        waiting += [((*names, name), os.path.join(folder, name), around) for name in reversed(folders)]


def _kind(entry, around):
    """("folder", "") or as `kinds.kind_of`; only regular files are opened, since reading a pipe would wait for ever."""
    if not entry.is_symlink():
        folder, file = entry.is_dir(), entry.is_file()
    else:  # asked so, a link to itself is no error
        folder, file = os.path.isdir(entry.path), os.path.isfile(entry.path)
        if folder:
            target = os.stat(entry.path)
            if (target.st_dev, target.st_ino) in around:
                return kinds.OTHER, "a link to a folder that it lies in"
        elif not os.path.exists(entry.path):
            return kinds.OTHER, "a link to nowhere"
    if folder:
        return "folder", ""
    return kinds.kind_of(entry.path) if file else (kinds.OTHER, "not a regular file")
