"""Requests → replies: what a disk holds as simple replies or structured chunks. Pure.

A reply comes in pieces of at most ``PIECE_SIZE`` of content, so that a request of any length
takes little memory; asking for the next piece may block on the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from blocksnapd.errors import BlocksnapError
from blocksnapd.export import protocol
from blocksnapd.export.disk import alternating
from blocksnapd.export.protocol import Command, CommandFlag, Errno, State
from blocksnapd.export.session import PIECE_SIZE
from blocksnapd.model import Extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.export.disk import Disk, WritableDisk
    from blocksnapd.export.protocol import Request

HOLE_SIZE_MIN: Final = 32 << 10  # smaller ones are sent as zeros: a chunk costs more than it saves
DF_SIZE_MAX: Final = PIECE_SIZE  # a reply that may not be fragmented is one piece
STATUS_EXTENTS_MAX: Final = 1 << 14
STATUS_SPAN_MAX: Final = 1 << 30  # looked at for one BLOCK_STATUS; the client asks on from there

Buffers = list[bytes | bytearray]


class BrokenReplyError(Exception):
    """A reply cannot be ended as it was begun: only closing the connection tells the client."""


def answer(request: Request, disk: Disk, *, structured: bool) -> Iterator[Buffers]:
    """Yield the reply to ``request``, which passed the rules, in pieces to be sent in order.

    Raises:
        BrokenReplyError: after a piece, see there.
    """
    match request.command:
        case Command.READ if structured:
            yield from _read_structured(request, disk)
        case Command.READ:
            yield from _read_simple(request, disk)
        case Command.BLOCK_STATUS:
            yield [_status(request, disk)]
        case Command.CACHE:
            yield [_cache(request, disk, structured=structured)]
        case Command.TRIM | Command.WRITE_ZEROES:
            # The rules let this through for a writable export only.
            yield [_zero(request, cast("WritableDisk", disk), structured=structured)]
        case _:  # what was written is where every connection sees it: nothing to flush
            yield [protocol.success_reply(request.cookie, structured=structured)]


def _zero(request: Request, disk: WritableDisk, *, structured: bool) -> bytes:
    try:
        disk.zero(request.offset, request.length)
    except (OSError, BlocksnapError) as error:
        return failure(request, error, structured=structured)
    return protocol.success_reply(request.cookie, structured=structured)


def write(request: Request, offset: int, data: bytes, disk: Disk, *, structured: bool) -> bytes:
    """Write one piece of a request that passed the rules; return the reply to the whole.

    The reply to a piece that is not the last is empty if all is well.
    """
    try:
        cast("WritableDisk", disk).write(offset, data)
    except (OSError, BlocksnapError) as error:
        return failure(request, error, structured=structured)
    is_last = offset + len(data) == request.end
    return protocol.success_reply(request.cookie, structured=structured) if is_last else b""


def failure(request: Request, error: Exception, *, structured: bool) -> bytes:
    """Return the reply that tells of ``error``."""
    if isinstance(error, OSError):
        number, text = Errno.ENOSPC, f"no room in the overlay: {error.strerror or error}"
    else:
        number, text = Errno.EIO, getattr(error, "message", "")
    return protocol.error_reply(request.cookie, number, text, structured=structured)


def _pieces(request: Request) -> Iterator[tuple[int, int]]:
    for start in range(request.offset, request.end, PIECE_SIZE):
        yield start, min(start + PIECE_SIZE, request.end)


def _read_structured(request: Request, disk: Disk) -> Iterator[Buffers]:
    if request.flags & CommandFlag.DF and request.length > DF_SIZE_MAX:
        text = f"{request.length} bytes are more than the {DF_SIZE_MAX} sent in one chunk"
        yield [protocol.error_chunk(request.cookie, Errno.EOVERFLOW, text)]
        return
    if not request.length:
        yield [protocol.done_chunk(request.cookie)]
    for start, end in _pieces(request):
        try:
            yield _chunks(request, disk, start, end)
        except BlocksnapError as error:
            yield [protocol.error_chunk(request.cookie, Errno.EIO, error.message, offset=start)]
            return


def _chunks(request: Request, disk: Disk, start: int, end: int) -> Buffers:
    buffers: Buffers = []
    parts = [(end - start, True)]
    if not request.flags & CommandFlag.DF and end - start >= HOLE_SIZE_MIN:
        parts = _worthwhile(alternating(disk.data_extents(start, end), start, end))
    for length, is_data in parts:
        is_last = start + length == request.end
        if is_data:
            data = bytearray(length)
            disk.read_into(start, memoryview(data))
            head = protocol.data_chunk(request.cookie, start, length, is_last=is_last)
            buffers += [head, data]
        else:
            buffers.append(protocol.hole_chunk(request.cookie, start, length, is_last=is_last))
        start += length
    return buffers


def _worthwhile(parts: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    """Return the parts with small holes made data, and neighbours of a kind joined."""
    joined: list[tuple[int, bool]] = []
    for length, is_data in parts:
        kind = is_data or length < HOLE_SIZE_MIN
        if joined and joined[-1][1] == kind:
            joined[-1] = (joined[-1][0] + length, kind)
        else:
            joined.append((length, kind))
    return joined


def _read_simple(request: Request, disk: Disk) -> Iterator[Buffers]:
    """A simple reply tells of success before its first byte; so all of it is read before that.

    What is more than a piece is read again while it is sent: this form is for clients that know
    no other, and they ask for little at a time.
    """
    buffers: Buffers = []
    try:
        for start, end in _pieces(request):
            buffers = [bytearray(end - start)]
            disk.read_into(start, memoryview(buffers[0]))
    except BlocksnapError as error:
        yield [failure(request, error, structured=False)]
        return
    head = protocol.simple_reply(request.cookie)
    if request.length <= PIECE_SIZE:
        yield [head, *buffers]
        return
    yield [head]
    for start, end in _pieces(request):
        data = bytearray(end - start)
        try:
            disk.read_into(start, memoryview(data))
        except BlocksnapError as error:
            raise BrokenReplyError(error.message) from error
        yield [data]


def _cache(request: Request, disk: Disk, *, structured: bool) -> bytes:
    scratch = memoryview(bytearray(min(request.length, PIECE_SIZE)))
    try:
        for start, end in _pieces(request):
            disk.read_into(start, scratch[: end - start])
    except BlocksnapError as error:
        return failure(request, error, structured=structured)
    return protocol.success_reply(request.cookie, structured=structured)


def _status(request: Request, disk: Disk) -> bytes:
    end = min(request.end, request.offset + STATUS_SPAN_MAX)
    count = 1 if request.flags & CommandFlag.REQ_ONE else STATUS_EXTENTS_MAX
    found = disk.data_extents(request.offset, end)
    if len(found) > count:
        # Tell less rather than count what is not told: the client asks on from where this ends.
        end = int(found.starts[count])
        found = Extents(found.starts[:count], found.ends[:count])
    parts = alternating(found, request.offset, end)
    extents = [
        (length, int(State.DATA if is_data else State.HOLE | State.ZERO))
        for length, is_data in parts[:count]
    ]
    return protocol.status_chunk(request.cookie, extents)
