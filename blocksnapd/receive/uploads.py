"""An object that comes over the network: checked, written as it comes, named when whole. Edge.

Memory: at most one piece of ``PIECE_SIZE`` per upload. The network is waited for in the event loop,
the disk in threads, so that slow sources cost no thread.
"""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from blocksnapd.errors import (
    ObjectExistsError,
    RepositoryFormatError,
    StoreError,
    StoreMissingError,
)
from blocksnapd.receive.places import PIECE_SIZE, damaged
from blocksnapd.store.clear import HEADER_SIZE_MAX, PREFIX_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import StreamReader

    from blocksnapd.receive.caller import Caller
    from blocksnapd.receive.places import HostPlace
    from blocksnapd.receive.roots import Upload

STALL_S_MAX = 60.0
HEAD_SIZE = PREFIX_SIZE + HEADER_SIZE_MAX
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Order:
    """What a source says of an object before its bytes.

    ``epoch``: a point is refused if collections are not at that one; None: it is not asked.
    """

    caller: Caller
    name: str
    size: int
    digest: str
    may_be_there: bool
    epoch: int | None = None

    def check(self) -> None:
        """Raise RepositoryFormatError if it cannot be."""
        if _DIGEST.fullmatch(self.digest) is None:
            raise RepositoryFormatError(f"{self.name} comes without its digest")


async def receive(
    place: HostPlace, order: Order, body: StreamReader, go_on: Callable[[], Awaitable[None]]
) -> bool:
    """Take an object; return whether it is new, or was there already, the very same.

    Args:
        place: whose it becomes.
        order: what it is to be.
        body: its bytes.
        go_on: tells the source to send them, if it waits for that.

    Raises:
        StoreError: it is not there by this call, see ``HostPlace.begun`` and ``publish``.
        RepositoryFormatError, ChecksumError: it is not what was said.
    """
    order.check()
    stack = ExitStack()
    begun = place.begun(order.name, order.size)
    try:
        upload = await asyncio.to_thread(stack.enter_context, begun)
        await go_on()
        head = await _copy(order, body, upload)
        await asyncio.to_thread(_publish, place, order, upload, head)
    except ObjectExistsError:
        if not order.may_be_there or not await asyncio.to_thread(
            place.is_same, order.name, order.size, order.digest
        ):
            raise
        return False
    finally:
        await asyncio.to_thread(stack.__exit__, *sys.exc_info())
    return True


def _publish(place: HostPlace, order: Order, upload: Upload, head: bytes) -> None:
    try:
        place.publish(order.caller, order.name, upload, head, order.epoch)
    except StoreMissingError as error:
        # After a restart here a source may put again before it has its lock again.
        raise StoreError(
            f"{order.name} was cleared away on its way: a writer of its volume began",
            effect="Nothing was committed by this call.",
            hint="It is tried again.",
        ) from error


async def _copy(order: Order, body: StreamReader, upload: Upload) -> bytes:
    hasher, head, size = blake3(), b"", 0

    def take(parts: list[bytes]) -> None:
        for part in parts:
            hasher.update(part)
        upload.write(*parts)

    while parts := await _piece(order.name, body):
        size += sum(map(len, parts))
        if size > order.size:
            break
        for part in parts:
            head += part[: HEAD_SIZE - len(head)]
        await asyncio.to_thread(take, parts)
    if size != order.size or hasher.hexdigest() != order.digest:
        raise damaged(order.name)
    return head


async def _piece(name: str, body: StreamReader) -> list[bytes]:
    # What is there, up to a piece: few large steps to the disk instead of many small ones. Joining
    # it here would copy every byte in the one thread that all sources wait for.
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(STALL_S_MAX):
            while size < PIECE_SIZE and (part := (await body.readchunk())[0]):
                parts.append(part)
                size += len(part)
    except TimeoutError:
        raise StoreError(
            f"{name} stopped coming for {STALL_S_MAX:.0f} s",
            effect="Nothing was committed by this call.",
            hint="Look after the network; the source tries again.",
        ) from None
    return parts
