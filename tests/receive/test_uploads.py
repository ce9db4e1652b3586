"""Bodies as they come: short, long, damaged, stalled; nothing but the whole gets a name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from blake3 import blake3

from blocksnapd.errors import ChecksumError, RepositoryFormatError, StoreError
from blocksnapd.receive import uploads
from blocksnapd.receive.caller import Caller
from blocksnapd.receive.places import Places
from blocksnapd.receive.uploads import Order, receive
from blocksnapd.store.files import BEGIN_SYNC_SIZE
from tests.receive.running import Running

NAME = "v/vol/d/20261123/p" + "7" * 16 + "-0001-0123abcd.pk"
SOURCE = Caller("db01", "source")


class Body:
    """A body in pieces; ``None`` waits for ever, an error is raised."""

    def __init__(self, *pieces: object) -> None:
        self._pieces = list(pieces)

    async def readchunk(self) -> tuple[bytes, bool]:
        piece = self._pieces.pop(0) if self._pieces else b""
        if piece is None:
            await asyncio.sleep(3600)
        if isinstance(piece, Exception):
            raise piece
        return piece, False


@pytest.fixture
def place(tmp_path):
    running = Running(tmp_path)
    (running.root / "db01").mkdir()
    return Places(lambda: running.config).of(SOURCE)


async def go_on() -> None:
    return


def order(data: bytes, **more: object) -> Order:
    said = {"size": len(data), "digest": blake3(data).hexdigest(), "may_be_there": False, **more}
    return Order(SOURCE, NAME, **said)


def left(place) -> list[Path]:
    return [path for path in Path(place.store().url).rglob("*") if path.is_file()]


async def test_pieces_of_any_size_become_one_object(place):
    pieces = [bytes([n]) * (n * 40_000) for n in range(1, 17)]
    assert sum(map(len, pieces)) > BEGIN_SYNC_SIZE
    assert await receive(place, order(b"".join(pieces)), Body(*pieces), go_on)
    assert place.store().get(NAME, size_max=1 << 30) == b"".join(pieces)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([b"abc"], ChecksumError),
        ([b"abcdefg"], ChecksumError),
        ([b"abcdeX"], ChecksumError),
        ([b"abc", ConnectionResetError()], ConnectionResetError),
    ],
)
async def test_what_is_not_what_was_said_gets_no_name(place, body, error):
    with pytest.raises(error):
        await receive(place, order(b"abcdef"), Body(*body), go_on)
    assert left(place) == []


async def test_a_body_that_stops_coming_is_given_up(place, monkeypatch):
    monkeypatch.setattr(uploads, "STALL_S_MAX", 0.05)
    with pytest.raises(StoreError, match="stopped coming"):
        await receive(place, order(b"abcdef"), Body(b"abc", None), go_on)
    assert left(place) == []


@pytest.mark.parametrize("digest", ["", "0" * 63, "g" * 64, "0" * 65])
async def test_without_a_digest_nothing_is_taken(place, digest):
    with pytest.raises(RepositoryFormatError, match="digest"):
        await receive(place, order(b"abc", digest=digest), Body(b"abc"), go_on)


async def test_the_source_is_told_to_go_on_only_when_nothing_speaks_against_it(place):
    said = []

    async def say() -> None:
        said.append(1)

    await receive(place, order(b"abc"), Body(b"abc"), say)
    assert said == [1]
    with pytest.raises(StoreError):
        await receive(place, order(b"other"), Body(b"other"), say)
    assert not await receive(place, order(b"abc", may_be_there=True), Body(), say)
    assert said == [1]


async def test_an_upload_that_a_beginning_writer_cleared_away_may_be_tried_again(place):
    """As after a restart of the receiver: the source puts again before it has its lock again."""

    class Locking(Body):
        async def readchunk(self) -> tuple[bytes, bool]:
            place.store().lock("v/vol/").release()
            return await super().readchunk()

    with pytest.raises(StoreError, match="cleared away") as told:
        await receive(place, order(b"abc"), Locking(b"abc"), go_on)
    assert told.value.transient
    assert await receive(place, order(b"abc", may_be_there=True), Body(b"abc"), go_on)
