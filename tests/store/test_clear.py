"""The clear beginning that points and manifests share."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.clear import HEADER_SIZE_MAX, PREFIX_SIZE, pack_clear, unpack_clear

MAGIC = b"BSNTESTS"


class Header(msgspec.Struct, frozen=True):
    text: str


def unpacked(data: bytes) -> tuple[Header, bytes]:
    return unpack_clear(data, "an/object", magic=MAGIC, kind=Header, what="a test")


@given(st.text(max_size=50), st.binary(max_size=50))
def test_it_comes_back_whatever_follows(text, rest):
    clear = pack_clear(MAGIC, Header(text))
    assert unpacked(clear + rest) == (Header(text), clear)


def test_every_cut_is_found():
    clear = pack_clear(MAGIC, Header("hello"))
    for size in range(len(clear)):
        with pytest.raises(RepositoryFormatError):
            unpacked(clear[:size])


def test_what_it_is_not_is_said():
    clear = pack_clear(MAGIC, Header("x"))
    with pytest.raises(RepositoryFormatError, match="an/object is not a test"):
        unpacked(b"BSNOTHER" + clear[8:])
    with pytest.raises(RepositoryFormatError, match="a test of format 2, this program reads 1"):
        unpacked(clear[:8] + b"\2" + clear[9:])
    with pytest.raises(RepositoryFormatError, match="the header of an/object"):
        unpacked(clear[:PREFIX_SIZE] + b"\xc1" * (len(clear) - PREFIX_SIZE))


def test_a_header_beyond_the_limit_is_refused():
    long = pack_clear(MAGIC, Header("x" * HEADER_SIZE_MAX))
    with pytest.raises(RepositoryFormatError, match="ends within its header"):
        unpacked(long)
