"""A volume whose parts could all be opened, and what opens them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from blocksnapd.service.catalogue import Catalogue
    from blocksnapd.shipping import Volume


class Watch(Protocol):
    """Looks at a volume's COW space without forking; blocking, but only for a moment."""

    def cow_use(self, point_id: str) -> tuple[int, int] | None:
        """Return (bytes used, size) of the snapshot's COW device; None: it has none."""

    def is_given_up(self, point_id: str) -> bool:
        """Return whether the kernel says that the snapshot tracks no more."""

    async def grow(self, point_id: str, rate: float) -> int:
        """Make a COW device larger that fills by ``rate`` bytes a second; return by how much.

        Nothing when its limits or the room forbid it.

        Raises:
            BlocksnapError: it failed; the snapshot is as it was.
        """

    def disk_room(self) -> tuple[int, int] | None:
        """Return (bytes free, reserve) of the disk under the COW space; None: there is none."""

    async def end_views(self) -> list[str]:
        """End what shows the volume as it was, see ``cycle.view_device``; say what was done."""

    @property
    def directory(self) -> str:
        """Where the COW space's file is; empty: it has none."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A volume whose parts could all be opened."""

    volume: Volume
    catalogue: Catalogue
    watch: Watch | None


class Opener(Protocol):
    """Opens the parts of one volume."""

    async def __call__(self) -> Opened:
        """Open them.

        Raises:
            BlocksnapError: one of them is missing; it is tried again later.
        """
