"""A layer object's bytes: a span of many points as one layer. Pure.

    part box … | pack box … | directory box | footer

See FORMAT.md § 11. A part is a stretch of the map in two tables; the directory tells where each
part and each pack box lies, so that opening a place takes the tail, one part and one pack box.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.columns import pack_column, unpack_column
from blocksnapd.store.point_format import BLOCK_SIZES
from blocksnapd.store.records import pack_record, unpack_record
from blocksnapd.store.runs import SLOT_BITS, ZERO, Runs, interleave, is_ascending
from blocksnapd.store.seal import (
    SEAL_SIZE,
    TAG_SIZE,
    Scope,
    close_box,
    open_box,
    open_key,
    seal_key,
)
from blocksnapd.store.tables import RunsPart, count_runs, pack_table, read_table

if TYPE_CHECKING:
    from blocksnapd.model import U64

MAGIC = b"BSNLAYER"
FORMAT = 1
PART_RUNS_MAX = 8192
PARTS_MAX = 1 << 20
PACKS_PER_BOX = 1024
PACK_BOX_PLAIN_MAX = 2 << 20
PACKS_MAX = 1 << 24
_FOOTER = struct.Struct("<80s16sQQIIII8s")
FOOTER_SIZE = _FOOTER.size
_DIRECTORY = 0  # number of the directory box; parts follow from 1, then pack boxes
_ONE = np.uint64(1)


class PartRecord(msgspec.Struct):
    """A part, plain."""

    data: list[RunsPart]
    zeros: list[RunsPart]


class DirectoryRecord(msgspec.Struct):
    """The directory, plain, as bytes are made of it."""

    from_seq: int
    to_seq: int
    from_digest: str
    to_digest: str
    size: int
    block_size: int
    floor: int
    check: int
    parts: int
    gaps: bytes
    spans: bytes
    part_sizes: bytes
    counts: bytes
    packs: int
    pack_box_sizes: bytes
    pack_plain_sizes: bytes


@dataclass(frozen=True, slots=True)
class LayerHead:
    """What a layer is: the changes from image ``from_seq`` (0: nothing) to image ``to_seq``.

    The digests, hex, are those of the two points' objects. ``size`` is that of the newer image;
    blocks from ``floor`` on are told completely: in no run means zero.
    """

    from_seq: int
    to_seq: int
    from_digest: str
    to_digest: str
    size: int
    block_size: int
    floor: int

    @property
    def blocks(self) -> int:
        """Blocks of the newer image."""
        return -(-self.size // self.block_size)


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """Where everything in a layer object is.

    Part ``i`` holds ``counts[i]`` runs within the blocks ``firsts[i]`` up to ``ends[i]``, and lies
    from ``offsets[i]`` to ``offsets[i + 1]``. Pack box ``j`` names the packs from
    ``j * PACKS_PER_BOX`` on; ``pack_offsets`` likewise. ``check`` is the sum of all entries.
    """

    head: LayerHead
    check: int
    firsts: U64
    ends: U64
    counts: U64
    offsets: U64
    packs: int
    pack_offsets: U64
    pack_plain_sizes: U64

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self.firsts)

    def overlapping(self, first: int, end: int) -> tuple[int, int]:
        """Return the parts, from and up to, that may say something of these blocks."""
        low = int(np.searchsorted(self.ends, np.uint64(first), side="right"))
        high = int(np.searchsorted(self.firsts, np.uint64(end), side="left"))
        return low, max(low, high)


@dataclass(frozen=True, slots=True)
class Footer:
    """The clear end of a layer object; ``seal`` holds the key of all its boxes."""

    seal: bytes
    repository_id: str
    parts_size: int
    packs_size: int
    directory_size: int

    def pack(self) -> bytes:
        """Return the bytes."""
        return _FOOTER.pack(
            self.seal, bytes.fromhex(self.repository_id), self.parts_size, self.packs_size,
            self.directory_size, 0, FORMAT, FOOTER_SIZE, MAGIC,
        )  # fmt: skip


def pack_part(runs: Runs) -> bytes:
    """Return the plain bytes of at most ``PART_RUNS_MAX`` runs."""
    is_zero = runs.locations == ZERO
    data = pack_table(runs.take(~is_zero), located=True)
    return pack_record(PartRecord(data, pack_table(runs.take(is_zero), located=False)))


def read_part(plain: bytes, count: int, packs: int, what: str) -> Runs:
    """Return the ``count`` runs of a part; locations count in the layer's ``packs`` packs.

    Raises:
        RepositoryFormatError: they are not so many, overlap, or name packs beyond.
    """
    record = unpack_record(plain, PartRecord, what)
    if count_runs((*record.data, *record.zeros)) != count:
        raise RepositoryFormatError(f"{what} does not have {count} runs")
    data = read_table(record.data, located=True)
    if (data.locations >> SLOT_BITS >= np.uint64(packs)).any():
        raise RepositoryFormatError(f"{what} points outside its packs")
    runs = interleave(data, read_table(record.zeros, located=False))
    if not is_ascending(runs.starts, runs.lengths):
        raise RepositoryFormatError(f"the runs of {what} overlap")
    return runs


def pack_directory(directory: Directory) -> bytes:
    """Return its plain bytes."""
    head = directory.head
    before = np.concatenate([np.zeros(1, np.uint64), directory.ends])[:-1]
    return pack_record(
        DirectoryRecord(
            from_seq=head.from_seq, to_seq=head.to_seq, from_digest=head.from_digest,
            to_digest=head.to_digest, size=head.size, block_size=head.block_size,
            floor=head.floor, check=directory.check, parts=directory.parts,
            gaps=pack_column(directory.firsts - before),
            spans=pack_column(directory.ends - directory.firsts - _ONE),
            part_sizes=pack_column(np.diff(directory.offsets)),
            counts=pack_column(directory.counts - _ONE), packs=directory.packs,
            pack_box_sizes=pack_column(np.diff(directory.pack_offsets)),
            pack_plain_sizes=pack_column(directory.pack_plain_sizes),
        )
    )  # fmt: skip


def read_directory(plain: bytes, footer: Footer, name: str) -> Directory:
    """Return the directory from its plain bytes, checked against the footer.

    Raises:
        RepositoryFormatError: it does not fit, or says what cannot be.
    """
    what = f"the directory of {name}"
    record = unpack_record(plain, DirectoryRecord, what)
    head = _head(record, what)
    boxes = -(-record.packs // PACKS_PER_BOX)
    if (
        not 0 <= record.parts <= min(PARTS_MAX, footer.parts_size // TAG_SIZE)
        or not 0 <= record.packs <= PACKS_MAX
        or boxes > footer.packs_size // TAG_SIZE
        or not 0 <= record.check < 1 << 64
    ):
        raise RepositoryFormatError(f"{what} is beyond the limits")
    lengths = unpack_column(record.spans, record.parts) + _ONE
    steps = unpack_column(record.gaps, record.parts)
    steps[1:] += lengths[:-1]
    firsts = np.cumsum(steps, dtype=np.uint64)
    counts = unpack_column(record.counts, record.parts) + _ONE
    plain_sizes = unpack_column(record.pack_plain_sizes, boxes)
    fits = is_ascending(firsts, lengths) and not (
        (counts > np.uint64(PART_RUNS_MAX)).any()
        or (counts == 0).any()
        or (plain_sizes > np.uint64(PACK_BOX_PLAIN_MAX)).any()
        or (record.parts and int(firsts[-1] + lengths[-1]) > head.blocks)
    )
    if not fits:
        raise RepositoryFormatError(f"{what} does not ascend, or is beyond the limits")
    return Directory(
        head=head, check=record.check, firsts=firsts, ends=firsts + lengths, counts=counts,
        offsets=_offsets(record.part_sizes, record.parts, 0, footer.parts_size, what),
        packs=record.packs, pack_plain_sizes=plain_sizes,
        pack_offsets=_offsets(
            record.pack_box_sizes, boxes, footer.parts_size, footer.packs_size, what
        ),
    )  # fmt: skip


class Boxes:
    """Seals and opens the boxes of one layer object."""

    def __init__(self, scope: Scope, key: bytes) -> None:
        self._scope, self._key = scope, key

    @classmethod
    def of_tail(cls, footer: Footer, scope: Scope, metadata_private: bytes) -> Boxes:
        """Return what opens the boxes of the object with this footer.

        Raises:
            ChecksumError: its key does not open.
        """
        info = scope.binding("layer")
        return cls(scope, open_key(footer.seal, metadata_private, info, what=scope.name))

    def seal(self, metadata_public: bytes) -> bytes:
        """Return the key, sealed."""
        return seal_key(self._key, metadata_public, self._scope.binding("layer"))

    def close_part(self, number: int, plain: bytes) -> bytes:
        """Return part ``number`` as a box."""
        return close_box(self._key, 1 + number, plain, self._aad("layer-part", number))

    def open_part(self, number: int, box: bytes | memoryview) -> bytes:
        """Return part ``number``, plain.

        Raises:
            ChecksumError: it is damaged.
        """
        what = f"part {number} of {self._scope.name}"
        return open_box(self._key, 1 + number, box, self._aad("layer-part", number), what=what)

    def close_packs(self, parts: int, number: int, plain: bytes) -> bytes:
        """Return pack box ``number`` of a layer with ``parts`` parts."""
        return close_box(self._key, 1 + parts + number, plain, self._aad("layer-packs", number))

    def open_packs(self, parts: int, number: int, box: bytes | memoryview) -> bytes:
        """Return pack box ``number``, plain; raises as ``open_part``."""
        what = f"pack table {number} of {self._scope.name}"
        aad = self._aad("layer-packs", number)
        return open_box(self._key, 1 + parts + number, box, aad, what=what)

    def close_directory(self, plain: bytes, footer: bytes) -> bytes:
        """Return the directory as a box bound to its footer."""
        return close_box(self._key, _DIRECTORY, plain, self._directory_aad(footer))

    def open_directory(self, box: bytes | memoryview, footer: bytes) -> bytes:
        """Return the directory, plain; raises as ``open_part``."""
        what, aad = f"the directory of {self._scope.name}", self._directory_aad(footer)
        return open_box(self._key, _DIRECTORY, box, aad, what=what)

    def _aad(self, kind: str, number: int) -> bytes:
        return self._scope.binding(kind) + b"\0" + str(number).encode()

    def _directory_aad(self, footer: bytes) -> bytes:
        return self._scope.binding("layer-directory") + footer


def unpack_footer(tail: bytes, scope: Scope, size: int) -> Footer:
    """Return the footer that ``tail`` of an object of ``size`` bytes ends with.

    Raises:
        RepositoryFormatError: there is none, it is of another repository, or its sizes do not
            add up.
    """
    if len(tail) < FOOTER_SIZE or tail[-8:] != MAGIC:
        raise RepositoryFormatError(f"{scope.name} does not end like a layer")
    values = _FOOTER.unpack(tail[-FOOTER_SIZE:])
    footer = Footer(values[0], values[1].hex(), *values[2:5])
    if values[6:8] != (FORMAT, FOOTER_SIZE):
        raise RepositoryFormatError(
            f"{scope.name} is a layer of format {values[6]}, this program reads {FORMAT}",
            hint="Use a newer blocksnapd.",
        )
    if footer.repository_id != scope.repository_id:
        raise RepositoryFormatError(f"{scope.name} belongs to repository {footer.repository_id}")
    inside = footer.parts_size + footer.packs_size
    if len(tail) != footer.directory_size + FOOTER_SIZE or inside + len(tail) != size:
        raise RepositoryFormatError(f"the sizes of {scope.name} do not add up")
    return footer


def unpack_tail(
    tail: bytes, scope: Scope, size: int, metadata_private: bytes
) -> tuple[Directory, Boxes]:
    """Return what opens an object of ``size`` bytes, from its tail.

    Raises:
        ChecksumError: the tail is not what was written. RepositoryFormatError: it was written so,
            but is not of this format.
    """
    footer = unpack_footer(tail, scope, size)
    boxes = Boxes.of_tail(footer, scope, metadata_private)
    plain = boxes.open_directory(memoryview(tail)[:-FOOTER_SIZE], tail[-FOOTER_SIZE:])
    return read_directory(plain, footer, scope.name), boxes


def _head(record: DirectoryRecord, what: str) -> LayerHead:
    head = LayerHead(
        record.from_seq, record.to_seq, record.from_digest, record.to_digest, record.size,
        record.block_size, record.floor,
    )  # fmt: skip
    if (
        not 0 <= head.from_seq < head.to_seq < 1 << 64
        or head.block_size not in BLOCK_SIZES
        or not 0 <= head.size < 1 << 63
        or not 0 <= head.floor <= head.blocks
        or (head.from_seq == 0 and (head.floor or head.from_digest))
    ):
        raise RepositoryFormatError(f"{what} says what cannot be")
    return head


def _offsets(column: bytes, count: int, start: int, size: int, what: str) -> U64:
    sizes = unpack_column(column, count)
    # Each is checked by itself first: a sum modulo 2**64 could come out right.
    if (sizes > np.uint64(size)).any() or sum(sizes.tolist()) != size:
        raise RepositoryFormatError(f"the boxes of {what} do not add up")
    return np.cumsum(np.concatenate([np.array([start], np.uint64), sizes]), dtype=np.uint64)


assert SEAL_SIZE == 80 and FOOTER_SIZE == 136  # what FORMAT.md says  # noqa: PT018
