"""Names of exports → points, places to listen at, and the life of an export's run."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.control.selectors import resolve
from blocksnapd.errors import HostError, NotFoundError, RefusedError, UsageError
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.exporting import Exporting, PointResolver, overlay_directory
from blocksnapd.service.runs import RunBook
from tests.export.certificates import Certificates
from tests.export.client import Client
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"of a point" * 1000


def message(number: int) -> Any:
    return {
        "id": f"p{number:04}", "volume": "vg0/home", "seq": number, "size": len(CONTENT),
        "block_size": 4096, "time": f"2026-11-22T14:0{number}:00.000Z",
    }  # fmt: skip


class Known:
    """Three points."""

    def __init__(self) -> None:
        self.found = [message(n) for n in (1, 2, 3)]

    async def point(self, selector: str) -> Any:
        return resolve(selector, self.found)

    async def points(self, volume: str | None) -> Any:
        return self.found

    def open_image(self, point_id: str) -> Any:
        return MemoryImage(CONTENT)


async def test_every_point_has_the_names_that_selectors_give_it():
    resolver = PointResolver(Known(), None)
    for name, point_id in (
        ("p0002", "p0002"), ("vg0/home@latest", "p0003"), ("latest:vg0/home", "p0003"),
        ("vg0/home@2026-11-22T14:01:59", "p0001"),
    ):  # fmt: skip
        found = await resolver.resolve(name)
        assert (found.name, found.size, found.block_size) == (point_id, len(CONTENT), 4096)
        assert found.description.startswith("vg0/home at 2026-11-22T14:0")
        assert found.open().content == CONTENT
    for name, error in (("", NotFoundError), ("px", NotFoundError), ("p", UsageError)):
        with pytest.raises(error):
            await resolver.resolve(name)
    assert [name for name, _ in await resolver.names()] == ["p0003", "p0002", "p0001"]


async def test_with_one_point_no_name_leads_to_another():
    known = Known()
    resolver = PointResolver(known, known.found[0])
    for name in ("", "p0001", "vg0/home@2026-11-22T14:01"):
        assert (await resolver.resolve(name)).name == "p0001"
    for name in ("p0002", "vg0/home@latest"):
        with pytest.raises(NotFoundError, match="only p0001 is exported"):
            await resolver.resolve(name)
    assert [name for name, _ in await resolver.names()] == ["p0001"]


async def prepared(**request: Any) -> Exporting:
    return await Exporting.prepare({"kind": "export", **request}, Known())


async def test_a_run_serves_until_it_is_ended(tmp_path: Path):
    place = str(tmp_path / "nbd.sock")
    exporting = await prepared(unix=place, point="p0002", writable=True)
    assert exporting.volume == "vg0/home"
    run = RunBook(ManualClock()).queue("export", exporting.volume)
    task = asyncio.create_task(exporting.serve(run))

    def use() -> bytes:
        with Client(place) as client:
            assert client.choose() == len(CONTENT)
            return bytes(client.read(0, 10).content)

    assert await asyncio.to_thread(use) == b"of a point"
    assert (run.point, run.to) == ("p0002", f"nbd+unix:///?socket={place}")
    assert "connection" in run.phase
    exporting.end()
    await asyncio.wait_for(task, 10)
    assert run.reason.endswith("sent")
    assert "nbd.sock" not in os.listdir(tmp_path)


async def test_places(tmp_path: Path):
    place = str(tmp_path / "a b.sock")
    exporting = await prepared(unix=place)
    assert exporting._uri.endswith("a%20b.sock")
    assert stat.S_ISSOCK(os.stat(place).st_mode)
    exporting._listening.close()
    over_tcp = await prepared(listen="127.0.0.1:0")
    assert over_tcp._uri == f"nbd://127.0.0.1:{over_tcp._listening.getsockname()[1]}/"
    over_tcp._listening.close()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({}, UsageError),
        ({"unix": "/a", "listen": "b"}, UsageError),
        ({"listen": "b:x"}, UsageError),
        ({"listen": "0.0.0.0:0"}, RefusedError),
        ({"listen": "127.0.0.1:0", "point": "px"}, NotFoundError),
        ({"listen": "127.0.0.1:0", "certificate": "/none", "certificate_key": "/none"}, HostError),
    ],
)
async def test_what_is_not_exported(request_, error):
    with pytest.raises(error):
        await prepared(**request_)


async def test_an_open_address_takes_consent_or_certificates(tmp_path: Path):
    certificates = Certificates(tmp_path)
    for more in (
        {"open": True},
        {"certificate": certificates.certificate, "certificate_key": certificates.key,
         "client_ca": certificates.authority},
    ):  # fmt: skip
        exporting = await prepared(listen="0.0.0.0:0", **more)
        assert exporting._uri.startswith(
            "nbds://0.0.0.0" if "client_ca" in more else "nbd://0.0.0.0"
        )
        exporting._listening.close()
    with pytest.raises(RefusedError):
        await prepared(
            listen="0.0.0.0:0", certificate=certificates.certificate,
            certificate_key=certificates.key,
        )  # fmt: skip


def test_overlays_lie_where_large_files_go(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("TMPDIR", raising=False)
    assert overlay_directory() == "/var/tmp"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert overlay_directory() == str(tmp_path)
