"""The part of the port ``Operations`` that draws: where and when a volume changed."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from blocksnapd.errors import BusyError
from blocksnapd.service.change_map import change_map

if TYPE_CHECKING:
    from blocksnapd.control.map_messages import ChangeMap, MapQuery
    from blocksnapd.service.pruning import Place


class MapAnswers(ABC):
    """Reads one map at a time: it takes a thread and the way to a target."""

    def __init__(self) -> None:
        self._drawing = False

    @abstractmethod
    async def place_of(self, volume: str, target: str = "") -> Place:
        """Return where the points of ``volume`` are; see ``PruneAnswers``."""

    async def change_map(self, volume: str, query: MapQuery) -> ChangeMap:
        """Return where and when ``volume`` changed."""
        if self._drawing:
            raise BusyError(
                "a map is being read already", effect="Nothing was read.",
                hint="Ask again once it is done.",
            )  # fmt: skip
        self._drawing = True
        try:
            place = await self.place_of(volume)
            return await asyncio.to_thread(
                change_map, place.pruner, place.volume, place.volume_id, query
            )
        finally:
            self._drawing = False
