"""Records of verification: what was found whole, what is damaged, what was healed. Pure.

    BSNRECRD | u32 1 | u32 plain size | salt (32) | box

See FORMAT.md § 14. A record is sealed by a key that the hash key and the salt give, so that every
source of the repository reads it and nobody else learns which blocks are meant, or can make one.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.model import HASH_SIZE, U8, U64
from blocksnapd.store.columns import pack_column, unpack_column
from blocksnapd.store.compression import compress, decompress_exact
from blocksnapd.store.names import parse_record_name
from blocksnapd.store.pack_format import PACK_BLOCKS_MAX
from blocksnapd.store.point_format import PackRef  # noqa: TC001 - msgspec reads the annotations
from blocksnapd.store.records import pack_record, unpack_record
from blocksnapd.store.seal import Scope, close_box, object_tag, open_box

MAGIC = b"BSNRECRD"
FORMAT = 1
ROWS_MAX = 1 << 21
PLAIN_SIZE_MAX = 1 << 27
_SALT_SIZE = 32
_PREFIX = struct.Struct("<8sII32s")
RECORD_SIZE_MAX = PLAIN_SIZE_MAX + _PREFIX.size + 4096


class Checked(msgspec.Struct, frozen=True, array_like=True):
    """The packs ``names`` were read whole, and were whole, at ``time_us``."""

    time_us: int
    names: tuple[str, ...]


class OkRecord(msgspec.Struct, frozen=True, tag="ok"):
    """What one run of verification, or several that were joined, found whole."""

    checks: tuple[Checked, ...]


class BadRecord(msgspec.Struct, frozen=True, tag="bad"):
    """One damaged object, as it was found when ``newest_seq`` was the newest point.

    ``pack`` is set for a pack. Its damaged slots stand in ``rows``, once for each block that some
    point keeps there. Any other object that cannot be read has none.
    """

    name: str
    problem: str
    time_us: int
    newest_seq: int
    pack: PackRef | None = None
    count: int = 0
    slots: bytes = b""
    blocks: bytes = b""
    identities: bytes = b""

    def rows(self) -> BadRows:
        """Return slots, blocks and identities.

        Raises:
            RepositoryFormatError: they are not as many as said, or beyond the limits.
        """
        if not 0 <= self.count <= ROWS_MAX:
            raise RepositoryFormatError(f"a record of damage tells {self.count} blocks")
        if not self.count:
            none = np.zeros(0, dtype=np.uint64)
            return BadRows(none, none, np.zeros((0, HASH_SIZE), dtype=np.uint8))
        slots = unpack_column(self.slots, self.count)
        if len(self.identities) != HASH_SIZE * self.count or (slots >= PACK_BLOCKS_MAX).any():
            raise RepositoryFormatError("a record of damage does not fit its count")
        found = np.frombuffer(self.identities, dtype=np.uint8).reshape(-1, HASH_SIZE)
        return BadRows(slots, unpack_column(self.blocks, self.count), found)


class HealedRecord(msgspec.Struct, frozen=True, tag="healed"):
    """The damage that the record ``bad`` tells is mended: every point reads around it."""

    bad: str
    time_us: int


Record: TypeAlias = OkRecord | BadRecord | HealedRecord


@dataclass(frozen=True, slots=True, eq=False)
class BadRows:
    """``blocks[i]`` lies in the damaged ``slots[i]`` and had ``identities[i]``.

    Shapes (n,), (n,), (n, 16). An identity that nobody knows any more is all zero.
    """

    slots: U64
    blocks: U64
    identities: U8

    def __len__(self) -> int:
        return len(self.slots)


def bad_pack_record(
    pack: PackRef, rows: BadRows, problem: str, *, time_us: int, newest_seq: int
) -> BadRecord:
    """Return the record of a damaged pack; at most ``ROWS_MAX`` rows."""
    return BadRecord(
        name=pack.name, problem=problem, time_us=time_us, newest_seq=newest_seq, pack=pack,
        count=len(rows), slots=pack_column(rows.slots), blocks=pack_column(rows.blocks),
        identities=np.ascontiguousarray(rows.identities).tobytes(),
    )  # fmt: skip


def seal_record(record: Record, name: str, repository_id: str, hash_key: bytes) -> bytes:
    """Return the object of the name ``name`` that tells ``record``."""
    plain = pack_record(record)
    salt = secrets.token_bytes(_SALT_SIZE)
    clear = _PREFIX.pack(MAGIC, FORMAT, len(plain), salt)
    info = _binding(name, repository_id)
    return clear + close_box(_key(hash_key, salt, info), 0, compress(plain), info + b"\0" + clear)


def open_record(data: bytes, name: str, repository_id: str, hash_key: bytes) -> Record:
    """Return what the record of the name ``name`` tells.

    Raises:
        ChecksumError: it is not what was written under this name.
        RepositoryFormatError: it is not of this format.
    """
    if len(data) < _PREFIX.size or data[:8] != MAGIC:
        raise RepositoryFormatError(f"{name} is not a record: its first bytes are another's")
    _, version, size, salt = _PREFIX.unpack_from(data)
    if version != FORMAT:
        raise RepositoryFormatError(f"{name} is a record of format {version}, not {FORMAT}")
    clear, info = data[: _PREFIX.size], _binding(name, repository_id)
    box = memoryview(data)[_PREFIX.size :]
    packed = open_box(_key(hash_key, salt, info), 0, box, info + b"\0" + clear, what=name)
    if size > PLAIN_SIZE_MAX:
        raise RepositoryFormatError(f"{name} is beyond the limits")
    return read_record(decompress_exact(packed, size), name)


def read_record(plain: bytes, name: str) -> Record:
    """Return a record from its plain bytes.

    Raises:
        RepositoryFormatError: it is not of this format, contradicts itself, or is not of the kind
            that its name says.
    """
    found: Record = unpack_record(plain, Record, f"the content of {name}")  # type: ignore[arg-type]
    if _KINDS[type(found)] != parse_record_name(name).kind:
        raise RepositoryFormatError(f"{name} is a record of another kind than its name says")
    if isinstance(found, BadRecord):
        found.rows()
    return found


_KINDS: dict[type, Literal["ok", "bad", "healed"]] = {
    OkRecord: "ok", BadRecord: "bad", HealedRecord: "healed",
}  # fmt: skip


def _binding(name: str, repository_id: str) -> bytes:
    return Scope(repository_id, parse_record_name(name).volume_id, name).binding("record")


def _key(hash_key: bytes, salt: bytes, info: bytes) -> bytes:
    # The salt is random and used for one object only, so the key is fresh and the nonce may be 0.
    return object_tag("records", hash_key, salt + info)
