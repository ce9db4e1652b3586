from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from blocksnapd import daemon

if TYPE_CHECKING:
    import pytest


async def test_one_volume_that_does_not_open_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its target hangs: the daemon gets ready all the same, and its opening goes on."""
    monkeypatch.setattr(daemon, "OPEN_S_MAX", 0.01)
    door = asyncio.Event()

    async def opening() -> None:
        await door.wait()

    hanging = asyncio.create_task(opening(), name="open vg0/home")
    async with asyncio.timeout(20):
        await daemon._wait_until_open([hanging])
        assert "open vg0/home takes long" in caplog.text
        assert not hanging.done()
        door.set()
        await hanging
