"""The record of snapshots and claims: what changes in it, and its file."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from blocksnapd.cycle import claims
from blocksnapd.cycle.claims import Claim, Held, Record
from blocksnapd.errors import StateError

TIME = datetime(2026, 11, 23, 12, tzinfo=UTC)
RECORD = Record(
    "uuid",
    held=(Held("s1", TIME), Held("s2", TIME, "application")),
    lanes={
        "a": (Claim("p1", "s1", owed="owed-1", is_exact=False), Claim("p2", "s2")),
        "b": (Claim("q1", "s1"),),
    },
)


def test_what_is_packed_comes_back() -> None:
    assert claims.unpack(claims.pack(RECORD)) == RECORD


@pytest.mark.parametrize("at", [0, 5, 40, -5])
def test_a_damaged_file_is_none(at: int) -> None:
    data = bytearray(claims.pack(RECORD))
    data[at] ^= 1
    with pytest.raises(StateError):
        claims.unpack(bytes(data))
    with pytest.raises(StateError):
        claims.unpack(claims.pack_line(b'{"held": 3}'))


def test_looking_things_up() -> None:
    assert RECORD.find("a", "p2") == Claim("p2", "s2")
    assert RECORD.find("b", "p2") is None
    assert RECORD.find("c", "p1") is None
    assert [c.point_id for c in RECORD.claims("s1")] == ["p1", "q1"]
    assert RECORD.files() == {"owed-1"}


def test_a_claim_takes_the_place_of_the_one_before_it() -> None:
    found = claims.with_claim(RECORD, "a", Claim("p1", "s2"))
    assert found.lanes["a"] == (Claim("p2", "s2"), Claim("p1", "s2"))
    assert claims.without_claim(found, "a", "p2").lanes["a"] == (Claim("p1", "s2"),)


def test_snapshots_keep_their_order() -> None:
    noted = msgspec.structs.replace(RECORD.held[0], consistency="application")
    assert claims.with_held(RECORD, noted).held == (noted, RECORD.held[1])
    new = Held("s3", TIME)
    assert claims.with_held(RECORD, new).held == (*RECORD.held, new)


def test_what_is_gone_is_not_claimed() -> None:
    found = claims.only(RECORD, {"s2", "s9"}, ("a",))
    assert found.lanes == {"a": (Claim("p2", "s2"),)}
    assert [h.snapshot_id for h in found.held] == ["s2"]


def test_a_change_of_each_claim() -> None:
    found = claims.changed(RECORD, lambda c: None if c.at == "s1" else c)
    assert found.lanes == {"a": (Claim("p2", "s2"),), "b": ()}
