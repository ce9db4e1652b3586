"""The paths of the control server: request → question to the daemon → reply. Edge: aiohttp.

Which there are, and what they take and give, says ``route_table.py``. Whoever changes something is
noted, with his process, in the event log.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING

from aiohttp import web

from blocksnapd.control import replies, requests, unix_socket
from blocksnapd.control.messages import SCHEMA
from blocksnapd.control.openapi import document
from blocksnapd.control.route_table import ROUTES
from blocksnapd.errors import BusyError, NotAllowedError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from typing import Any

    from blocksnapd.control.access import Access, Peer
    from blocksnapd.control.messages import Who
    from blocksnapd.control.operations import Operations

STREAMS_MAX = 64
BODY_S_MAX = 10.0


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
        for route in ROUTES:
            add = app.router.add_get if route.method == "GET" else app.router.add_post
            add(route.pattern, getattr(self, f"_{route.name}"))
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
        volume, everything = (
            requests.parse_volume(request.query),
            requests.parse_flag(request.query, "all"),
        )
        points = await self._operations.points(volume, with_forgotten=everything)
        return replies.document({"schema": SCHEMA, "points": points})

    async def _point(self, request: web.Request) -> web.Response:
        return replies.document(await self._operations.point(request.match_info["selector"]))

    async def _files(self, request: web.Request) -> web.StreamResponse:
        query = requests.parse_files(request.query)
        source = self._operations.files(request.match_info["selector"], query)
        return await self._stream(request, source)

    async def _runs(self, request: web.Request) -> web.Response:
        runs = await self._operations.runs(requests.parse_volume(request.query))
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
        wanted = requests.parse_run_request(await _body(request))
        who = unix_socket.who(_peer(request))
        started = await self._operations.start_run(wanted, who)
        self._note(who, f"asked for {dict(wanted)}: run {started['id']}", wanted.get("volume", ""))
        return replies.document(started, status=200 if started["joined"] else 201)

    async def _cancel_run(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        run = await self._operations.cancel_run(request.match_info["run"], who)
        self._note(who, f"cancelled run {run['id']}", run.get("volume", ""))
        return replies.document(run)

    async def _map(self, request: web.Request) -> web.Response:
        wanted = requests.parse_map(request.query)
        return replies.document(
            await self._operations.change_map(request.match_info["volume"], wanted)
        )

    async def _drills(self, request: web.Request) -> web.Response:
        since = requests.parse_instant(request.query)
        drills = await self._operations.drills(requests.parse_volume(request.query), since)
        return replies.document({"schema": SCHEMA, "drills": drills})

    async def _keep_drill(self, request: web.Request) -> web.Response:
        drill, who = requests.parse_drill(await _body(request)), unix_socket.who(_peer(request))
        await self._operations.keep_drill(drill, who)
        self._note(who, f"drilled {drill['volume']}: {drill['result']}", drill["volume"])
        return replies.document(drill, status=201)

    async def _plan(self, request: web.Request) -> web.Response:
        return replies.document(await self._operations.plan(request.match_info["plan"]))

    async def _apply_plan(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        plan = await self._operations.apply_plan(request.match_info["plan"], who)
        self._note(who, f"applied {plan['id']} of {plan['volume']}", plan["volume"])
        return replies.document(plan)

    async def _hold(self, request: web.Request) -> web.Response:
        wanted, who = requests.parse_hold(await _body(request)), unix_socket.who(_peer(request))
        point = await self._operations.hold(request.match_info["selector"], wanted, who)
        self._note(who, f"holds {point['id']}: {dict(wanted)}", point["volume"])
        return replies.document(point)

    async def _release(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        point = await self._operations.release(request.match_info["selector"], who)
        self._note(who, f"released {point['id']}", point["volume"])
        return replies.document(point)

    async def _undelete(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        point = await self._operations.undelete(request.match_info["selector"], who)
        self._note(who, f"brought {point['id']} back", point["volume"])
        return replies.document(point)

    async def _pause(self, request: web.Request) -> web.Response:
        wanted, who = requests.parse_pause(await _body(request)), unix_socket.who(_peer(request))
        volume = await self._operations.pause(request.match_info["volume"], wanted, who)
        self._note(who, f"paused {volume['volume']}: {dict(wanted)}", volume["volume"])
        return replies.document(volume)

    async def _resume(self, request: web.Request) -> web.Response:
        wanted, who = requests.parse_resume(await _body(request)), unix_socket.who(_peer(request))
        volume = await self._operations.resume(request.match_info["volume"], wanted, who)
        self._note(who, f"resumed {volume['volume']}: {dict(wanted)}", volume["volume"])
        return replies.document(volume)

    async def _in_place(self, request: web.Request) -> web.Response:
        wanted, who = requests.parse_in_place(await _body(request)), unix_socket.who(_peer(request))
        volume = request.match_info["volume"]
        told = await self._operations.in_place(volume, wanted, who)
        self._note(who, f"restores {volume} in place: {dict(wanted)}", volume)
        return replies.document(told)

    async def _end_views(self, request: web.Request) -> web.Response:
        volume, who = request.match_info["volume"], unix_socket.who(_peer(request))
        found = await self._operations.end_views(volume, who)
        self._note(who, f"ended the views of {volume}: {found['done']}", volume)
        return replies.document(found)

    async def _config(self, _: web.Request) -> web.Response:
        return replies.document(await self._operations.config())

    async def _reload(self, request: web.Request) -> web.Response:
        who = unix_socket.who(_peer(request))
        self._note(who, "asked for a reload of the configuration", "")
        return replies.document(await self._operations.reload())

    async def _openapi(self, _: web.Request) -> web.Response:
        return replies.document(document())

    def _note(self, who: Who, text: str, volume: str) -> None:
        self._operations.note(f"{_named(who)} {text}", who, volume=volume)

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


async def _body(request: web.Request) -> bytes:
    """Return what was sent.

    Raises:
        UsageError: it was cut off, or did not come in time.
    """
    try:
        async with asyncio.timeout(BODY_S_MAX):
            return await request.read()
    except (ConnectionError, TimeoutError) as error:
        raise UsageError("the request was not sent whole", effect="Nothing was done.") from error


def _peer(request: web.Request) -> Peer:
    if request.transport is None:
        raise NotAllowedError("the client is gone, so nobody can be asked who it was")
    return unix_socket.peer_of(request.transport.get_extra_info("socket"))


def _named(who: Who) -> str:
    return f"{who['login'] or 'uid ' + str(who['uid'])} (pid {who['pid']})"
