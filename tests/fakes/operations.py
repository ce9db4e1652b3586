"""The port ``Operations`` in memory: a daemon that does as the test says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from blocksnapd.control.drill_messages import is_asked_for
from blocksnapd.control.messages import SCHEMA, format_time, problem
from blocksnapd.control.selectors import resolve_any
from blocksnapd.errors import BlocksnapError, NotFoundError, RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from blocksnapd.control.documents import ConfigTold, Reloaded
    from blocksnapd.control.drill_messages import Drill
    from blocksnapd.control.map_messages import ChangeMap, MapQuery
    from blocksnapd.control.messages import (
        Event,
        FilesQuery,
        HoldRequest,
        Plan,
        Point,
        Run,
        RunRequest,
        RunResult,
        Started,
        Status,
        VolumeStatus,
        Who,
    )
    from blocksnapd.control.pause_messages import (
        EndedViews,
        InPlaceRequest,
        Paused,
        PauseRequest,
        ResumeRequest,
    )

NOW = 1_795_356_300.0  # 2026-11-22T14:05:00Z


def point(number: int, volume: str = "vg0/home", *, minutes: int = 0) -> Point:
    """Return the point ``number``, so many minutes before ``NOW``."""
    return {
        "schema": SCHEMA,
        "id": f"p{number:04x}{'0' * 12}",
        "volume": volume,
        "target": "near",
        "seq": number,
        "time": format_time(NOW - 60 * minutes),
        "size": 1 << 30,
        "block_size": 4096,
        "chunk_size": 4096,
        "kind": "full" if number == 1 else "delta",
        "method": "first" if number == 1 else "tracked",
        "reason": "",
        "driver": "lvm",
        "consistency": "crash",
        "changed_bytes": 1000 * number,
        "shipped_bytes": 900 * number,
        "stored_bytes": 500 * number,
        "tags": ["manual"] if number == 2 else [],
        "proof": {"checked_blocks": 10, "mismatched_blocks": 0, "ranges": []},
    }


def volume_status(name: str, **changes: object) -> VolumeStatus:
    """Return a volume that is well, but for ``changes``."""
    found: dict[str, object] = {
        "schema": SCHEMA,
        "volume": name,
        "driver": "lvm",
        "target": "near",
        "state": "protected",
        "size": 1 << 30,
        "every": 300.0,
        "rpo": 600.0,
        "exposure": 72.0,
        "last_point": point(3, name, minutes=1),
        "next_run": format_time(NOW + 108),
        "retry": 0,
        "last_run": None,
        "active_run": None,
        "cow": {"size": 1000, "used": 40},
        "points": 3,
        "keep": ["all for 2h", "1/h for 2d"] if name.startswith("vg0/") else [],
        "causes": [],
    }
    return cast("VolumeStatus", found | changes)


def plan(number: int = 1, **changes: object) -> Plan:
    """Return a plan that keeps two points and forgets one, but for ``changes``."""
    kept: list[dict[str, object]] = [
        {"id": point(n)["id"], "seq": n, "time": point(n, minutes=15 - 5 * n)["time"],
         "keep": n != 1, "why": why, "frees_bytes": None if why else 84_934_656}
        for n, why in ((1, []), (2, ["1/h for 2d", "tag manual"]), (3, ["all for 2h", "newest"]))
    ]  # fmt: skip
    found: dict[str, object] = {
        "schema": SCHEMA,
        "id": f"pl-{number:08x}",
        "volume": "vg0/home",
        "target": "near",
        "created": format_time(NOW),
        "expires": format_time(NOW + 900),
        "undelete_until": format_time(NOW + 14 * 86400),
        "points": kept,
        "keep": 2,
        "forget": 1,
        "frees_bytes": 84_934_656,
        "refused": [],
        "applied": False,
    }
    return cast("Plan", found | changes)


class MemoryOperations:
    """Two volumes with points; runs move only when the test moves them, or by ``script``.

    ``script`` is played by each ``follow_run`` until the run is done: one change a step.
    """

    def __init__(self, *, points: list[Point] | None = None) -> None:
        self.volumes = {n: volume_status(n) for n in ("vg0/home", "/srv/disk image.raw")}
        self.known = points if points is not None else [
            point(1, minutes=10), point(2, minutes=5), point(3, minutes=1),
            point(1, "/srv/disk image.raw", minutes=60),
        ]  # fmt: skip
        self.asked: list[tuple[RunRequest, Who]] = []
        self.in_place_heard: list[InPlaceRequest] = []
        self.half_restored: set[str] = set()
        self.script: list[dict[str, object]] = []
        self.target_url = "/srv/blocksnap"
        self.is_ready = True
        self.failure: Exception | None = None
        self.log: list[Event] = []
        self.streams_open = 0
        self.parts: list[dict[str, Any]] = []
        self.queries: list[FilesQuery] = []
        self.plans: dict[str, Plan] = {}
        self.drilled: list[Drill] = []
        self.notes: list[tuple[str, Who, str]] = []
        self.settings: dict[str, Any] = {"path": "/etc/blocksnap/blocksnap.toml"}
        self._runs: dict[str, Run] = {}
        self._moved = asyncio.Condition()

    async def status(self) -> Status:
        """Return everything."""
        if self.failure:
            raise self.failure
        return {
            "schema": SCHEMA,
            "version": "1.2.3",
            "host": "db01",
            "pid": 77,
            "now": format_time(NOW),
            "started": format_time(NOW - 1_051_200),
            "uptime": 1_051_200.0,
            "targets": [
                {"name": "near", "url": self.target_url, "up": True, "free_bytes": 1 << 41}
            ],
            "volumes": list(self.volumes.values()),
        }

    async def volume(self, name: str) -> VolumeStatus:
        """Return one volume."""
        if name not in self.volumes:
            raise NotFoundError(f"no volume {name!r} is configured", hint="Look at status.")
        return self.volumes[name]

    async def pause(self, volume: str, request: PauseRequest, who: Who) -> VolumeStatus:
        """Pause a volume; its status tells."""
        paused: Paused = {
            "schema": SCHEMA, "since": format_time(NOW), "who": who["login"], "until": None,
            "reason": request.get("reason", ""),
        }  # fmt: skip
        if "seconds" in request:
            paused["until"] = format_time(NOW + request["seconds"])
        found = (await self.volume(volume)) | {"paused": paused, "next_run": None}
        self.volumes[volume] = cast("VolumeStatus", found)
        return self.volumes[volume]

    async def resume(self, volume: str, request: ResumeRequest, who: Who) -> VolumeStatus:
        """Resume a volume, but for one that ``half_restored`` names."""
        if volume in self.half_restored and not request.get("force"):
            raise RefusedError(f"{volume}: a restore in place to p7 was not finished", hint="x")
        found = (await self.volume(volume)) | {"paused": None}
        self.volumes[volume] = cast("VolumeStatus", found)
        return self.volumes[volume]

    async def in_place(self, volume: str, request: InPlaceRequest, who: Who) -> Paused:
        """Take note."""
        await self.volume(volume)
        self.in_place_heard.append(request)
        return {"schema": SCHEMA, "id": "z1", "safety": "", "writing": False, "room": None}

    async def end_views(self, volume: str, who: Who) -> EndedViews:
        """End the one view there is."""
        await self.volume(volume)
        return {"schema": SCHEMA, "done": ["Ended the view /dev/mapper/blocksnap-view-x-p1."]}

    async def points(self, volume: str | None, *, with_forgotten: bool = False) -> list[Point]:
        """Return points."""
        found = [p for p in self.known if with_forgotten or "forgotten" not in p]
        return [p for p in found if volume in (None, p["volume"])]

    async def point(self, selector: str) -> Point:
        """Return one point."""
        gone = [p for p in self.known if "forgotten" in p]
        return resolve_any(selector, await self.points(None), gone)

    async def change_map(self, volume: str, query: MapQuery) -> ChangeMap:
        """Return a map of two regions and one cycle, whatever was asked for."""
        await self.volume(volume)
        return {
            "schema": SCHEMA, "volume": volume, "size": 8192, "block_size": 4096,
            "region_size": 4096, "regions": 2, "matrix": [[4096, 0]], "left_out": 0,
            "cycles": [{
                "since": None, "time": format_time(NOW), "points": 1, "changed_bytes": 4096,
                "full": False, "unknown": 0,
            }],
        }  # fmt: skip

    async def drills(self, volume: str | None, since: float) -> list[Drill]:
        """Return what was kept."""
        return [d for d in self.drilled if is_asked_for(d, volume, since)]

    async def keep_drill(self, drill: Drill, who: Who) -> None:
        """Keep one of a volume."""
        await self.volume(drill["volume"])
        self.drilled.append(drill)

    async def files(self, selector: str, query: FilesQuery) -> AsyncGenerator[dict[str, Any], None]:
        """Yield parts."""
        await self.point(selector)
        self.queries.append(query)
        for part in self.parts:
            yield part

    async def hold(self, selector: str, request: HoldRequest, who: Who) -> Point:
        """Hold a point."""
        found = await self.point(selector)
        held = {"since": format_time(NOW), "until": request.get("until"),
                "reason": request.get("reason", "")}  # fmt: skip
        return self._change(found, held=held)

    async def release(self, selector: str, who: Who) -> Point:
        """Release a point."""
        return self._change(await self.point(selector), held=None)

    async def undelete(self, selector: str, who: Who) -> Point:
        """Bring a point back."""
        found = await self.point(selector)
        if "forgotten" not in found:
            raise RefusedError(f"{found['id']} is not forgotten")
        held = {"since": format_time(NOW), "until": None, "reason": "brought back"}
        return self._change(found, forgotten=None, held=held)

    def _change(self, found: Point, **changes: object) -> Point:
        both = {k: v for k, v in (found | changes).items() if v is not None and k != "note"}
        self.known = [cast("Point", both) if p["id"] == both["id"] else p for p in self.known]
        return cast("Point", both)

    async def plan(self, plan_id: str) -> Plan:
        """Return a plan."""
        if plan_id not in self.plans:
            raise NotFoundError(f"there is no plan {plan_id!r}, or it expired")
        return self.plans[plan_id]

    async def apply_plan(self, plan_id: str, who: Who) -> Plan:
        """Do a plan."""
        self.plans[plan_id] = cast("Plan", await self.plan(plan_id) | {"applied": True})
        return self.plans[plan_id]

    async def start_run(self, request: RunRequest, who: Who) -> Started:
        """Start or join."""
        volume = request.get("volume", "")
        if request["kind"] == "restore":
            volume = (await self.point(request["point"]))["volume"]
        elif volume:
            await self.volume(volume)
        self.asked.append((request, who))
        for run in self._runs.values():
            if (run["kind"], run["volume"], run["state"]) == (request["kind"], volume, "running"):
                return {"schema": SCHEMA, "id": run["id"], "joined": True}
        run_id = f"r{len(self._runs) + 1:08x}"
        self._runs[run_id] = {
            "schema": SCHEMA, "id": run_id, "kind": request["kind"], "volume": volume,
            "target": "near", "state": "running", "result": None, "phase": "snapshot",
            "phases": {}, "done_bytes": 0, "expected_bytes": 0, "started": format_time(NOW),
            "point": request.get("point", ""), "to": request.get("to", ""), "error": None,
            "tags": request.get("tags", []), "warnings": [],
        }  # fmt: skip
        return {"schema": SCHEMA, "id": run_id, "joined": False}

    async def move(self, run_id: str, **changes: object) -> None:
        """Change a run, and wake who follows it."""
        async with self._moved:
            self._runs[run_id] = cast("Run", self._runs[run_id] | changes)
            self._moved.notify_all()

    async def finish(
        self, run_id: str, result: RunResult, error: BlocksnapError | None = None
    ) -> None:
        """End a run."""
        told = problem(error) if error else None
        await self.move(run_id, state="done", result=result, error=told, duration=2.0)

    async def runs(self, volume: str | None) -> list[Run]:
        """Return runs."""
        return [r for r in list(self._runs.values())[::-1] if volume in (None, r["volume"])]

    async def run(self, run_id: str) -> Run:
        """Return one run."""
        if run_id not in self._runs:
            raise NotFoundError(f"there is no run {run_id!r}")
        return self._runs[run_id]

    async def wait_run(self, run_id: str, timeout_s: float) -> Run:
        """Wait for a run."""
        await self.run(run_id)
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self._runs[run_id]["state"] == "done")
        except TimeoutError:
            pass
        return self._runs[run_id]

    async def follow_run(self, run_id: str) -> AsyncGenerator[Run, None]:
        """Follow a run."""
        told = await self.run(run_id)
        yield told
        for changes in self.script:
            await self.move(run_id, **changes)
            told = self._runs[run_id]
            yield told
        self.streams_open += 1
        try:
            while told["state"] != "done":
                async with self._moved:
                    while self._runs[run_id] is told:
                        await self._moved.wait()
                    told = self._runs[run_id]
                yield told
        finally:
            self.streams_open -= 1

    async def cancel_run(self, run_id: str, who: Who) -> Run:
        """Cancel a run."""
        await self.run(run_id)
        await self.finish(run_id, "cancelled")
        return self._runs[run_id]

    async def events(self, since: int, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Yield events."""
        position = since if since >= 0 else len(self.log) + since
        self.streams_open += 1
        try:
            while True:
                for event in self.log[max(0, position) :]:
                    position = event["seq"]
                    yield event
                if not follow:
                    return
                async with self._moved:
                    while len(self.log) <= position:
                        await self._moved.wait()
        finally:
            self.streams_open -= 1

    async def say(self, message: str, **changes: object) -> None:
        """Let something happen."""
        found = {
            "schema": SCHEMA, "seq": len(self.log) + 1, "time": format_time(NOW),
            "type": "point", "severity": "info", "volume": "vg0/home", "message": message,
            "data": {},
        }  # fmt: skip
        async with self._moved:
            self.log.append(cast("Event", found | changes))
            self._moved.notify_all()

    def note(self, text: str, who: Who, *, volume: str) -> None:
        self.notes.append((text, who, volume))

    async def config(self) -> ConfigTold:
        return {
            "schema": SCHEMA, "path": self.settings["path"], "loaded": format_time(NOW),
            "settings": self.settings,
        }  # fmt: skip

    async def reload(self) -> Reloaded:
        if self.failure:
            raise self.failure
        changed = ['- volumes."vg0/home".every_s = 300.0', '+ volumes."vg0/home".every_s = 60.0']
        restart = ['+ control.admin_group = "ops"']
        return {"schema": SCHEMA, "changed": changed, "waiting": ["vg0/home"], "restart": restart}

    async def ready(self) -> bool:
        """Say whether."""
        return self.is_ready
