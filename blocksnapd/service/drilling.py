"""A drill: a point is opened, restored to a scratch place, checked, and what was found is told.

    chosen      told only if newer points are damaged, or the point itself is suspect
    readable    from asking for the point to its first bytes
    restored    all of it in a sparse file, read back from the disk and compared
    fsck        the file system's own checker on that file, see ``drill_steps``
    check       the operator's own command; exit status 0 is good

The check is told where the image is: ``BLOCKSNAP_IMAGE``, the scratch file, which it may write
to, and ``BLOCKSNAP_NBD_URI``, the same point as a writable disk over NBD whose writes are thrown
away; of what it is: ``BLOCKSNAP_POINT``, ``_VOLUME``, ``_TIME``, ``_SIZE``. Rules of this file:
nothing but the scratch place is written to; the volume and its schedule hear nothing of it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import socket
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from blocksnapd import __version__
from blocksnapd.control.drill_messages import LINE_LENGTH_MAX, Drill, DrillStep
from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.errors import BlocksnapError, CancelledRunError, DrillFailedError, HostError
from blocksnapd.export.listening import listen_unix
from blocksnapd.export.server import Server
from blocksnapd.restore.full import restore_full
from blocksnapd.restore.target import examine, open_target
from blocksnapd.service.drill_steps import check_by_user, check_file_system
from blocksnapd.service.exporting import PointResolver
from blocksnapd.service.jobs import Job
from blocksnapd.store.places import own_directories

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from blocksnapd.control.drill_messages import Result
    from blocksnapd.control.messages import Point, RunRequest
    from blocksnapd.ports import PointImage
    from blocksnapd.restore.progress import Progress
    from blocksnapd.service.exporting import Points
    from blocksnapd.service.runs import LiveRun

SCRATCH: Final = "/var/tmp"  # noqa: S108 - where large files go; the directory is ours alone
TIMEOUT_S: Final = 6 * 3600.0
LOOK_S: Final = 0.5  # between two looks at whether it was cancelled
YOUNG_S: Final = 60.0  # a directory of which nobody knows yet whose it is
_PREFIX: Final = "blocksnap-drill-"
_FIRST_SIZE: Final = 4096
_SPAN_SIZE: Final = 4 << 30  # of the map of an image that is looked at at once


@dataclass(frozen=True, slots=True)
class Orders:
    """How to drill.

    Attributes:
        check: argv of the operator's command; none: there is none.
        scratch: directory with room for the point's content.
        restores: whether to restore at all; without it there is no file, so no fsck either.
        timeout_s: for each program.
        keep_out: directories that are never written to: the repository's.
    """

    check: tuple[str, ...] = ()
    scratch: str = SCRATCH
    restores: bool = True
    timeout_s: float = TIMEOUT_S
    keep_out: tuple[str, ...] = ()


@dataclass(slots=True)
class Tell:
    """Where a drill is, and whether it is to end; read and set from several threads."""

    phase: Callable[[str, int, int], None] = lambda _name, _done, _total: None
    cancelled: Callable[[], bool] = field(default=lambda: False)


async def drilling(request: RunRequest, points: Points, url: str) -> Job:
    """Return what drills the point that ``request`` names; the run fails if the drill does.

    Raises:
        UsageError, NotFoundError, ChecksumError: it names none.
    """
    point = await points.point(request.get("point", ""))
    orders = Orders(
        tuple(request.get("check", ())), request.get("scratch", SCRATCH),
        request.get("restores", True), keep_out=own_directories(url),
    )  # fmt: skip
    ended = asyncio.Event()

    async def work(run: LiveRun) -> None:
        def phase(name: str, done: int, total: int) -> None:
            run.phase, run.done_bytes, run.expected_bytes = name, done, total

        run.point = point["id"]
        found = await drill(point, points, orders, Tell(phase, ended.is_set))
        run.more = {"drill": {**found}}
        run.phases = {step["name"]: step["seconds"] for step in found["steps"]}
        run.warnings = problems(found)
        if found["result"] == "failed":
            raise failure(found)

    return Job(point["volume"], work, ended.set)


def problems(found: Drill) -> list[str]:
    """Return a line for each step that is not as it should be."""
    return [
        f"{step['name']}: {step['found'][-1] if step['found'] else step['result']}"
        for step in found["steps"]
        if step["result"] in {"warning", "failed"}
    ]


def failure(found: Drill) -> DrillFailedError:
    """Return what to raise for a drill that failed."""
    return DrillFailedError(
        f"the drill of {found['volume']} failed: {'; '.join(problems(found))}",
        effect=f"Of {found['point']}, {found['point_time']}, it is not proven that it can be used.",
        hint="Drill another point, and look at this one: blocksnapctl export POINT --writable",
    )


async def drill(point: Point, points: Points, orders: Orders, tell: Tell) -> Drill:
    """Drill a point; what went wrong is in the result.

    Raises:
        CancelledRunError: it was asked to end. HostError: there is no scratch place.
    """
    started = time.time()
    with _scratch(orders.scratch) as scratch:
        work = _Work(point, points, orders, tell, scratch)
        try:
            await work.run()
        finally:
            await work.close()
    return {
        "schema": SCHEMA, "id": f"d-{secrets.token_hex(4)}", "volume": point["volume"],
        "target": point.get("target", ""), "point": point["id"], "point_time": point["time"],
        "host": socket.gethostname(), "version": __version__,
        "started": format_time(started), "ended": format_time(time.time()),
        "result": _worst(work.steps), "size": point["size"], "content_bytes": work.content_bytes,
        "steps": work.steps,
    }  # fmt: skip


def _worst(steps: list[DrillStep]) -> Result:
    found = {step["result"] for step in steps}
    return "failed" if "failed" in found else "warning" if "warning" in found else "success"


class _Work:
    """The steps of one drill."""

    def __init__(
        self, point: Point, points: Points, orders: Orders, tell: Tell, scratch: str
    ) -> None:
        self._point, self._points, self._orders, self._tell = point, points, orders, tell
        self._scratch = scratch
        self._file = os.path.join(scratch, "image")
        self._image: PointImage | None = None
        self.steps: list[DrillStep] = []
        self.content_bytes = 0

    async def run(self) -> None:
        await self._look_at_choice()
        if not await self._timed("readable", "opened, and its first bytes read", self._open):
            return
        if self._orders.restores:
            method = f"a sparse file in {self._orders.scratch}, read back from the disk, compared"
            if not await self._timed("restored", method, self._restore):
                return
            self._next("fsck")
            checking = check_file_system(self._file, self._orders.timeout_s)
            self.steps.append(await self._unless_cancelled(checking))
        if self._orders.check:
            self._next("check")
            await self._check()
        self._next("")

    async def _look_at_choice(self) -> None:
        """A volume whose newest point cannot be read is not proven by an older one that can."""
        newest = await self._points.point(f"latest:{self._point['volume']}")
        left_out = newest.get("note", "") if newest["id"] == self._point["id"] else ""
        found = [left_out] if left_out else []
        if self._point.get("suspect"):
            found.append("SUSPECT: the next point found that the volume had held something else")
        if found:
            self.steps.append({
                "name": "chosen", "result": "failed" if left_out else "warning", "seconds": 0.0,
                "method": "what is known of the points",
                "found": [text[:LINE_LENGTH_MAX] for text in found],
            })  # fmt: skip

    async def close(self) -> None:
        if self._image is not None:
            await asyncio.to_thread(self._image.close)

    async def _timed(self, name: str, method: str, work: Callable[[], None]) -> bool:
        self._next(name)
        started = time.monotonic()
        result: Result = "success"
        found = []
        try:
            await asyncio.to_thread(work)
        except CancelledRunError:
            raise
        except BlocksnapError as error:
            result, found = "failed", [error.sentences()[:LINE_LENGTH_MAX]]
        self.steps.append({
            "name": name, "result": result, "seconds": time.monotonic() - started,
            "method": method, "found": found,
        })  # fmt: skip
        return result == "success"

    def _next(self, name: str) -> None:
        self._refuse_to_go_on()
        self._tell.phase(name, 0, 0)

    def _refuse_to_go_on(self) -> None:
        if self._tell.cancelled():
            raise CancelledRunError("the drill was cancelled", effect="Nothing of it is left.")

    def _open(self) -> None:
        self._image = self._points.open_image(self._point["id"])
        first = bytearray(min(_FIRST_SIZE, self._image.size))
        self._image.read_into(0, memoryview(first))

    def _restore(self) -> None:
        def progress(now: Progress) -> None:
            self._tell.phase(f"restored: {now.phase}", now.done, now.total)

        image = self._image
        assert image is not None
        self.content_bytes = sum(
            image.data_extents(start, min(start + _SPAN_SIZE, image.size)).size
            for start in range(0, image.size, _SPAN_SIZE)
        )
        plan = examine(
            self._file, image_size=image.size, data_size=self.content_bytes,
            keep_out=self._orders.keep_out,
        )  # fmt: skip
        restore_full(
            image, open_target(plan), progress=progress, cancelled=self._tell.cancelled
        )  # fmt: skip

    async def _check(self) -> None:
        about = {
            "BLOCKSNAP_POINT": self._point["id"], "BLOCKSNAP_VOLUME": self._point["volume"],
            "BLOCKSNAP_TIME": self._point["time"], "BLOCKSNAP_SIZE": str(self._point["size"]),
            "BLOCKSNAP_SCRATCH": self._scratch,
        }  # fmt: skip
        if self._orders.restores:
            about["BLOCKSNAP_IMAGE"] = self._file
        async with self._exported() as uri:
            about["BLOCKSNAP_NBD_URI"] = uri
            checking = check_by_user(self._orders.check, about, self._orders.timeout_s)
            self.steps.append(await self._unless_cancelled(checking))

    async def _unless_cancelled(self, checking: Coroutine[None, None, DrillStep]) -> DrillStep:
        task = asyncio.create_task(checking)
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_S))[0]:
                self._refuse_to_go_on()
        finally:
            task.cancel()  # ends the program, too
            await asyncio.wait({task})
        return task.result()

    @asynccontextmanager
    async def _exported(self) -> AsyncIterator[str]:
        server = Server(PointResolver(self._points, self._point), overlays=self._scratch)
        # Not in the scratch place: a socket's path has 107 bytes, a directory's thousands.
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as directory:
            path = os.path.join(directory, "nbd.sock")
            server.start(listen_unix(path))
            try:
                yield f"nbd+unix:///?socket={quote(path)}"
            finally:
                await server.stop()


@contextmanager
def _scratch(place: str) -> Iterator[str]:
    """Make a directory of our own that goes with us; what a killed drill left goes first."""
    try:
        _clear(place)
        directory = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError as error:
        raise HostError(
            f"there is no place for a drill in {place}: {error.strerror or error}",
            effect="Nothing was drilled, nothing written.",
            hint="Name a directory on a disk with room for the point's content: --scratch DIR",
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _clear(place: str) -> None:
    for entry in os.scandir(place):
        if not entry.name.startswith(_PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        found = entry.stat(follow_symlinks=False)
        if found.st_uid == os.geteuid() and time.time() - found.st_mtime > YOUNG_S:
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # a drill under way
            finally:
                os.close(lock)
            shutil.rmtree(entry.path, ignore_errors=True)
