"""The receiver's answers: HTTP requests of one caller → what its host keeps here. Edge: aiohttp.

Knows neither TLS nor listening: who calls is a function of the request that is handed in, and any
byte stream to it will do. Paths and headers: ``store/receiver_wire.py``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from blocksnapd.errors import BlocksnapError, RepositoryFormatError, StoreError
from blocksnapd.receive import caller as rules
from blocksnapd.receive.places import PIECE_SIZE
from blocksnapd.receive.uploads import Order, receive
from blocksnapd.store.names import is_point_name
from blocksnapd.store.receiver_wire import (
    AGAIN_HEADER,
    DIGEST_HEADER,
    EPOCH_HEADER,
    LEASE_S,
    LOCK_HEADER,
    LOCK_OF_ONE,
    PROBLEM_TYPE,
    TIME_HEADER,
    pack_problem,
    parse_count,
    parse_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aiohttp.typedefs import Handler

    from blocksnapd.receive.caller import Caller
    from blocksnapd.receive.places import HostPlace, Places

log = logging.getLogger(__name__)

BODY_SIZE_MAX: Final = 1 << 16  # of everything but an object, which is streamed
UNLIMITED: Final = 1 << 64
AT_ONCE_MAX: Final = 32  # requests of one host: so many of its threads and files at most


@dataclass(slots=True)
class Asked:
    """A request that is allowed: by whom, where, of which object or prefix.

    ``taken`` counts the bytes of objects that it brought.
    """

    request: web.Request
    caller: Caller
    place: HostPlace
    name: str
    taken: int = 0


class Application:
    """Serves the objects of ``places`` to whom ``caller_of`` says they are.

    Args:
        places: where the hosts are kept.
        caller_of: who sends a request; raises StoreRefusedError for strangers.
        told: hears of every request: host, verb, code of the error or "", bytes taken.
        now: the receiver's clock, seconds since 1970.
    """

    def __init__(
        self,
        places: Places,
        caller_of: Callable[[web.Request], Caller],
        *,
        told: Callable[[str, str, str, int], None] = lambda *_: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._places, self._caller_of = places, caller_of
        self._told, self._now = told, now
        self._under_way: Counter[str] = Counter()

    def build(self) -> web.Application:
        """Return it as aiohttp serves it."""
        app = web.Application(client_max_size=BODY_SIZE_MAX)
        object_path = "/v1/objects/{name:.*}"
        add = app.router.add_route
        add("PUT", object_path, self._answering("put", self._put), expect_handler=_wait)
        add("GET", object_path, self._answering("get", self._get))
        add("DELETE", object_path, self._answering("delete", self._delete))
        add("GET", "/v1/facts/{name:.*}", self._answering("facts", self._facts))
        add("GET", "/v1/names/{name:.*}", self._answering("names", self._names))
        add("GET", "/v1/children/{name:.*}", self._answering("children", self._children))
        add("POST", "/v1/settle/{name:.*}", self._answering("settle", self._settle))
        add("POST", "/v1/locks/{name:.*}", self._answering("locks", self._lock))
        add("GET", "/v1/look/{name:.*}", self._answering("look", self._look))
        add("GET", "/v1/room", self._answering("room", self._room))
        return app

    def _answering(
        self, verb: rules.Verb, answer: Callable[[Asked], Awaitable[web.StreamResponse]]
    ) -> Handler:
        """Return a handler: finds out who asks, checks the rules, turns errors into problems."""

        async def handle(request: web.Request) -> web.StreamResponse:
            asked: Asked | None = None
            response: web.StreamResponse
            code = ""
            try:
                asked = self._asked(request, verb)
                with self._one_more(asked.caller.host):
                    response = await answer(asked)
            except BlocksnapError as error:
                code, response = error.code, _problem(error)
            except ConnectionError:
                # Networks break every day: a line, not a stack. Nobody hears the answer.
                log.info("%s: the connection ended within %s", _who(asked), verb)
                code, response = "E-GONE", web.Response(status=400)
                response.force_close()
            except Exception as error:
                log.exception("%s failed in a way nobody thought of", verb)
                code, response = "E-INTERNAL", _problem(_internal(error))
            self._told(asked.caller.host if asked else "", verb, code, asked.taken if asked else 0)
            if not response.prepared:
                response.headers[TIME_HEADER] = self._time()
                if request.body_exists and not request.content.is_eof():
                    response.force_close()  # what is still to come belongs to no request
            return response

        return handle

    def _asked(self, request: web.Request, verb: rules.Verb) -> Asked:
        caller = self._caller_of(request)
        place, name = self._places.of(caller), request.match_info.get("name", "")
        rules.check(caller, verb, name)
        return Asked(request, caller, place, name)

    @contextlib.contextmanager
    def _one_more(self, host: str) -> Iterator[None]:
        if self._under_way[host] >= AT_ONCE_MAX:
            raise StoreError(
                f"host {host} has {AT_ONCE_MAX} requests under way already",
                effect="Nothing was read or written.",
                hint="It is tried again.",
            )
        self._under_way[host] += 1
        try:
            yield
        finally:
            self._under_way[host] -= 1

    def _time(self) -> str:
        return f"{self._now():.6f}"

    async def _put(self, asked: Asked) -> web.StreamResponse:
        request, place, name = asked.request, asked.place, asked.name
        if request.content_length is None:
            raise RepositoryFormatError(f"{name} comes without its size")
        if asked.caller.role == "source" and is_point_name(name):
            place.check_clock(self._offset(request))
        order = Order(
            asked.caller, name, request.content_length, request.headers.get(DIGEST_HEADER, ""),
            may_be_there=AGAIN_HEADER in request.headers,
            epoch=parse_count(request.headers.get(EPOCH_HEADER)),
        )  # fmt: skip
        is_new = await receive(place, order, request.content, lambda: _go_on(request))
        asked.taken = order.size if is_new else 0
        seen = None
        if order.epoch is not None and is_point_name(name):
            seen = await asyncio.to_thread(place.seen_after, name)
        said = {} if seen is None else {EPOCH_HEADER: str(seen)}
        return web.Response(status=201 if is_new else 200, headers=said)

    async def _get(self, asked: Asked) -> web.StreamResponse:
        first = _count(asked.request, "offset", 0)
        limit = _count(asked.request, "size", UNLIMITED)
        size, start = await asyncio.to_thread(asked.place.opened, asked.caller, asked.name, first)
        size = min(limit, size)
        response = web.StreamResponse(headers={TIME_HEADER: self._time()})
        response.content_length = size
        await response.prepare(asked.request)
        with _whole_or_cut(asked.request):
            data, at = start[:size], first
            while at < first + size:
                await response.write(data)
                at += len(data)
                part = min(PIECE_SIZE, first + size - at)
                data = await asyncio.to_thread(asked.place.piece, asked.name, at, part)
            await response.write_eof()
        return response

    async def _facts(self, asked: Asked) -> web.StreamResponse:
        return web.json_response(
            await asyncio.to_thread(asked.place.facts, asked.caller, asked.name)
        )

    async def _delete(self, asked: Asked) -> web.StreamResponse:
        await asyncio.to_thread(asked.place.delete, asked.name)
        return web.Response(status=204)

    async def _names(self, asked: Asked) -> web.StreamResponse:
        return _lines(await asyncio.to_thread(asked.place.names, asked.caller, asked.name))

    async def _children(self, asked: Asked) -> web.StreamResponse:
        return _lines(await asyncio.to_thread(lambda: asked.place.store().children(asked.name)))

    async def _settle(self, asked: Asked) -> web.StreamResponse:
        await asyncio.to_thread(lambda: asked.place.store().settle(asked.name))
        return web.Response(status=204)

    async def _look(self, asked: Asked) -> web.StreamResponse:
        shown = await asyncio.to_thread(asked.place.look, asked.caller, asked.name)
        data = shown.repository
        text = None if data is None else base64.b64encode(data).decode()
        return web.json_response({"repository": text, "names": shown.names})

    async def _room(self, asked: Asked) -> web.StreamResponse:
        return web.json_response({"free_bytes": await asyncio.to_thread(asked.place.room)})

    async def _lock(self, asked: Asked) -> web.StreamResponse:
        if asked.caller.role == "source":
            asked.place.check_clock(self._offset(asked.request))
        lock = await asyncio.to_thread(lambda: asked.place.store().lock(asked.name))
        scope = {} if lock.is_everywhere else {LOCK_HEADER: LOCK_OF_ONE}
        response = web.StreamResponse(headers={TIME_HEADER: self._time(), **scope})
        try:
            await response.prepare(asked.request)
            await response.write(b"held\n")
            await _outlive(asked.request)
        finally:
            lock.release()
        await response.write_eof()  # whoever sees this may take it again
        return response

    def _offset(self, request: web.Request) -> float | None:
        said = parse_seconds(request.headers.get(TIME_HEADER))
        return None if said is None else said - self._now()


def _who(asked: Asked | None) -> str:
    return f"host {asked.caller.host}" if asked else "somebody"


async def _outlive(request: web.Request) -> None:
    # The lease ends with the request's body, with the connection, or without a beat.
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(LEASE_S):
                if not await request.content.readany():
                    return


@contextlib.contextmanager
def _whole_or_cut(request: web.Request) -> Iterator[None]:
    # Once an answer has begun nothing but its bytes may follow: an error would pass for data.
    try:
        yield
    except Exception as error:
        log.warning("an answer was cut: %s", error)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from error


async def _wait(_: web.Request) -> None:
    # "100 Continue" is said by the handler, once nothing speaks against the body.
    return


async def _go_on(request: web.Request) -> None:
    if "Expect" in request.headers and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _count(request: web.Request, key: str, default: int) -> int:
    if key not in request.query:
        return default
    value = parse_count(request.query[key])
    if value is None:
        raise RepositoryFormatError(f"{key} must be a number")
    return value


def _lines(names: list[str]) -> web.Response:
    return web.Response(text="".join(f"{name}\n" for name in names))


def _problem(error: BlocksnapError) -> web.Response:
    status, body = pack_problem(error)
    return web.Response(status=status, body=body, content_type=PROBLEM_TYPE)


def _internal(error: Exception) -> StoreError:
    return StoreError(
        f"the receiver failed: {type(error).__name__}",
        effect="Nothing was committed by this call; the snapshot goes on tracking.",
        hint="This is a mistake in blocksnap: please report it with the receiver's log.",
    )
