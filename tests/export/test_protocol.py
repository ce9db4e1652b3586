"""The bytes themselves, against a reader of their own."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.export import protocol
from blocksnapd.export.protocol import Info, MalformedOptionError, OptionReply, Request
from tests.export import client
from tests.export.client import Feed

names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=60)
u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)


def test_the_greeting_offers_fixed_newstyle_without_zeroes():
    assert Feed(protocol.greeting()).greeting() == 3


@given(names, st.lists(st.integers(0, 65535), max_size=9))
def test_an_info_request_reads_back(name, infos):
    data = client.go(name, infos=tuple(infos))[16:]
    assert protocol.unpack_info_request(data) == (name, tuple(infos))


@given(names, st.lists(names, max_size=protocol.QUERIES_MAX))
def test_a_meta_request_reads_back(name, queries):
    data = client.meta(name, *queries)[16:]
    assert protocol.unpack_meta_request(data) == (name, tuple(queries))


@given(st.binary(max_size=80))
def test_any_option_data_is_a_value_or_malformed(data):
    for unpack in (
        protocol.unpack_info_request, protocol.unpack_meta_request, protocol.unpack_name,
    ):  # fmt: skip
        with contextlib.suppress(MalformedOptionError):
            unpack(data)


@given(names, st.integers(0, 30), st.binary(max_size=4))
def test_a_request_cut_or_grown_anywhere_is_malformed(name, cut, more):
    whole = client.go(name, infos=(3,))[16:]
    for data in (whole[: len(whole) - 1 - cut], whole + b"\0" + more):
        with pytest.raises(MalformedOptionError):
            protocol.unpack_info_request(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a" * 4097, "over 4096"),
        (b"a\0b", "NUL"),
        (b"\xff", "UTF-8"),
    ],
)
def test_what_is_no_name_is_told_so(data, words):
    with pytest.raises(MalformedOptionError, match=words):
        protocol.unpack_name(data)


def test_more_queries_than_allowed_are_refused():
    data = client.meta("", *["base:"] * (protocol.QUERIES_MAX + 1))[16:]
    with pytest.raises(MalformedOptionError, match="65 queries"):
        protocol.unpack_meta_request(data)


@given(st.binary(min_size=16, max_size=16))
def test_only_an_option_begins_an_option(data):
    found = protocol.unpack_option_header(data)
    assert (found is not None) == data.startswith(b"IHAVEOPT")


def test_an_option_header_reads_back():
    assert protocol.unpack_option_header(client.option(7, b"abc")[:16]) == (7, 3)


@given(st.integers(0, 65535), st.integers(0, 65535), u64, u64, u32)
def test_a_request_reads_back(command, flags, cookie, offset, length):
    data = client.request(command, offset, length, cookie=cookie, flags=flags)
    assert protocol.unpack_request(data) == Request(command, flags, cookie, offset, length)
    assert protocol.unpack_request(b"\0" + data[1:]) is None


@given(u32, st.binary(max_size=20))
def test_option_replies_read_back(number, data):
    feed = Feed(protocol.option_reply(number, OptionReply.ERR_UNSUP, data))
    assert feed.option_reply() == (number, 0x80000001, data)
    assert not feed.data


def test_facts_of_an_export_have_their_sizes():
    assert protocol.info_export(5, 3) == struct.pack(">HQH", 0, 5, 3)
    assert protocol.info_block_size(512) == struct.pack(">HIII", 3, 1, 4096, 32 << 20)
    assert protocol.info_block_size(65536)[6:10] == struct.pack(">I", 65536)
    assert protocol.info_text(Info.DESCRIPTION, "é") == b"\0\x02\xc3\xa9"
    assert protocol.server_entry("ab", "c") == b"\0\0\0\x02abc"
    assert protocol.meta_context(1, "base:allocation") == b"\0\0\0\x01base:allocation"
    assert protocol.export_name_reply(9, 1, has_zeroes=False) == struct.pack(">QH", 9, 1)
    assert len(protocol.export_name_reply(9, 1, has_zeroes=True)) == 134


@given(st.text(max_size=6000))
def test_a_text_for_people_fits_and_is_utf8(text):
    data = protocol.clipped(text)
    assert len(data) <= 4096
    assert text.encode(errors="replace").startswith(data)
    data.decode()


@given(u64, st.integers(0, 2**32), st.binary(min_size=1, max_size=50))
def test_chunks_read_back(cookie, offset, data):
    size = len(data) + 7
    feed = Feed(
        protocol.data_chunk(cookie, offset, len(data), is_last=False)
        + data
        + protocol.hole_chunk(cookie, offset + len(data), 7, is_last=True)
    )
    reply = feed.structured_reply(offset, size)
    assert (reply.cookie, reply.content, reply.chunks) == (cookie, data + bytes(7), 2)
    assert reply.holes == [(offset + len(data), 7)]


@given(u64, st.lists(st.tuples(st.integers(1, 2**32 - 1), st.integers(0, 3)), min_size=1))
def test_block_status_reads_back(cookie, extents):
    reply = Feed(protocol.status_chunk(cookie, extents)).structured_reply()
    assert (reply.cookie, reply.extents) == (cookie, extents)


@pytest.mark.parametrize("offset", [None, 77])
def test_errors_read_back(offset):
    data = protocol.error_reply(4, 5, "broken", structured=True, offset=offset)
    reply = Feed(data).structured_reply()
    assert (reply.cookie, reply.error, reply.message) == (4, 5, "broken")
    assert data.endswith(struct.pack(">Q", 77)) == (offset is not None)
    simple = Feed(protocol.error_reply(4, 5, "broken", structured=False)).simple_reply()
    assert (simple.cookie, simple.error) == (4, 5)


def test_successes_read_back():
    assert Feed(protocol.success_reply(8, structured=False)).simple_reply().cookie == 8
    assert Feed(protocol.success_reply(8, structured=True)).structured_reply().cookie == 8
