"""A worker's restore that ends before its time, and the next one of the same command."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.service import restoring
from blocksnapd.units import MIB
from tests.restore.loop_device import loop_device
from tests.service.bench import ROOT
from tests.service.test_salvaging import Damaged, host, restored

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.control.messages import Run
    from blocksnapd.restore.progress import Progress

__all__ = ["host"]


async def stopped(
    host: Damaged, to: str, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> Run:  # fmt: skip
    """Restore point 3; its caller goes away, as a terminal does, once something was written."""
    written, gone_on = threading.Event(), threading.Event()
    real = restoring.Restoring._progress

    def wait(self: restoring.Restoring, now: Progress) -> None:
        real(self, now)
        if now.phase == "write" and now.done > MIB:
            written.set()
            gone_on.wait(20)

    monkeypatch.setattr("blocksnapd.restore.progress.REPORT_EVERY_S", 0)
    monkeypatch.setattr(restoring.Restoring, "_progress", wait)
    request: Any = {"kind": "restore", "point": host.id(3), "to": to, **more}
    started = await host.worker.start_run(request, ROOT)
    assert await asyncio.to_thread(written.wait, 20)
    closing = asyncio.create_task(host.worker.close())
    await asyncio.sleep(0)
    gone_on.set()
    await closing
    monkeypatch.undo()
    return await host.worker.run(started["id"])


async def test_whose_caller_went_away_is_gone_on_with(
    host: Damaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "out"
    run = await stopped(host, str(to), monkeypatch)
    assert run["result"] == "cancelled"
    assert run["error"] is not None
    assert f"kept as {to}.blocksnap-partial, to go on with" in run["error"]["effect"]
    run = await restored(host, 3, to)
    assert run["result"] == "success"
    assert 0 < run["kept_bytes"] < 900 * 4096
    assert run["kept_bytes"] + run["changed_bytes"] == 900 * 4096
    assert to.read_bytes() == host.content(3)
    assert [name for name in os.listdir(tmp_path) if name.startswith("out")] == ["out"]


async def test_onto_a_device_the_journal_is_kept_elsewhere(
    host: Damaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    with loop_device(tmp_path, 5 * MIB) as device, pytest.MonkeyPatch.context() as patches:
        run = await stopped(host, device, patches)
        assert (run["result"], run["error"] is not None) == ("cancelled", True)
        assert "the same restore goes on with it" in run["error"]["effect"]  # type: ignore[index]
        assert os.listdir(state) == [f"{device.replace('/', '%2F')}.blocksnap-journal"]
        run = await restored(host, 3, device)  # type: ignore[arg-type]
        assert run["result"] == "warning", "a larger device keeps its end, aloud"
        assert os.listdir(state) == []
        assert content_of(device, len(host.content(3))) == host.content(3)
        # What somebody made there meanwhile is asked about, and nothing of it is trusted.
        assert (await stopped(host, device, patches))["result"] == "cancelled"
        make_look_like_ext4(device)
        run = await restored(host, 3, device)  # type: ignore[arg-type]
        assert run["error"] is not None
        assert "holds an ext2/3/4 file system" in run["error"]["message"]
        run = await restored(host, 3, device, overwrite=True)  # type: ignore[arg-type]
        assert (run["result"], run["kept_bytes"]) == ("warning", 0)
        assert content_of(device, len(host.content(3))) == host.content(3)


def content_of(device: str, size: int) -> bytes:
    with open(device, "rb") as file:
        return file.read(size)


def make_look_like_ext4(device: str) -> None:
    with open(device, "r+b") as file:
        file.seek(1080)
        file.write(b"\x53\xef")


async def test_without_a_place_for_a_journal_it_is_restored_all_the_same(
    host: Damaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "state"))
    with loop_device(tmp_path, 5 * MIB) as device:
        run = await restored(host, 3, device)  # type: ignore[arg-type]
        assert (run["result"], run["kept_bytes"]) == ("warning", 0)
