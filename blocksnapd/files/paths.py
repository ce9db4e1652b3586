"""Names in a path → a node, within one file system that nothing leads out of. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError, NotFoundError

if TYPE_CHECKING:
    from blocksnapd.files.nodes import FileSystem, Node

LINKS_MAX: Final = 40
DEPTH_MAX: Final = 4096


def find(files: FileSystem, path: bytes) -> tuple[Node, bytes]:
    """Return the node at ``path``, and its name there ("" for the root).

    Symbolic links on the way are followed, absolute ones from the root of this file system; one
    at the end is returned itself, unless a slash follows.

    Raises:
        NotFoundError: there is none. What ``files`` raises.
    """
    left = path.split(b"/")[::-1]
    trail: list[tuple[Node, bytes]] = [(files.node(files.root), b"")]
    links = 0
    while left:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            trail = trail[:-1] or trail
            continue
        node = _child(files, trail[-1][0], name, path)
        if node.is_link and left:
            target = files.link(node)
            links += 1
            if links > LINKS_MAX or len(left) > DEPTH_MAX:
                raise NotFoundError(f"{_shown(path)}: too many symbolic links")
            left += target.split(b"/")[::-1]
            trail = trail[:1] if target.startswith(b"/") else trail
            continue
        if len(trail) > DEPTH_MAX:
            raise NotFoundError(f"{_shown(path)} is too deep")
        trail.append((node, name))
    found, name = trail[-1]
    if path.endswith(b"/") and not found.is_directory:
        raise NotFoundError(f"{_shown(path)} is not a directory")
    return found, name


def _child(files: FileSystem, parent: Node, name: bytes, path: bytes) -> Node:
    if not parent.is_directory:
        raise NotFoundError(f"{_shown(path)}: there is a file where a directory should be")
    try:
        for entry in files.entries(parent):
            if entry.name == name:
                return files.node(entry.number)
    except FormatError as error:
        error.message = f"{_shown(path)}: {error.message}"
        raise
    raise NotFoundError(
        f"there is no {_shown(path)} in this point",
        hint="Look what there is with: blocksnapctl ls POINT:/",
    )


def _shown(path: bytes) -> str:
    return path.decode(errors="replace")[:4096]
