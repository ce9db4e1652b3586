"""Exports are kept going, each for itself, and follow the configuration."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from blocksnapd.config import Config, load
from blocksnapd.runtime import process
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.export_task import STEADY_S, WAIT_S_MAX, ExportTask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

TARGET = """schema = 1
[target.near]
url = "/nowhere"
source_key = "/nowhere/source.key"
"""
ONE = """[export.{0}]
target = "near"
key = "/nowhere/{1}.key"
unix = "/nowhere/{0}.sock"
"""


class Host:
    """Exports that run until a test ends them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.clock = folder, ManualClock()
        self.started = Counter[str]()
        self.serving: dict[str, asyncio.Event] = {}
        self.said: list[str] = []
        monkeypatch.setattr(process, "run", self.run)
        self.task = ExportTask(self.config("a", "b"), say=self.say, clock=self.clock)

    def config(self, *names: str, key: str = "restore") -> Config:
        path = self.folder / "blocksnap.toml"
        path.write_text(TARGET + "".join(ONE.format(name, key) for name in names))
        return load(str(path))

    async def run(self, argv: Sequence[str], *, timeout_s: float) -> process.Finished:
        name = argv[-1]
        assert tuple(argv[-4:-1]) == ("--config", str(self.folder / "blocksnap.toml"), "export")
        assert timeout_s > 1e6
        self.started[name] += 1
        end = self.serving[name] = asyncio.Event()
        try:
            await end.wait()
        finally:
            del self.serving[name]
        return process.Finished(tuple(argv), 78, "", "the key is gone", 0.1)

    def say(self, kind: str, message: str, **_: object) -> None:
        self.said.append(f"{kind}: {message}")


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    host = Host(tmp_path, monkeypatch)
    running = asyncio.create_task(host.task.run())
    await settled()
    yield host
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert host.serving == {}


async def test_one_that_ends_is_told_and_started_again_ever_later(host: Host) -> None:
    for number in range(12):
        host.serving["a"].set()
        await settled()
        assert len(host.said) == number + 1
        assert "export a ended: it ended with status 78. the key is gone" in host.said[-1]
        await host.clock.advance(min(2**number, WAIT_S_MAX))
        await settled()
        assert host.started == {"a": number + 2, "b": 1}
    await host.clock.advance(STEADY_S)
    host.serving["a"].set()
    await settled()
    assert "again in 1 s" in host.said[-1], "it had served for a while"


async def test_a_reload_touches_only_what_changed(host: Host) -> None:
    host.task.reconfigure(host.config("b", "c"))
    await settled()
    assert (set(host.serving), host.started["b"]) == ({"b", "c"}, 1)
    host.task.reconfigure(host.config("b", "c", key="another"))
    await settled()
    assert host.started == {"a": 1, "b": 2, "c": 2}
    host.task.reconfigure(host.config())
    await settled()
    assert host.serving == {}
    assert host.said == []
