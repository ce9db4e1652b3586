"""A run that exports points over NBD: names → points, where clients come in, what it tells."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import tempfile
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from blocksnapd.errors import NotFoundError, RefusedError, UsageError
from blocksnapd.export.exports import Export
from blocksnapd.export.listening import listen_tcp, listen_unix, parse_address
from blocksnapd.export.server import Server
from blocksnapd.export.stream import tls_context
from blocksnapd.service.jobs import Job
from blocksnapd.units import format_count, format_size

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from blocksnapd.control.messages import Point, RunRequest
    from blocksnapd.ports import PointImage
    from blocksnapd.service.runs import LiveRun

NAMES_MAX: Final = 1000  # listed to a client; the others can be named all the same
LOOK_S: Final = 1.0  # between two looks at how many clients there are
OVERLAY_DIRECTORY: Final = "/var/tmp"  # noqa: S108 - where large files go; they have no name there
_NOTHING: Final = "Nothing is exported."


class Points(Protocol):
    """Who knows the points, and opens them."""

    async def point(self, selector: str) -> Point:
        """Return the one that ``selector`` names; raises as ``Operations.point``."""

    async def points(self, volume: str | None) -> list[Point]:
        """Return those of one volume or of all."""

    def open_image(self, point_id: str) -> PointImage:
        """Return the image of the point with this id; may be called in any thread."""


async def exporting(request: RunRequest, points: Points) -> Job:
    """Return what exports the point that ``request`` names, or all. It listens already.

    Raises:
        UsageError, NotFoundError, RefusedError, HostError: nothing is left behind.
    """
    made = await Exporting.prepare(request, points)
    return Job(made.volume, made.serve, made.end)


class PointResolver:
    """A ``Resolver`` over points; with ``only`` that one is all there is, and the default."""

    def __init__(self, points: Points, only: Point | None) -> None:
        self._points, self._only = points, only

    async def resolve(self, name: str) -> Export:
        """Return the export of the point that ``name`` selects, as selectors are read.

        Raises:
            NotFoundError, UsageError: none, or several; or it is not the one exported.
        """
        only = self._only
        if not name and only is None:
            raise NotFoundError(
                "no point was named", hint="Name one as vg0/home@latest; the list shows their ids."
            )
        point = await self._points.point(name) if name else only
        assert point is not None
        if only is not None and point["id"] != only["id"]:
            raise NotFoundError(f"only {only['id']} is exported here, not {point['id']}")
        return Export(
            point["id"], point["size"], point["block_size"], _about(point),
            lambda: self._points.open_image(point["id"]),
        )  # fmt: skip

    async def names(self) -> Sequence[tuple[str, str]]:
        """Return ids and what they are, the newest first."""
        found = [self._only] if self._only else await self._points.points(None)
        newest = sorted(found, key=lambda p: p["time"], reverse=True)
        return [(p["id"], _about(p)) for p in newest[:NAMES_MAX]]


def _about(point: Point) -> str:
    return f"{point['volume']} at {point['time']}"


class Exporting:
    """One export: made by ``prepare``, then ``serve`` until ``end``. Event loop only."""

    def __init__(
        self, listening: socket.socket, uri: str, request: RunRequest, only: Point | None,
        resolver: PointResolver, tls: ssl.SSLContext | None,
    ) -> None:  # fmt: skip
        self.volume = only["volume"] if only else ""
        self._point = only["id"] if only else ""
        self._listening, self._uri = listening, uri
        overlays = overlay_directory() if request.get("writable") else None
        self._server = Server(resolver, tls=tls, overlays=overlays)
        self._ended = asyncio.Event()

    @classmethod
    async def prepare(cls, request: RunRequest, points: Points) -> Exporting:
        """Return an export that listens, but serves nobody yet.

        Raises:
            UsageError, NotFoundError, RefusedError, HostError: nothing is left behind.
        """
        if ("unix" in request) == ("listen" in request):
            raise UsageError(
                "an export is at one place", effect=_NOTHING,
                hint="Name either --unix PATH or --listen ADDRESS:PORT.",
            )  # fmt: skip
        only = await points.point(request["point"]) if "point" in request else None
        tls = _tls(request)
        listening, uri = await asyncio.to_thread(_listen, request, tls)
        try:
            resolver = PointResolver(points, only)
            return cls(listening, uri, request, only, resolver, tls)
        except BaseException:
            listening.close()
            raise

    async def serve(self, run: LiveRun) -> None:
        """Serve until ``end``; note in ``run`` where, and how it goes."""
        run.point, run.to = self._point, self._uri
        self._server.start(self._listening)
        try:
            while not self._ended.is_set():
                run.phase = self._said()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), LOOK_S)
        finally:
            path = self._listening.getsockname()
            await self._server.stop()
            if isinstance(path, str):
                with contextlib.suppress(OSError):
                    os.unlink(path)
            run.reason = f"{format_size(self._server.sent_bytes)} sent"

    def end(self) -> None:
        """End it."""
        self._ended.set()

    def _said(self) -> str:
        clients = format_count(self._server.connections, "connection")
        return f"{clients}, {format_size(self._server.sent_bytes)} sent"


def overlay_directory() -> str:
    """Return where what clients write lies: TMPDIR, or a place meant for large files."""
    if "TMPDIR" not in os.environ and os.access(OVERLAY_DIRECTORY, os.W_OK):
        return OVERLAY_DIRECTORY
    return tempfile.gettempdir()


def _tls(request: RunRequest) -> ssl.SSLContext | None:
    if "certificate" not in request:
        return None
    return tls_context(
        request["certificate"], request.get("certificate_key", ""), request.get("client_ca")
    )


def _listen(request: RunRequest, tls: ssl.SSLContext | None) -> tuple[socket.socket, str]:
    scheme = "nbds" if tls else "nbd"
    if "unix" in request:
        path = request["unix"]
        return listen_unix(path), f"{scheme}+unix:///?socket={quote(path)}"
    host, port = parse_address(request["listen"])
    listening = listen_tcp(host, port)
    address, port = listening.getsockname()[:2]
    knows_clients = "client_ca" in request
    if not (knows_clients or request.get("open") or ipaddress.ip_address(address).is_loopback):
        listening.close()
        raise RefusedError(
            f"whoever reaches {request['listen']} could read the point", effect=_NOTHING,
            hint="Let in only those with a certificate (--tls-cert, --tls-key, --tls-clients), "
            "listen on 127.0.0.1, or say --yes if this is what you want.",
        )  # fmt: skip
    shown = f"[{address}]" if ":" in address else address
    return listening, f"{scheme}://{shown}:{port}/"
