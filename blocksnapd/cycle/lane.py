"""One target's use of the snapshots that several share, as this process knows it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from blocksnapd.ports import ChangeSource


class Physical(ChangeSource, Protocol):
    """The snapshots themselves, and a way to close what is held of one."""

    def let_go(self, snapshot_id: str) -> None:
        """Close whatever is held open of a snapshot."""


@dataclass(slots=True)
class Lane:
    """One target's use of the snapshots, as this process knows it.

    ``point``: the one under way; ``reads``: the snapshot that its cycle reads, or is about to;
    ``is_preparing``: it may still want what the one before tracked and saved. ``lost``: how often
    it lost one since it read one whole. ``is_regular``: it read one whole, and came in time since,
    so the snapshot that proves its newest point is kept for it until the next one is due.
    ``physical`` is its own way to their content.
    """

    physical: Physical | None = None
    point: str = ""
    reads: str = ""
    is_preparing: bool = False
    is_regular: bool = False
    lost: int = 0
