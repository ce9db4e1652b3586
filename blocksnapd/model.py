"""Frozen values that the verbs exchange. Pure.

Vocabulary: an *origin* is the protected volume; a *snapshot* is the
short-lived dm-snapshot on the host; a *restore point* (point) is what the
repository keeps. A *block* is the repository's unit (4 KiB by default), a
*chunk* is dm-snapshot's. A bare ``size``, ``offset`` or ``length`` is bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blocksnapd.pace import FREE_TRAFFIC, Traffic

if TYPE_CHECKING:
    from datetime import datetime

U64: TypeAlias = NDArray[np.uint64]
U8: TypeAlias = NDArray[np.uint8]

HASH_SIZE = 16
BLOCK_SIZE_DEFAULT = 4096

# A location of content is ``pack << 32 | slot``. Packs count in the session that writes them or,
# with this bit, in the packs that the source remembers of earlier sessions.
KNOWN_PACK = np.uint64(1 << 63)
PACK_NUMBER_MASK = np.uint64((1 << 31) - 1)
NOWHERE = np.uint64((1 << 64) - 1)

Kind: TypeAlias = Literal["full", "delta"]
Method: TypeAlias = Literal["first", "tracked", "compare"]
SnapshotState: TypeAlias = Literal["good", "invalid", "half"]


@dataclass(frozen=True, slots=True)
class Access:
    """What opens the door of a place that is not this host's: paths of files, None for none.

    ``traffic`` is how to behave on the way there.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    credentials: str | None = None
    traffic: Traffic = FREE_TRAFFIC


NO_ACCESS = Access()


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """Half-open byte ranges ``[starts[i], ends[i])``: sorted, disjoint, not touching."""

    starts: U64
    ends: U64

    @classmethod
    def whole(cls, size: int) -> Extents:
        """Return the one extent that covers ``size`` bytes (none when ``size`` is 0)."""
        full = [(0, size)] if size else []
        array = np.array(full, dtype=np.uint64).reshape(-1, 2)
        return cls(array[:, 0], array[:, 1])

    @property
    def size(self) -> int:
        """Bytes covered."""
        return int((self.ends - self.starts).sum())

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, slots=True)
class SeenSnapshot:
    """One snapshot of ours as the host shows it.

    ``point_id`` is the point it was taken for, from its tag. ``state``:
    ``good`` may be read, ``invalid`` was given up by the kernel, ``half`` is
    what an interrupted command left.
    """

    name: str
    point_id: str
    state: SnapshotState
    size: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class HostView:
    """What a change source sees of one volume, at one look."""

    volume_id: str
    size: int
    snapshots: tuple[SeenSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that now exists.

    ``time`` is an instant at which its content was the volume's.
    ``suspend_s`` is how long writers were held, measured; 0 without a suspend.
    """

    point_id: str
    time: datetime
    suspend_s: float
    duration_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """Where the new snapshot may differ from the base: a superset, in origin bytes."""

    extents: Extents
    chunk_size: int
    entries: int


@dataclass(frozen=True, slots=True, eq=False)
class SavedBatch:
    """Old content out of a COW device: origin chunk ``chunks[i]`` held ``data[i*C:(i+1)*C]``."""

    chunk_size: int
    chunks: U64
    data: memoryview


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What the repository asks a source to ship again, because what it holds of it is damaged.

    ``identities[i]`` is what ``blocks[i]`` must still have, or it need not be shipped; all zero:
    nobody knows. Shapes (n,), (n, 16); blocks ascend, a block may stand there more than once.
    ``afresh``: what later points build on is lost; only a full point helps. ``records`` names
    who asks.
    """

    blocks: U64
    identities: U8
    afresh: bool = False
    records: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """What checking the previous point against the COW device's old content showed.

    ``ranges`` lists at most the first few byte ranges ``(start, end)`` that mismatched.
    """

    checked_blocks: int = 0
    mismatched_blocks: int = 0
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PointHead:
    """What a source must know of its newest committed point in order to go on.

    ``state_sum`` is the sum over all blocks of the image, see ``blocks.state_sum``. ``is_damaged``:
    its object cannot be read, so the next point must be full; time, size and sum are not known,
    and ``block_size`` is 0 if no earlier point tells it.
    """

    name: str
    digest: str
    seq: int
    point_id: str
    time: datetime
    size: int
    block_size: int
    state_sum: int
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class PointFacts:
    """What the source says of a point when it commits it."""

    volume_id: str
    volume_name: str
    point_id: str
    time: datetime
    size: int
    block_size: int
    kind: Kind
    method: Method
    driver: str
    consistency: str
    chunk_size: int
    changed_bytes: int
    state_sum: int
    reason: str = ""
    proof: Proof = field(default_factory=Proof)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """A committed, complete image of an origin at a time.

    ``shipped_bytes`` counts raw block bytes put into the repository for it,
    ``deduplicated_bytes`` those that were there already, ``stored_bytes`` the
    bytes its objects take there.
    """

    facts: PointFacts
    seq: int
    name: str
    digest: str
    prev_name: str
    prev_digest: str
    shipped_bytes: int
    stored_bytes: int
    deduplicated_bytes: int = 0

    @property
    def head(self) -> PointHead:
        """This point as the base of the next one."""
        f = self.facts
        return PointHead(
            name=self.name, digest=self.digest, seq=self.seq, point_id=f.point_id, time=f.time,
            size=f.size, block_size=f.block_size, state_sum=f.state_sum,
        )  # fmt: skip
