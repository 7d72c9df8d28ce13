"""Images in folders: the folders name the classes, and the splits if they are called `train`, `test` and so on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from keras_cnn.arguments import join_some
from pipelines.catalog import kinds
from pipelines.catalog.splits import SPELLINGS
from pipelines.errors import InputError

CLASS_FOLDERS = ("first", "last")


def rows(folder: str, class_folder: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield `(path, label, split, reason)` for every visible file below a folder; see `Catalog.from_folder`."""
    if class_folder not in CLASS_FOLDERS:
        raise InputError(f"The folder of a class must be 'first' or 'last'. Received: {class_folder!r}.")
    if not os.path.isdir(folder):
        raise InputError(
            f"The data must be a folder with one folder of images per class. Received: {folder}, no folder."
        )
    listed = list(_visible(folder))
    splits = _splits(folder, listed[0][2])
    depth = bool(splits)
    level = 0 if class_folder == "first" else -1
    found: set[str] = set()
    empty: dict[str, None] = {}  # in order
    for names, files, folders in listed:
        split = splits.get(names[0], "") if names else ""
        below_split = names[depth:]
        label = below_split[level] if below_split else ""
        if files:
            found.add(label)
        elif label and (not folders or class_folder == "first"):
            empty[label] = None
        for path, _, reason in files:
            yield path, label, split, reason if label else "not in the folder of a class"
    if missing := [label for label in empty if label not in found]:
        raise InputError(
            f"Each class needs images. Received: empty folders in {folder}: {join_some(missing)}. Fill or remove them."
        )
    if not any(found):
        raise InputError(
            f"The data must be a folder with one folder of images per class. Received: {folder}, without such folders."
        )


def images(folder: str | os.PathLike) -> tuple[list[str], Counter]:
    """The images below a folder at any depth, sorted by name, and the number of other files per suffix.

    Images of formats that cannot be decoded are included. Hidden files, and files that often accompany images, such as tables
    and notes, are neither listed nor counted.
    """
    paths: list[str] = []
    others: Counter[str] = Counter()
    for _, files, _ in _visible(os.fspath(folder)):
        paths += [path for path, kind, _ in files if kind in (kinds.IMAGE, kinds.FOREIGN)]
        others.update(os.path.splitext(path)[1].lower() for path, kind, _ in files if kind == kinds.OTHER)
    return paths, others


def _splits(folder: str, names: list[str]) -> dict[str, str]:
    """The split of each folder on the first level; empty unless there are `train` and at least one other split."""
    splits = {name: SPELLINGS[name.lower()] for name in names if name.lower() in SPELLINGS}
    if not {"train"} < set(splits.values()):
        return {}
    others = [name for name in names if name not in splits]
    if others:
        raise InputError(
            f"Next to folders of splits there must be no other folder. Received: {', '.join(splits)} and {others[0]} in "
            f"{folder}. Move {others[0]} into a split or elsewhere."
        )
    return splits


def _visible(top: str) -> Iterator[tuple[tuple[str, ...], list[tuple[str, str, str]], list[str]]]:
    """Yield `(names, files, folders)` of `top` and each folder below it, parents first, sorted by name, without hidden ones.

    `names` lead from `top` to the folder. `files` are tuples of path, kind (see `kinds`) and the reason why the file cannot be
    used as an image. `folders` are names. Links are followed, except to a folder around them, which would never end.
    """
    waiting: list[tuple[tuple[str, ...], str, frozenset]] = [((), top, frozenset())]
    while waiting:
        names, folder, parents = waiting.pop()
        try:
            identity = os.stat(folder)
            parents |= {(identity.st_dev, identity.st_ino)}
            with os.scandir(folder) as entries:
                visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"The folder {folder} cannot be read: {error.strerror}. Change its permissions, or move it away."
            ) from None
        files, folders = [], []
        for entry in visible:
            kind, reason = _kind(entry, parents)
            if kind == "folder":
                folders.append(entry.name)
            else:
                files.append((entry.path, kind, reason))
        yield names, files, folders
        waiting += [((*names, name), os.path.join(folder, name), parents) for name in reversed(folders)]


def _kind(entry: os.DirEntry, parents: frozenset) -> tuple[str, str]:
    """("folder", "") or as `kinds.kind_of`. Only regular files are opened, since reading a pipe would wait forever."""
    if not entry.is_symlink():
        folder, file = entry.is_dir(), entry.is_file()
    else:  # these functions raise no error at a link to itself
        folder, file = os.path.isdir(entry.path), os.path.isfile(entry.path)
        if folder:
            target = os.stat(entry.path)
            if (target.st_dev, target.st_ino) in parents:
                return kinds.OTHER, "a link to a folder around it"
        elif not os.path.exists(entry.path):
            return kinds.OTHER, "a link to a file that does not exist"
    if folder:
        return "folder", ""
    return kinds.kind_of(entry.path) if file else (kinds.OTHER, "not a regular file")
