"""Values and errors → HTTP replies: documents, problems and streams of lines. Edge: aiohttp."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web

from blocksnapd.control.messages import (
    API_HEADER,
    JSON_TYPE,
    LINES_TYPE,
    PROBLEM_TYPE,
    SCHEMA,
    problem,
)
from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    ConfigError,
    KeyMissingError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 10.0
HEARTBEAT_S = 10.0
FIRST_LINE_S = 0.5

_HEADERS = {API_HEADER: str(SCHEMA), "Cache-Control": "no-store"}
_STATUSES: dict[type[BlocksnapError], int] = {
    UsageError: 400, NotAllowedError: 403, KeyMissingError: 403, NotFoundError: 404,
    RefusedError: 409, ConfigError: 409, BusyError: 503,
}  # fmt: skip
_USAGE_STATUSES = range(400, 500)


class InternalError(BlocksnapError):
    """A mistake of ours; somebody has to report it."""

    code = "E-INTERNAL"


def document(body: object, *, status: int = 200) -> web.Response:
    """Return a JSON document."""
    text = json.dumps(body, ensure_ascii=False) + "\n"
    return web.Response(text=text, status=status, content_type=JSON_TYPE, headers=_HEADERS)


def problem_reply(error: BlocksnapError, *, status: int = 0) -> web.Response:
    """Return problem+json for an error of ours."""
    status = status or next((s for c, s in _STATUSES.items() if isinstance(error, c)), 500)
    body = json.dumps(problem(error) | {"status": status}, ensure_ascii=False) + "\n"
    headers = _HEADERS | ({"Retry-After": "1"} if status == 503 else {})
    return web.Response(text=body, status=status, content_type=PROBLEM_TYPE, headers=headers)


def as_known(error: Exception, where: str) -> BlocksnapError:
    """Return ``error`` if it is one of ours; log any other and return one that says so."""
    if isinstance(error, BlocksnapError):
        return error
    log.error("%s failed in a way nobody thought of", where, exc_info=error)
    return InternalError(
        f"{type(error).__name__}: {error}",
        effect="The request failed; the volumes go on being protected.",
        hint="This is a mistake in blocksnap: please report it with the daemon's log.",
    )


def from_aiohttp(error: web.HTTPException) -> web.Response:
    """Return problem+json for what aiohttp itself refused: unknown path, body too large …."""
    is_usage = error.status in _USAGE_STATUSES and error.status != 404
    kind: type[BlocksnapError] = UsageError if is_usage else NotFoundError
    reply = problem_reply(
        kind(f"{error.status} {error.reason}", hint="What there is, tells /v1/openapi.json."),
        status=error.status,
    )
    if allow := error.headers.get("Allow"):
        reply.headers["Allow"] = allow
    return reply


async def stream(
    request: web.Request, source: AsyncGenerator[Any, None], closing: asyncio.Event
) -> web.StreamResponse:
    """Send each value as a line of JSON until the source ends or ``closing`` is set.

    An empty line now and then shows that the connection lives. A client that takes nothing for
    ``SEND_TIMEOUT_S`` is dropped. An error after the first line becomes the last line.

    Raises:
        BlocksnapError: before anything was sent.
    """
    lines = _Lines(source, closing)
    try:
        # An error at once (no such run) still gets a status line of its own.
        first = await lines.next_line(FIRST_LINE_S)
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type = LINES_TYPE
        await _send(request, response.prepare(request))
        line: bytes | None = first
        while line is not None:
            await _send(request, response.write(line))
            line = await _next_or_problem(lines, request.path)
        await _send(request, response.write_eof())
    except (ConnectionError, TimeoutError):
        pass  # the client went away or sleeps
    finally:
        await lines.close()
    return response


async def _next_or_problem(lines: _Lines, where: str) -> bytes | None:
    if lines.failed:
        return None
    try:
        return await lines.next_line(HEARTBEAT_S)
    except Exception as error:
        lines.failed = True
        return _encode(problem(as_known(error, where)))


async def _send(request: web.Request, sending: Any) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await sending
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise


class _Lines:
    """A source's values as lines, with empty lines while there are none."""

    def __init__(self, source: AsyncGenerator[Any, None], closing: asyncio.Event) -> None:
        self._source = source
        self._closing = asyncio.ensure_future(closing.wait())
        self._step: asyncio.Task[bytes | None] | None = None
        self.failed = False

    async def next_line(self, heartbeat_s: float) -> bytes | None:
        """Return the next line, an empty one after ``heartbeat_s``, None at the end."""
        if self._step is None:
            self._step = asyncio.create_task(_step(self._source))
        await asyncio.wait(
            {self._step, self._closing},
            timeout=heartbeat_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self._step.done():
            step, self._step = self._step, None
            return step.result()
        return None if self._closing.done() else b"\n"

    async def close(self) -> None:
        """Stop the source, whatever it waits for."""
        self._closing.cancel()
        if self._step is not None:
            self._step.cancel()
            await asyncio.wait({self._step})
        await self._source.aclose()


async def _step(source: AsyncGenerator[Any, None]) -> bytes | None:
    async for value in source:
        return _encode(value)
    return None


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
