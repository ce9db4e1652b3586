"""The paths of the control server: request → question to the daemon → reply. Edge: aiohttp.

    GET  /v1/status                      everything, from memory
    GET  /v1/volumes                     every volume's part of it
    GET  /v1/volumes/{volume}            one volume
    GET  /v1/points[?volume=&all=1]      points, oldest first; all: forgotten ones too
    GET  /v1/points/{selector}           the one point that a selector names
    GET  /v1/points/{selector}/files     lines: file systems in it, or what is at ?path=
    GET  /v1/runs[?volume=]              runs, newest first
    GET  /v1/runs/{id}[?wait=30s]        one run, at once or when it is done
    GET  /v1/runs/{id}/follow            lines: the run at each change, to its end
    GET  /v1/events[?since=SEQ&follow=1] lines: what happened; negative: the last ones
    GET  /v1/health/live, …/ready        200, or 503 until recovery is done
    POST /v1/runs                        start or join a run
    POST /v1/runs/{id}/cancel            stop one
    POST /v1/points/{selector}/hold      let nothing drop it; …/release takes that back
    POST /v1/points/{selector}/undelete  bring a forgotten one back
    POST /v1/volumes/{volume}/pause      start no run by itself; …/resume takes that back
    POST /v1/volumes/{volume}/in-place   a worker that writes to it begins, goes on, ends
    POST /v1/volumes/{volume}/end-views  end what shows it as it was
    GET  /v1/drills[?volume=&since=]     evidence of drills; POST: keep that of another one
    GET  /v1/plans/{id}                  what a run of kind prune would do
    POST /v1/plans/{id}/apply            do exactly that

A volume's name and a selector go into a path percent-encoded: ``vg0%2Fhome``,
``%2Fsrv%2Fdisk.img``, ``vg0%2Fhome%402026-11-22T14:05``. A bare slash within ``vg0/home`` is
understood too.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING

from aiohttp import web

from blocksnapd.control import replies, requests, unix_socket
from blocksnapd.control.messages import SCHEMA
from blocksnapd.errors import BusyError, NotAllowedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from typing import Any

    from blocksnapd.control.access import Access, Peer
    from blocksnapd.control.operations import Operations

log = logging.getLogger(__name__)

STREAMS_MAX = 64


class Routes:
    """Handlers over one ``Operations``."""

    def __init__(self, operations: Operations, access: Access) -> None:
        self._operations = operations
        self._access = access
        self._streams = 0
        self.closing = asyncio.Event()
        self.speakers: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    def application(self) -> web.Application:
        """Return the application with every path."""
        app = web.Application(middlewares=[self._guarded], client_max_size=requests.BODY_SIZE_MAX)
        app.add_routes(
            [
                web.get("/v1/status", self._status),
                web.get("/v1/volumes", self._volumes),
                web.get("/v1/volumes/{volume:.+}", self._volume),
                web.get("/v1/points", self._points),
                web.get("/v1/points/{selector:.+}/files", self._files),
                web.get("/v1/points/{selector:.+}", self._point),
                web.get("/v1/runs", self._runs),
                web.get("/v1/runs/{run}", self._run),
                web.get("/v1/runs/{run}/follow", self._follow_run),
                web.get("/v1/events", self._events),
                web.get("/v1/health/live", self._live),
                web.get("/v1/health/ready", self._ready),
                web.get("/v1/drills", self._drills),
                web.post("/v1/drills", self._keep_drill),
                web.get("/v1/plans/{plan}", self._plan),
                web.post("/v1/plans/{plan}/apply", self._apply_plan),
                web.post("/v1/points/{selector:.+}/hold", self._hold),
                web.post("/v1/points/{selector:.+}/release", self._release),
                web.post("/v1/points/{selector:.+}/undelete", self._undelete),
                web.post("/v1/volumes/{volume:.+}/pause", self._pause),
                web.post("/v1/volumes/{volume:.+}/resume", self._resume),
                web.post("/v1/volumes/{volume:.+}/in-place", self._in_place),
                web.post("/v1/volumes/{volume:.+}/end-views", self._end_views),
                web.post("/v1/runs", self._start_run),
                web.post("/v1/runs/{run}/cancel", self._cancel_run),
            ]
        )
        return app

    @web.middleware
    async def _guarded(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Let only those in who may, and turn every error into problem+json."""
        try:
            if request.transport is not None:
                self.speakers.add(request.transport)
            peer = _peer(request)
            self._access.check(peer, changes=request.method not in {"GET", "HEAD"})
            return await handler(request)
        except web.HTTPException as error:
            return replies.from_aiohttp(error)
        except Exception as error:
            return replies.problem_reply(replies.as_known(error, request.path))

    async def _status(self, _: web.Request) -> web.Response:
        return replies.document(await self._operations.status())

    async def _volumes(self, _: web.Request) -> web.Response:
        status = await self._operations.status()
        return replies.document({"schema": SCHEMA, "volumes": status["volumes"]})

    async def _volume(self, request: web.Request) -> web.Response:
        return replies.document(await self._operations.volume(request.match_info["volume"]))

    async def _points(self, request: web.Request) -> web.Response:
        volume, everything = request.query.get("volume"), requests.parse_flag(request.query, "all")
        points = await self._operations.points(volume, with_forgotten=everything)
        return replies.document({"schema": SCHEMA, "points": points})

    async def _point(self, request: web.Request) -> web.Response:
        return replies.document(await self._operations.point(request.match_info["selector"]))

    async def _files(self, request: web.Request) -> web.StreamResponse:
        query = requests.parse_files(request.query)
        source = self._operations.files(request.match_info["selector"], query)
        return await self._stream(request, source)

    async def _runs(self, request: web.Request) -> web.Response:
        runs = await self._operations.runs(request.query.get("volume"))
        return replies.document({"schema": SCHEMA, "runs": runs})

    async def _run(self, request: web.Request) -> web.Response:
        run_id, wait_s = request.match_info["run"], requests.parse_wait(request.query)
        if wait_s is None:
            return replies.document(await self._operations.run(run_id))
        return replies.document(await self._operations.wait_run(run_id, wait_s))

    async def _follow_run(self, request: web.Request) -> web.StreamResponse:
        source = self._operations.follow_run(request.match_info["run"])
        return await self._stream(request, source)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        since = requests.parse_since(request.query)
        follow = requests.parse_flag(request.query, "follow")
        return await self._stream(request, self._operations.events(since, follow=follow))

    async def _live(self, _: web.Request) -> web.Response:
        return replies.document({"schema": SCHEMA, "live": True})

    async def _ready(self, _: web.Request) -> web.Response:
        is_ready = await self._operations.ready()
        return replies.document(
            {"schema": SCHEMA, "ready": is_ready}, status=200 if is_ready else 503
        )

    async def _start_run(self, request: web.Request) -> web.Response:
        wanted = requests.parse_run_request(await request.read())
        who = unix_socket.who(_peer(request))
        started = await self._operations.start_run(wanted, who)
        log.info("%s asked for %s: run %s", _named(who), dict(wanted), started["id"])
        return replies.document(started, status=200 if started["joined"] else 201)

    async def _cancel_run(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        run = await self._operations.cancel_run(request.match_info["run"], who)
        log.info("%s cancelled run %s", _named(who), run["id"])
        return replies.document(run)

    async def _drills(self, request: web.Request) -> web.Response:
        since = requests.parse_instant(request.query)
        drills = await self._operations.drills(request.query.get("volume"), since)
        return replies.document({"schema": SCHEMA, "drills": drills})

    async def _keep_drill(self, request: web.Request) -> web.Response:
        drill, who = requests.parse_drill(await request.read()), unix_socket.who(_peer(request))
        await self._operations.keep_drill(drill, who)
        log.info("%s drilled %s: %s", _named(who), drill["volume"], drill["result"])
        return replies.document(drill, status=201)

    async def _plan(self, request: web.Request) -> web.Response:
        return replies.document(await self._operations.plan(request.match_info["plan"]))

    async def _apply_plan(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        plan = await self._operations.apply_plan(request.match_info["plan"], who)
        log.info("%s applied %s of %s", _named(who), plan["id"], plan["volume"])
        return replies.document(plan)

    async def _hold(self, request: web.Request) -> web.Response:
        wanted, who = requests.parse_hold(await request.read()), unix_socket.who(_peer(request))
        point = await self._operations.hold(request.match_info["selector"], wanted, who)
        log.info("%s holds %s: %s", _named(who), point["id"], dict(wanted))
        return replies.document(point)

    async def _release(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        point = await self._operations.release(request.match_info["selector"], who)
        log.info("%s released %s", _named(who), point["id"])
        return replies.document(point)

    async def _undelete(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        point = await self._operations.undelete(request.match_info["selector"], who)
        log.info("%s brought %s back", _named(who), point["id"])
        return replies.document(point)

    async def _pause(self, request: web.Request) -> web.Response:
        wanted, who = requests.parse_pause(await request.read()), unix_socket.who(_peer(request))
        volume = await self._operations.pause(request.match_info["volume"], wanted, who)
        log.info("%s paused %s: %s", _named(who), volume["volume"], dict(wanted))
        return replies.document(volume)

    async def _resume(self, request: web.Request) -> web.Response:
        wanted, who = requests.parse_resume(await request.read()), unix_socket.who(_peer(request))
        volume = await self._operations.resume(request.match_info["volume"], wanted, who)
        log.info("%s resumed %s: %s", _named(who), volume["volume"], dict(wanted))
        return replies.document(volume)

    async def _in_place(self, request: web.Request) -> web.Response:
        wanted, who = requests.parse_in_place(await request.read()), unix_socket.who(_peer(request))
        volume = request.match_info["volume"]
        told = await self._operations.in_place(volume, wanted, who)
        log.info("%s restores %s in place: %s", _named(who), volume, dict(wanted))
        return replies.document(told)

    async def _end_views(self, request: web.Request) -> web.Response:
        volume, who = request.match_info["volume"], unix_socket.who(_peer(request))
        found = await self._operations.end_views(volume, who)
        log.info("%s ended the views of %s: %s", _named(who), volume, found["done"])
        return replies.document(found)

    async def _stream(
        self, request: web.Request, source: AsyncGenerator[Any, None]
    ) -> web.StreamResponse:
        if self._streams >= STREAMS_MAX:
            raise BusyError(f"{STREAMS_MAX} clients follow already", hint="End one of them.")
        self._streams += 1
        try:
            return await replies.stream(request, source, self.closing)
        finally:
            self._streams -= 1


def _peer(request: web.Request) -> Peer:
    if request.transport is None:
        raise NotAllowedError("the client is gone, so nobody can be asked who it was")
    return unix_socket.peer_of(request.transport.get_extra_info("socket"))


def _named(who: Any) -> str:
    return f"{who['login'] or 'uid ' + str(who['uid'])} (pid {who['pid']})"
