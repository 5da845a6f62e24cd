# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a mounted copy: found inside it whatever its links say, and edited in place.

An absolute link in the copy (`/etc/fstab -> /data/fstab`) followed by the kernel would lead to the
primary's file.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from core.errors import FixupFailed

_MOST_LINKS = 40


def inside(root: Path, name: str) -> Path | None:
    """The file called `name` in the tree at `root`, links followed as the copy itself would.

    None when there is no such file. Raises FixupFailed on a circle of links.
    """
    todo = [part for part in reversed(name.split("/")) if part]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == ".":
            continue
        if part == "..":
            del done[-1:]
            continue
        here = root.joinpath(*done, part)
        if not os.path.lexists(here):
            return None
        if not here.is_symlink():
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise FixupFailed(f"/{name.lstrip('/')} of the copy is a circle of links.")
        target = os.readlink(here)
        if target.startswith("/"):
            done = []
        todo += [step for step in reversed(target.split("/")) if step]
    return root.joinpath(*done)


def matching(root: Path, pattern: str) -> Iterator[Path]:
    """The regular files of the tree that match `pattern` (`etc/default/grub.d/*.cfg`), sorted.

    Only `*` in names, no `**`; folders that are links are followed inside the tree.
    """
    yield from _matching(root, "", [part for part in pattern.split("/") if part])


def _matching(root: Path, found: str, todo: list[str]) -> Iterator[Path]:
    if not todo:
        path = inside(root, found)
        if path is not None and path.is_file():
            yield path
        return
    first, *rest = todo
    if "*" not in first:
        yield from _matching(root, f"{found}/{first}", rest)
        return
    folder = inside(root, found)
    if folder is None or not folder.is_dir():
        return
    for path in sorted(folder.glob(first)):
        if not path.name.startswith("."):
            yield from _matching(root, f"{found}/{path.name}", rest)


def replace_content(path: Path, content: bytes) -> bool:
    """Overwrite a file in place, so that few blocks change; False when it was so already.

    Owner, mode, extended attributes and hard links stay.
    """
    with path.open("r+b") as stream:
        if stream.read() == content:
            return False
        stream.seek(0)
        stream.write(content)
        stream.truncate()
    return True


def put(root: Path, name: str, content: bytes, mode: int = 0o644) -> bool:
    """Write the file `name` of the tree, making its folders; False when it was so already."""
    path = inside(root, name)
    if path is not None:
        return replace_content(path, content)
    parent, _, last = name.strip("/").rpartition("/")
    folder = _folder(root, parent)
    path = folder / last
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(content)
    return True


def _folder(root: Path, name: str) -> Path:
    known = inside(root, name)
    if known is not None:
        return known
    parent, _, last = name.rpartition("/")
    path = _folder(root, parent) / last
    path.mkdir(mode=0o755)
    return path
