"""Maps are read one at a time, away from the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from blocksnapd.control.map_messages import MapQuery
from blocksnapd.errors import BusyError, NotFoundError
from blocksnapd.maintain.prune import Pruner
from blocksnapd.service.map_answers import MapAnswers
from blocksnapd.service.pruning import Place
from tests.service.test_change_map import lived
from tests.store.support import VOLUME


class Host(MapAnswers):
    """A host with one volume; its repository answers once ``go`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.arrived = threading.Event(), threading.Event()
        lab, self.written = lived(5)
        self.pruner = Pruner(lab.store, lab.key, lambda: 0.0)
        whole, go, arrived = lab.store.get, self.go, self.arrived

        def waiting(name: str, **more: int) -> bytes:
            arrived.set()
            assert go.wait(20)
            return whole(name, **more)

        lab.store.get = waiting  # type: ignore[method-assign]

    async def place_of(self, volume: str, target: str = "") -> Place:
        if volume != "db/data":
            raise NotFoundError(f"no volume {volume}")
        return Place(volume, VOLUME, "near", self.pruner, None, lambda _: None)


async def test_one_map_at_a_time() -> None:
    host = Host()
    with pytest.raises(NotFoundError):
        await host.change_map("db/none", MapQuery())
    reading = asyncio.create_task(host.change_map("db/data", MapQuery()))
    assert await asyncio.to_thread(host.arrived.wait, 20)
    with pytest.raises(BusyError, match="a map is being read already"):
        await host.change_map("db/data", MapQuery())
    host.go.set()
    found = await reading
    assert found["volume"] == "db/data"
    assert [sum(map(bool, row)) for row in found["matrix"]] == list(map(len, host.written))
    assert await host.change_map("db/data", MapQuery()) == found
