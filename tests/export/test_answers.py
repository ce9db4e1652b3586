"""Replies against the content they tell of, in every form a request may ask for."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError
from blocksnapd.export import answers
from blocksnapd.export.answers import DF_SIZE_MAX, HOLE_SIZE_MIN, BrokenReplyError, answer
from blocksnapd.export.disk import ImageDisk
from blocksnapd.export.protocol import Errno, Request
from blocksnapd.export.session import PIECE_SIZE
from tests.export.client import CACHE, FLUSH, READ, STATUS, TRIM, ZEROES, Feed
from tests.export.serving import KIB, MIB, patchy
from tests.restore.memory_image import MemoryImage

CONTENT = patchy(3 * MIB + 700, 5)
SIZE = len(CONTENT)
offsets = st.one_of(
    st.integers(0, SIZE - 1),
    st.sampled_from([0, 4095, 4096, PIECE_SIZE - 1, PIECE_SIZE, SIZE - 1]),
)
lengths = st.one_of(st.integers(1, 3 * MIB), st.sampled_from([1, 4096, PIECE_SIZE, PIECE_SIZE + 1]))


def disk() -> ImageDisk:
    return ImageDisk(MemoryImage(CONTENT))


def asked(command: int, offset: int, length: int, flags: int = 0) -> Request:
    return Request(command, flags, 9, offset, min(length, SIZE - offset))


def said(request: Request, over=None, *, structured: bool = True) -> tuple[Feed, int]:
    """Return the reply and how many pieces it came in; no piece is larger than it may be."""
    pieces = list(answer(request, over or disk(), structured=structured))
    assert all(sum(map(len, piece)) <= PIECE_SIZE + 600 for piece in pieces)
    return Feed(b"".join(b"".join(piece) for piece in pieces)), len(pieces)


@settings(max_examples=80, deadline=None)
@given(offsets, lengths, st.booleans())
def test_a_read_gives_the_content(offset, length, structured):
    request = asked(READ, offset, length)
    feed, _ = said(request, structured=structured)
    if structured:
        reply = feed.structured_reply(offset, request.length)
    else:
        reply = feed.simple_reply(request.length)
    assert reply.cookie == 9
    assert reply.content == CONTENT[offset : offset + request.length]
    assert not feed.data


def test_holes_are_told_where_they_are_worth_it():
    content = bytes(100 * KIB) + b"x" * (8 * KIB) + bytes(8 * KIB) + b"y" * (8 * KIB)
    over = ImageDisk(MemoryImage(content))
    request = Request(READ, 0, 9, 0, len(content))
    reply = said(request, over)[0].structured_reply(0, len(content))
    assert reply.content == content
    assert reply.holes == [(0, 100 * KIB)]
    assert reply.chunks == 2
    small = said(Request(READ, 0, 9, 0, HOLE_SIZE_MIN - 1), over)[0]
    assert not small.structured_reply(0, HOLE_SIZE_MIN - 1).holes


@pytest.mark.parametrize("length", [1, 65536, DF_SIZE_MAX])
def test_an_unfragmented_read_is_one_chunk_with_its_zeros(length):
    reply = said(asked(READ, 0, length, flags=4))[0].structured_reply(0, length)
    assert (reply.chunks, reply.holes, reply.content) == (1, [], CONTENT[:length])


def test_what_is_too_long_for_one_chunk_is_refused():
    reply = said(asked(READ, 0, DF_SIZE_MAX + 1, flags=4))[0].structured_reply(0, DF_SIZE_MAX + 1)
    assert reply.error == Errno.EOVERFLOW


@pytest.mark.parametrize("structured", [False, True])
def test_an_empty_read_is_a_success(structured):
    feed, _ = said(Request(READ, 0, 9, 5, 0), structured=structured)
    reply = feed.structured_reply() if structured else feed.simple_reply()
    assert (reply.cookie, reply.error) == (9, 0)


@settings(max_examples=60, deadline=None)
@given(offsets, lengths, st.booleans())
def test_block_status_tells_zeros_only_where_zeros_are(offset, length, one):
    request = asked(STATUS, offset, length, flags=8 * one)
    extents = said(request)[0].structured_reply().extents
    total = sum(count for count, _ in extents)
    assert (len(extents) == 1 and total <= request.length) if one else total == request.length
    at = offset
    for count, state in extents:
        assert state in (0, 3)
        assert (state == 3) <= (not any(CONTENT[at : at + count]))
        at += count


def test_block_status_is_bounded_and_true_as_far_as_it_goes(monkeypatch):
    monkeypatch.setattr(answers, "STATUS_SPAN_MAX", MIB)
    every = said(asked(STATUS, 0, SIZE))[0].structured_reply().extents
    for count in (1, 2, 3, 4):
        monkeypatch.setattr(answers, "STATUS_EXTENTS_MAX", count)
        found = said(asked(STATUS, 0, SIZE))[0].structured_reply().extents
        assert found == every[:count]
    monkeypatch.setattr(answers, "STATUS_EXTENTS_MAX", 10**6)
    extents = said(asked(STATUS, 0, SIZE))[0].structured_reply().extents
    assert sum(count for count, _ in extents) == MIB


class Damaged(ImageDisk):
    """Cannot be read from byte ``since`` on, once it was read over so many times."""

    def __init__(self, since: int, patience: int = 0) -> None:
        super().__init__(MemoryImage(CONTENT))
        self.since, self.patience = since, patience

    def read_into(self, offset: int, view: memoryview) -> None:
        if offset + len(view) > self.since:
            self.patience -= 1
            if self.patience < 0:
                raise ChecksumError("block 7 is damaged")
        super().read_into(offset, view)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("command", [READ, CACHE])
def test_damage_is_an_error_and_the_rest_can_be_read(command, structured):
    over = Damaged(MIB)
    feed, _ = said(Request(command, 0, 9, 0, 2 * MIB), over, structured=structured)
    if structured and command == READ:
        reply = feed.structured_reply(0, 2 * MIB)
        assert reply.content[:MIB] == CONTENT[:MIB]
        assert reply.message == "block 7 is damaged"
    else:
        reply = feed.structured_reply() if structured else feed.simple_reply()
    assert reply.error == Errno.EIO
    assert not feed.data
    feed, _ = said(Request(READ, 0, 9, 0, MIB), over, structured=structured)
    assert (feed.structured_reply(0, MIB) if structured else feed.simple_reply(MIB)).error == 0


def test_damage_that_shows_after_a_success_was_told_breaks_the_connection():
    pieces = answer(Request(READ, 0, 9, 0, 2 * MIB), Damaged(MIB, patience=2), structured=False)
    assert Feed(b"".join(next(pieces))).simple_reply().error == 0
    with pytest.raises(BrokenReplyError, match="damaged"):
        list(pieces)


@pytest.mark.parametrize("structured", [False, True])
def test_flush_and_cache_are_successes(structured):
    for command in (FLUSH, CACHE):
        feed, pieces = said(Request(command, 0, 9, 0, MIB), structured=structured)
        reply = feed.structured_reply() if structured else feed.simple_reply()
        assert (reply.cookie, reply.error, pieces) == (9, 0, 1)


class Full:
    """A disk without room."""

    def write(self, offset: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no room")

    def zero(self, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "no room")


class Sheet:
    """A writable disk that notes."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def write(self, offset: int, data: bytes) -> None:
        self.done.append((offset, data))

    def zero(self, offset: int, length: int) -> None:
        self.done.append((offset, length))


def test_writes_reply_after_the_last_piece_only():
    sheet, request = Sheet(), Request(1, 0, 9, 10, 5)
    assert answers.write(request, 10, b"ab", sheet, structured=True) == b""
    last = answers.write(request, 12, b"cde", sheet, structured=True)
    assert Feed(last).structured_reply().cookie == 9
    assert sheet.done == [(10, b"ab"), (12, b"cde")]
    assert (
        Feed(answers.write(request, 10, b"a", Full(), structured=False)).simple_reply().error == 28
    )


@pytest.mark.parametrize("command", [TRIM, ZEROES])
def test_trims_and_zeroes_make_zeros(command):
    sheet, request = Sheet(), Request(command, 0, 9, 10, 5)
    assert said(request, sheet)[0].structured_reply().error == 0
    assert sheet.done == [(10, 5)]
    assert said(request, Full())[0].structured_reply().error == Errno.ENOSPC
