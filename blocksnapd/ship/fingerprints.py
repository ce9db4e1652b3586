"""What each block of the newest point holds, on the source's own disk. Edge.

    head.json       which point the fingerprints are of, and which files hold what belongs to it
    next.json       the same for the point under way: sealed before it is committed
    data-<id>       16 bytes per block: its identity; all zero for a zero block. Sparse.
    places-<id>     where that content lies in the repository: ``places.py``, with packs-<id>
    hints           where to look for an identity: ``content.py``
    pending-<id>    the rows of ``data`` that a point under way changes; pending-places-<id> and
                    pending-packs-<id> those of the others

The order that keeps them true: pending rows (or whole new files) and ``next.json`` are durable
before the point is committed; after the commit the rows are applied and ``head.json`` is
replaced. Applying twice equals applying once. So after a crash at any place
:meth:`FingerprintStore.open` gives the fingerprints of the repository's newest point, or none;
a stale fingerprint, which would hide a change, is never used. Places are of the same point or
not there; without them content is stored again that the repository has. Blocking: call in a thread.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd import blocks as block_math
from blocksnapd.errors import StateError
from blocksnapd.model import HASH_SIZE, U8, U64
from blocksnapd.runtime import durable
from blocksnapd.ship.content import (
    HINTS_NAME,
    Content,
    Hints,
    Newest,
    add_hints,
    has_hints,
    make_hints,
)
from blocksnapd.ship.places import (
    Places,
    PlacesHead,
    PlacesUpdate,
    finish_places,
    whole_places,
)
from blocksnapd.ship.rows import RowsUpdate, apply, has_size, read_pending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROWS_MAX = 1 << 18
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose fingerprints a file holds. ``base_id`` is empty where the file was made afresh."""

    point_id: str
    base_id: str
    file: str
    block_size: int
    block_count: int
    places: PlacesHead | None = None


class Fingerprints:
    """The fingerprints of one committed point; read only, any thread."""

    def __init__(self, path: str, head: Head) -> None:
        self.head = head
        self._rows = np.memmap(path, dtype=np.uint8, mode="r", shape=(head.block_count, HASH_SIZE))

    def rows(self) -> Iterator[tuple[U64, U8]]:
        """Yield all blocks and their fingerprints; reads the whole file."""
        for at in range(0, self.head.block_count, _ROWS_MAX):
            rows = np.array(self._rows[at : at + _ROWS_MAX])
            yield np.arange(at, at + len(rows), dtype=np.uint64), rows

    def state_sum(self) -> int:
        """Return the :func:`blocksnapd.blocks.state_sum` over all blocks; reads the whole file."""
        total = 0
        for blocks, rows in self.rows():
            total = block_math.state_add(total, block_math.state_sum(blocks, rows), 0)
        return total

    def get(self, blocks: U64) -> U8:
        """Return the fingerprints of ``blocks``, shape (n, 16); zeros beyond the end."""
        found = np.zeros((len(blocks), HASH_SIZE), dtype=np.uint8)
        inside = blocks < np.uint64(self.head.block_count)
        found[inside] = self._rows[blocks[inside]]
        return found


class Update:
    """Collects what a point under way changes. One thread.

    ``content`` is what its sink may know of the base's content, and tells of its own.
    """

    def __init__(self, directory: str, head: Head, base: Fingerprints | None) -> None:
        self._directory, self._head = directory, head
        self._rows = RowsUpdate(
            os.path.join(directory, head.file),
            os.path.join(directory, _pending(head)) if base else "",
            row_size=HASH_SIZE, count=head.block_count,
        )  # fmt: skip
        if base is None:
            durable.remove(os.path.join(directory, HINTS_NAME))
        self._places = PlacesUpdate(directory, head.point_id, head.places, head.block_count)
        self.content = Content(_newest(directory, base), self._places)

    def put(self, blocks: U64, hashes: U8) -> None:
        """Note that ``blocks`` (ascending) hold content of identity ``hashes``, shape (n, 16)."""
        self._rows.put(blocks, hashes)

    def seal(self, packs: Sequence[bytes] = ()) -> None:
        """Make it all durable; call before the point is committed.

        Args:
            packs: what the sink finished with.
        """
        self._rows.seal()
        head = msgspec.structs.replace(self._head, places=self._places.seal(packs))
        durable.replace(os.path.join(self._directory, "next.json"), msgspec.json.encode(head))

    def close(self) -> None:
        """Let the files go, sealed or not; what is not needed is removed by the next open."""
        self._rows.close()
        self._places.close()


