"""A point's bytes: all fields come back; any bytes give a point or a documented error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import FormatError, RepositoryFormatError
from blocksnapd.store.clear import PREFIX_SIZE, pack_clear
from blocksnapd.store.keys import new_keys
from blocksnapd.store.layers import pack_places
from blocksnapd.store.point_format import (
    MAGIC,
    Body,
    Header,
    PackRef,
    ProofRecord,
    from_us,
    open_body,
    pack_point,
    read_body,
    to_us,
    unpack_header,
    unpack_point,
)
from blocksnapd.store.point_span import PointTables
from blocksnapd.store.runs import Runs
from blocksnapd.store.tables import pack_table
from tests.store.walking import check_layer

KEYS = new_keys("0123456789abcdef" * 2)
ID = KEYS.source.repository_id
text = st.text(max_size=12)
u63 = st.integers(0, 2**63 - 1)
FIRST = Header(
    repository_id=ID, volume_id="v", seq=1, point_id="p" + "0" * 16, prev_name="", prev_digest="",
    kind="full", time_us=1, size=1 << 45, block_size=4096, state_sum="0" * 32,
)  # fmt: skip
refs = st.builds(
    PackRef, text, st.integers(1000, 2000), text, st.integers(229, 999), text, st.integers(1, 2**20)
)
bodies = st.builds(
    Body, text, st.sampled_from(["first", "tracked", "compare"]), text, text, text,
    st.lists(text, max_size=3), u63, u63, u63,
    st.builds(ProofRecord, u63, u63, st.lists(st.tuples(u63, u63), max_size=3)),
    st.lists(refs, max_size=3), st.just([]), st.just([]),
)  # fmt: skip


def seal(header: Header, body: Body, inline: bytes = b"") -> bytes:
    return pack_point(
        header, body, [inline], metadata_public=KEYS.source.metadata_public,
        hash_key=KEYS.source.hash_key,
    )  # fmt: skip


@settings(max_examples=40)
@given(bodies, st.binary(max_size=50))
def test_a_point_comes_back(body, inline):
    data = seal(FIRST, body, inline)
    found = unpack_point(data, FIRST.name, ID, KEYS.source.hash_key)
    assert open_body(found, KEYS.metadata_private) == body
    assert msgspec.structs.replace(found.header, body_size=0, inline_size=0) == FIRST
    assert data[found.inline_at : found.inline_at + len(inline)] == inline
    assert unpack_header(data[: PREFIX_SIZE + 400], FIRST.name, ID)[0] == found.header


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)))
def test_times_come_back_to_the_microsecond(time):
    time = time.replace(tzinfo=UTC)
    assert from_us(to_us(time)) == time


def test_times_of_other_zones_are_the_same_instant():
    from datetime import timezone

    time = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    assert from_us(to_us(time)) == time


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 2},
        {"volume_id": "w"},
        {"point_id": "p" + "1" * 16},
        {"repository_id": "f" * 32},
        {"kind": "delta"},
        {"prev_name": "x"},
        {"block_size": 5000},
        {"block_size": 0},
        {"size": -1},
        {"size": 1 << 63},
        {"time_us": 1 << 62},
        {"time_us": -1},
        {"body_size": -1},
        {"inline_size": 1 << 40},
        {"state_sum": "x" * 32},
        {"state_sum": "0" * 31},
    ],
)
def test_a_header_that_cannot_be_is_refused(change):
    header = msgspec.structs.replace(FIRST, **change)
    with pytest.raises(RepositoryFormatError):
        unpack_header(pack_clear(MAGIC, header), FIRST.name, ID)


def test_a_delta_follows_the_point_before_it():
    before = FIRST.name
    good = msgspec.structs.replace(FIRST, seq=2, kind="delta", prev_name=before)
    assert unpack_header(pack_clear(MAGIC, good), good.name, ID)[0] == good
    for prev in ("", before.replace("v/v/", "v/w/"), before.replace("0001-", "0007-")):
        header = msgspec.structs.replace(good, prev_name=prev)
        with pytest.raises(RepositoryFormatError):
            unpack_header(pack_clear(MAGIC, header), header.name, ID)


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data):
    for junk in (data, b"BSNPOINT" + data, b"BSNPOINT\1\0\0\0" + data):
        with pytest.raises(FormatError):
            unpack_point(junk, FIRST.name, ID, KEYS.source.hash_key)
        with pytest.raises(FormatError):
            unpack_header(junk, FIRST.name, ID)


@settings(max_examples=200)
@given(st.data())
def test_a_cut_or_changed_header_gives_a_header_or_a_documented_error(data):
    clear = bytearray(pack_clear(MAGIC, FIRST))
    for _ in range(data.draw(st.integers(1, 3))):
        clear[data.draw(st.integers(0, len(clear) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(clear)))
    for damaged in (bytes(clear), bytes(clear[:cut])):
        try:
            header, _ = unpack_header(damaged, FIRST.name, ID)
        except FormatError:
            continue
        assert header.name == FIRST.name


columns = st.binary(max_size=20) | st.just(b"\0")
parts = st.fixed_dictionaries(
    {"n": st.integers(-1, 70_000), "first": st.integers(0, 2**64 - 1), "gaps": columns,
     "lengths": columns, "locations": columns}
)  # fmt: skip
raw_bodies = st.fixed_dictionaries(
    {
        "volume_name": text, "method": st.sampled_from(["first", "other"]), "driver": text,
        "consistency": text, "reason": text, "tags": st.lists(text, max_size=2),
        "chunk_size": st.integers(-1, 2**64 - 1), "changed_bytes": u63, "shipped_bytes": u63,
        "proof": st.just({}) | st.just({"ranges": [[1, 2]]}) | st.just({"ranges": [1]}),
        "packs": st.lists(
            st.fixed_dictionaries(
                {"name": text, "size": st.integers(-1, 2**64 - 1), "digest": text,
                 "tail_size": st.integers(-1, 2**33), "tail_digest": text,
                 "blocks": st.integers(-1, 2**33)}
            ), max_size=2,
        ),
        "data": st.lists(parts, max_size=2), "zeros": st.lists(parts, max_size=2),
        "unknown": text,
    }
)  # fmt: skip


@settings(max_examples=200)
@given(st.binary(max_size=100) | raw_bodies.map(msgspec.msgpack.encode))
def test_any_body_gives_a_sound_layer_or_a_documented_error(plain):
    """What a holder of source.key could forge: it opens, and must not harm the reader."""
    try:
        body = read_body(plain, "x")
        pack_places(FIRST, body, 0)
    except RepositoryFormatError:
        return
    try:
        PointTables(FIRST, body).check()
    except RepositoryFormatError:
        with pytest.raises(RepositoryFormatError):
            check_layer(FIRST, body)
        return
    layer = check_layer(FIRST, body)
    assert layer.runs.blocks <= layer.blocks


def test_layers_that_overlap_or_pass_the_end_are_refused():
    def body(data: Runs, zeros: Runs) -> Body:
        return Body(
            "", "first", "", "", "", [], 0, 0, 0, ProofRecord(),
            [PackRef("p", 10_000, "", 300, "", 50)], pack_table(data, located=True),
            pack_table(zeros, located=False),
        )  # fmt: skip

    def runs(start: int, length: int) -> Runs:
        return Runs(*(np.array([n], dtype=np.uint64) for n in (start, length, 0)))

    header = msgspec.structs.replace(FIRST, size=100 * 4096 - 1)
    PointTables(header, body(runs(0, 50), runs(50, 50))).check()
    for data, zeros in [
        (runs(0, 50), runs(49, 1)),
        (runs(49, 10), runs(0, 50)),
        (runs(0, 10), runs(5, 2)),
        (runs(60, 41), Runs.empty()),
        (Runs.empty(), runs(100, 1)),
        (Runs.empty(), runs(0, 2**63)),
        (runs(0, 51), Runs.empty()),
    ]:
        with pytest.raises(RepositoryFormatError):
            PointTables(header, body(data, zeros)).check()


def test_an_inline_pack_must_be_named():
    body = Body("", "first", "", "", "", [], 0, 0, 0, ProofRecord(), [], [], [])
    header = msgspec.structs.replace(FIRST, inline_size=10)
    with pytest.raises(RepositoryFormatError, match="does not name"):
        pack_places(header, body, 0)
