"""Drills: what is measured and proven of a point, what fails them, and that nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.control.drill_messages import read_drill
from blocksnapd.errors import (
    CancelledRunError,
    ChecksumError,
    DrillFailedError,
    HostError,
)
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.drilling import Orders, Tell, drill, drilling
from blocksnapd.service.runs import RunBook
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"of a point" * 100_000
LOOKING = """
import json, os, sys
found = {k[10:]: v for k, v in os.environ.items() if k.startswith("BLOCKSNAP_")}
found["content"] = open(found["IMAGE"], "rb").read() == b"of a point" * 100_000
open(sys.argv[1], "w").write(json.dumps(found))
open(found["IMAGE"], "wb").write(b"the check may do this")
"""


def point() -> Any:
    return {
        "id": "p0001", "volume": "vg0/home", "target": "near", "seq": 1, "size": len(CONTENT),
        "block_size": 4096, "time": "2026-11-22T14:01:00.000Z",
    }  # fmt: skip


class Known:
    """One point, which may be damaged from some byte on."""

    def __init__(self, damaged_from: int | None = None, note: str = "") -> None:
        self.damaged_from, self.note = damaged_from, note
        self.opened: list[Damaged] = []

    async def point(self, selector: str) -> Any:
        return {**point(), "note": self.note} if selector.startswith("latest:") else point()

    async def points(self, volume: str | None) -> Any:
        return [point()]

    def open_image(self, point_id: str) -> Any:
        self.opened.append(Damaged(CONTENT, self.damaged_from))
        return self.opened[-1]


class Damaged(MemoryImage):
    def __init__(self, content: bytes, damaged_from: int | None) -> None:
        super().__init__(content)
        self._damaged_from = len(content) if damaged_from is None else damaged_from
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def _refuse(self, end: int) -> None:
        if end > self._damaged_from:
            raise ChecksumError("pack k1 is damaged", effect="It is lost.")

    def read_into(self, offset: int, view: memoryview) -> None:
        self._refuse(offset + len(view))
        super().read_into(offset, view)

    def each_piece(self, work: Any) -> Any:
        self._refuse(self.size)
        return super().each_piece(work)


def by_name(found: Any) -> dict[str, Any]:
    return {step["name"]: step for step in found["steps"]}


async def test_a_good_point_passes_and_nothing_is_left(tmp_path: Path) -> None:
    check = (sys.executable, "-c", LOOKING, str(tmp_path / "said"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    phases: list[str] = []
    known = Known()
    tell = Tell(lambda name, done, total: phases.append(name))
    found = await drill(point(), known, Orders(check, str(scratch)), tell)
    assert found["result"] == "success", found
    steps = by_name(found)
    assert list(steps) == ["readable", "restored", "fsck", "check"]
    assert steps["fsck"]["result"] == "skipped"
    assert 0 <= steps["readable"]["seconds"] < steps["restored"]["seconds"] + 10
    assert found["content_bytes"] == len(CONTENT)
    said = json.loads((tmp_path / "said").read_text())
    assert said["content"]
    assert said["NBD_URI"].startswith("nbd+unix:///?socket=")
    assert (said["POINT"], said["VOLUME"], said["SIZE"]) == ("p0001", "vg0/home", "1000000")
    assert os.listdir(scratch) == []
    assert all(image.is_closed for image in known.opened)
    assert {"readable", "fsck", "check"} <= set(phases)
    assert read_drill(json.dumps(found)) == found


async def test_the_check_reads_the_point_over_nbd(tmp_path: Path) -> None:
    look = ("nbdcopy", "--", "$BLOCKSNAP_NBD_URI", str(tmp_path / "copy"))
    check = ("/bin/sh", "-c", " ".join(look))
    orders = Orders(check, str(tmp_path), restores=False)
    found = await drill(point(), Known(), orders, Tell())
    assert list(by_name(found)) == ["readable", "check"]
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.parametrize(("damaged_from", "last"), [(0, "readable"), (9000, "restored")])
async def test_a_damaged_point_fails_where_it_is_met(
    damaged_from: int, last: str, tmp_path: Path
) -> None:
    found = await drill(point(), Known(damaged_from), Orders((), str(tmp_path)), Tell())
    assert (found["result"], found["steps"][-1]["name"]) == ("failed", last)
    assert "pack k1 is damaged" in found["steps"][-1]["found"][0]
    assert os.listdir(tmp_path) == []


async def test_an_older_point_does_not_pass_for_damaged_newer_ones(tmp_path: Path) -> None:
    known = Known(note="Left out, because they are damaged: p0002.")
    found = await drill(point(), known, Orders((), str(tmp_path)), Tell())
    assert found["result"] == "failed"
    assert by_name(found)["chosen"]["found"] == ["Left out, because they are damaged: p0002."]
    assert by_name(found)["restored"]["result"] == "success", "it is told all the same"


async def test_a_suspect_point_is_told(tmp_path: Path) -> None:
    suspect = {**point(), "suspect": True}
    found = await drill(suspect, Known(), Orders((), str(tmp_path)), Tell())  # type: ignore[arg-type]
    assert found["result"] == "warning"
    assert "SUSPECT" in by_name(found)["chosen"]["found"][0]


async def test_a_check_that_fails_is_told_as_the_failure_of_the_run(tmp_path: Path) -> None:
    request: Any = {
        "kind": "drill", "point": "p0001", "scratch": str(tmp_path),
        "check": ["/bin/sh", "-c", "echo table mail is broken; exit 1"],
    }  # fmt: skip
    job = await drilling(request, Known(), "/srv/repository")
    run = RunBook(ManualClock()).queue("drill", job.volume)
    with pytest.raises(DrillFailedError, match="table mail is broken") as caught:
        await job.work(run)
    assert caught.value.exit_code == 1
    assert run.more["drill"]["result"] == "failed"
    assert set(run.phases) == {"readable", "restored", "fsck", "check"}


def written(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not path.exists() or not path.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text().strip()


async def test_one_that_is_cancelled_ends_its_check_and_leaves_nothing(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    request: Any = {
        "kind": "drill", "point": "p0001", "scratch": str(tmp_path),
        "check": ["/bin/sh", "-c", f"echo $$ > {begun}; exec sleep 600"],
    }  # fmt: skip
    job = await drilling(request, Known(), "/srv/repository")
    run = RunBook(ManualClock()).queue("drill", job.volume)
    task = asyncio.create_task(job.work(run))  # type: ignore[arg-type]
    pid = await asyncio.to_thread(written, begun)
    job.cancel()
    with pytest.raises(CancelledRunError):
        await task
    assert os.listdir(tmp_path) == ["begun"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


async def test_what_a_killed_drill_left_goes_with_the_next(tmp_path: Path) -> None:
    left, young, other = (tmp_path / n for n in ("blocksnap-drill-a", "blocksnap-drill-b", "c"))
    for folder in (left, young, other):
        folder.mkdir()
        (folder / "image").write_bytes(b"x")
    os.utime(left, (time.time() - 3600,) * 2)
    os.utime(other, (time.time() - 3600,) * 2)
    await drill(point(), Known(), Orders((), str(tmp_path)), Tell())
    assert sorted(os.listdir(tmp_path)) == ["blocksnap-drill-b", "c"]


async def test_without_a_place_nothing_begins(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no place for a drill"):
        await drill(point(), Known(), Orders((), str(tmp_path / "none")), Tell())


async def test_the_repository_is_no_place_for_it(tmp_path: Path) -> None:
    orders = Orders((), str(tmp_path), keep_out=(str(tmp_path),))
    found = await drill(point(), Known(), orders, Tell())
    assert found["result"] == "failed"
    assert "inside the repository" in found["steps"][-1]["found"][0]
