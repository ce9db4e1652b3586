"""What is refused, and with which number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.export.protocol import PAYLOAD_SIZE_MAX, Errno, Request
from blocksnapd.export.rules import Facts, refusal
from tests.export.client import CACHE, FLUSH, READ, STATUS, TRIM, WRITE, ZEROES

SIZE = 1 << 30
READ_ONLY = Facts("p", SIZE)
WRITABLE = Facts("p", SIZE, is_writable=True)


def refused(facts, command, offset=0, length=512, flags=0, structured=True, context=True):
    found = refusal(
        Request(command, flags, 1, offset, length), facts,
        structured=structured, has_context=context,
    )  # fmt: skip
    if found is not None:
        assert found[1]
    return found and found[0]


@pytest.mark.parametrize("command", [WRITE, TRIM, ZEROES])
def test_a_read_only_export_refuses_every_write_with_eperm(command):
    assert refused(READ_ONLY, command) == Errno.EPERM
    assert refused(READ_ONLY, command, offset=SIZE) == Errno.EPERM
    assert refused(WRITABLE, command) is None


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (READ, Errno.EINVAL), (CACHE, Errno.EINVAL), (STATUS, Errno.EINVAL), (TRIM, Errno.EINVAL),
        (WRITE, Errno.ENOSPC), (ZEROES, Errno.ENOSPC),
    ],
)  # fmt: skip
def test_nothing_reaches_over_the_end(command, error):
    assert refused(WRITABLE, command, SIZE - 512, 512) is None
    assert refused(WRITABLE, command, SIZE - 511, 512) == error
    assert refused(WRITABLE, command, 2**64 - 1, 2**32 - 1) == error


@pytest.mark.parametrize(
    ("command", "error"),
    [(READ, Errno.EINVAL), (WRITE, Errno.EINVAL), (CACHE, Errno.EOVERFLOW)],
)
def test_what_has_a_payload_has_a_limit(command, error):
    assert refused(WRITABLE, command, 0, PAYLOAD_SIZE_MAX) is None
    assert refused(WRITABLE, command, 0, PAYLOAD_SIZE_MAX + 1) == error


@pytest.mark.parametrize("command", [TRIM, ZEROES, STATUS])
def test_what_has_none_has_no_limit_but_the_end(command):
    assert refused(WRITABLE, command, 0, SIZE) is None


def test_flags_count_only_where_they_mean_something():
    for command in (READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS):
        assert refused(WRITABLE, command, flags=1) is None
        assert refused(WRITABLE, command, flags=1 << 5) == Errno.EINVAL
        assert (refused(WRITABLE, command, flags=4) is None) == (command == READ)
        assert (refused(WRITABLE, command, flags=2) is None) == (command == ZEROES)
        assert (refused(WRITABLE, command, flags=8) is None) == (command == STATUS)
    assert refused(READ_ONLY, READ, flags=4, structured=False) == Errno.EINVAL


def test_block_status_needs_a_context_and_a_length():
    assert refused(READ_ONLY, STATUS, context=False) == Errno.EINVAL
    assert refused(READ_ONLY, STATUS, length=0) == Errno.EINVAL


def test_an_empty_read_and_a_flush_are_fine():
    assert refused(READ_ONLY, READ, length=0) is None
    assert refused(READ_ONLY, FLUSH, offset=2**63) is None


@given(st.integers(8, 65535), st.integers(0, 65535))
def test_unknown_commands_are_invalid(command, flags):
    assert refused(WRITABLE, command, flags=flags) == Errno.EINVAL


def test_the_flags_an_export_shows():
    always = 1 << 0 | 1 << 8 | 1 << 10  # has flags, may be used by several, can cache
    assert READ_ONLY.flags(structured=False) == always | 1 << 1
    assert READ_ONLY.flags(structured=True) == always | 1 << 1 | 1 << 7
    assert WRITABLE.flags(structured=False) == always | 0b110_1100  # flush, FUA, trim, zeroes