class FingerprintStore:
    """The fingerprint files of one volume."""

    def __init__(self, directory: str) -> None:
        durable.make_dirs(directory)
        self._directory = directory
        self._head_path = os.path.join(directory, "head.json")
        self._next_path = os.path.join(directory, "next.json")
        self._hints_path = os.path.join(directory, HINTS_NAME)

    def begin(
        self, point_id: str, base: Fingerprints | None, *, block_size: int, block_count: int
    ) -> Update:
        """Start the update for a point; without ``base`` all fingerprints are made afresh."""
        file = base.head.file if base else f"data-{point_id}"
        base_id = base.head.point_id if base else ""
        places = base.head.places if base else None
        head = Head(point_id, base_id, file, block_size, block_count, places)
        return Update(self._directory, head, base)

    def open(self, point_id: str) -> Fingerprints | None:
        """Return the fingerprints of the committed point ``point_id``, or None: there are none.

        Finishes an update that was interrupted after its point was committed, and removes
        what points that never were have left.

        Raises:
            OSError: the disk is full or fails; with more room the next call finishes the update.
        """
        head = _read(self._head_path)
        if head is None or head.point_id != point_id or not self._is_whole(head):
            head = self._finish(point_id, head)
        if head is not None:
            places = whole_places(self._directory, head.places, head.block_count)
            head = msgspec.structs.replace(head, places=places)
        self._remove_all_but(head)
        if head is None:
            return None
        found = Fingerprints(os.path.join(self._directory, head.file), head)
        if head.places and not has_hints(self._hints_path, head.block_count):
            make_hints(self._hints_path, head.block_count, found.rows())
        return found

    def drop(self) -> None:
        """Remove all fingerprints; the next point starts afresh."""
        durable.remove(self._head_path)
        self._remove_all_but(None)

    def unseal(self) -> None:
        """Forget the update that was sealed last: the point that is there may not be of it."""
        durable.remove(self._next_path)

    def _finish(self, point_id: str, old: Head | None) -> Head | None:
        new = _read(self._next_path)
        if new is None or new.point_id != point_id:
            return None
        if new.base_id and (old is None or old.point_id != new.base_id):
            return None
        try:
            if new.base_id:
                self._apply(new)
        except StateError:
            return None
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise  # what is sealed stays; without it all would be shipped again
            return None
        if not self._is_whole(new):
            return None
        if new.places is not None:
            places = finish_places(
                self._directory, new.places, old.places if old else None,
                point_id=point_id, block_count=new.block_count,
            )  # fmt: skip
            new = msgspec.structs.replace(new, places=places)
        durable.replace(self._head_path, msgspec.json.encode(new))
        return new

    def _apply(self, head: Head) -> None:
        pending = os.path.join(self._directory, _pending(head))
        apply(
            os.path.join(self._directory, head.file), pending,
            row_size=HASH_SIZE, count=head.block_count,
        )  # fmt: skip
        if has_hints(self._hints_path, head.block_count):
            add_hints(self._hints_path, head.block_count, read_pending(pending, HASH_SIZE))

    def _is_whole(self, head: Head) -> bool:
        path = os.path.join(self._directory, head.file)
        return has_size(path, head.block_count * HASH_SIZE)

    def _remove_all_but(self, head: Head | None) -> None:
        kept = {"head.json", HINTS_NAME, head.file} if head else set()
        if head is not None and head.places is not None:
            kept |= {head.places.file, head.places.packs}
        for name in os.listdir(self._directory):
            if name not in kept:
                durable.remove(os.path.join(self._directory, name))


def _read(path: str) -> Head | None:
    # A head that can't be read is no head: everything is compared afresh, nothing is lost.
    try:
        with open(path, "rb") as file:
            head = msgspec.json.decode(file.read(), type=Head)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    return head if os.path.basename(head.file) == head.file else None


def _pending(head: Head) -> str:
    return f"pending-{head.point_id}"


def _newest(directory: str, base: Fingerprints | None) -> Newest | None:
    # Whatever is not there, or not as it should be, is content that is not found.
    if base is None or base.head.places is None:
        return None
    count = base.head.block_count
    try:
        places = Places(directory, base.head.places, count)
        return Newest(base, places, Hints(os.path.join(directory, HINTS_NAME), count))
    except (OSError, ValueError):
        return None
