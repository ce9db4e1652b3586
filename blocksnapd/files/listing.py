"""What is in a directory of an image, as messages, a bounded part at a time. Pure.

A part is ``{"directory": path, "entries": [...]}`` or ``{"note": sentence}`` of what
is wrong, or ``{"remark": sentence}``. Names that are no
UTF-8 come with ``raw``, percent-encoded.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_from_bytes

from blocksnapd.errors import FormatError
from blocksnapd.files.nodes import NS, TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.files.nodes import Entry, FileSystem, Node

PART_ENTRIES: Final = 500
SORTED_MAX: Final = 50_000  # larger directories come as they are stored
DEPTH_MAX: Final = 4096

Part = dict[str, Any]


def listed(
    files: FileSystem, node: Node, path: bytes, *, recursive: bool, is_long: bool
) -> Iterator[Part]:
    """Yield a file itself or what is in a directory; damage further down becomes notes.

    Raises:
        FormatError: ``node`` itself cannot be read. What ``Source.read_at`` raises.
    """
    if not node.is_directory:
        yield {"directory": None, "entries": [_whole(files, path, node)]}
        return
    seen = {node.number}
    left = [(path.rstrip(b"/") or b"/", node)]
    while left:
        where, directory = left.pop()
        inner: list[tuple[bytes, Node]] = []
        try:
            yield from _directory(
                files, where, directory, inner if recursive else None, is_long=is_long
            )
        except FormatError as error:
            if directory is node:
                raise
            yield {"note": f"{_text(where)}: {error.message}"}
        for below, found in reversed(inner):
            if found.number in seen or below.count(b"/") > DEPTH_MAX:
                yield {"note": f"{_text(below)}: a directory that is in two places is listed once"}
                continue
            seen.add(found.number)
            left.append((below, found))


def _directory(
    files: FileSystem, where: bytes, node: Node, inner: list[tuple[bytes, Node]] | None,
    *, is_long: bool,
) -> Iterator[Part]:  # fmt: skip
    """Yield what is in one; add the directories in it to ``inner``."""
    entries = files.entries(node)
    some = list(islice(entries, SORTED_MAX))
    rest = next(entries, None)
    if rest is None:
        some.sort(key=lambda entry: entry.name)
    else:
        yield {"remark": f"{_text(where)} is large: it is listed as it is stored"}
    yield from _parts(files, where, iter(some), inner, is_long=is_long)
    if rest is not None:
        yield from _parts(files, where, iter([rest]), inner, is_long=is_long)
        yield from _parts(files, where, entries, inner, is_long=is_long)
    if not some:
        yield {"directory": _text(where), "entries": []}


def _parts(
    files: FileSystem, where: bytes, entries: Iterator[Entry],
    inner: list[tuple[bytes, Node]] | None, *, is_long: bool,
) -> Iterator[Part]:  # fmt: skip
    while some := list(islice(entries, PART_ENTRIES)):
        told = []
        for entry in some:
            told.append(_told(files, entry, is_long=is_long))
            if inner is not None and told[-1]["type"] == "directory":
                try:
                    found = files.node(entry.number)
                except FormatError:
                    continue  # told with the entry
                inner.append((where.rstrip(b"/") + b"/" + entry.name, found))
        yield {"directory": _text(where), "entries": told}


def _told(files: FileSystem, entry: Entry, *, is_long: bool) -> Part:
    if not is_long and entry.type:
        return {**_name(entry.name), "type": TYPES[entry.type]}
    try:
        return _whole(files, entry.name, files.node(entry.number))
    except FormatError as error:
        return {**_name(entry.name), "type": "damaged", "problem": error.message}


def _whole(files: FileSystem, name: bytes, node: Node) -> Part:
    found: Part = {
        **_name(name), "type": TYPES[node.type], "mode": node.mode & 0o7777, "uid": node.uid,
        "gid": node.gid, "links": node.links, "size": node.size,
        "mtime": node.mtime_ns // NS, "mtime_ns": node.mtime_ns, "inode": node.number,
    }  # fmt: skip
    if node.is_link:
        target = files.link(node)
        found["target"] = _text(target)
    if any(node.device):
        found["device"] = list(node.device)
    return found


def _name(name: bytes) -> Part:
    text = _text(name)
    same = text.encode() == name
    return {"name": text} if same else {"name": text, "raw": quote_from_bytes(name)}


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
