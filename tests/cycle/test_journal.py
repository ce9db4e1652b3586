from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.cycle.journal import Journal, Pending, Record, pack, unpack
from blocksnapd.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

TIME = datetime(2026, 11, 22, 14, 5, tzinfo=UTC)
RECORD = Record("id", "vg0/home", Pending("p0123456789abcdef", TIME, ("manual",), 0.25))


def test_round_trip() -> None:
    assert unpack(pack(RECORD)) == RECORD


@given(st.binary(max_size=300))
def test_any_bytes_give_a_record_or_the_documented_error(data: bytes) -> None:
    with pytest.raises(StateError):
        unpack(data)


@given(st.integers(0, len(pack(RECORD)) - 2), st.integers(1, 255))
def test_every_flipped_byte_is_found(at: int, change: int) -> None:
    damaged = bytearray(pack(RECORD))
    damaged[at] ^= change
    with pytest.raises(StateError):
        unpack(bytes(damaged))


def open_in(path: Path, volume_id: str = "id") -> Journal:
    return Journal.open(str(path), volume_id=volume_id, volume_name="vg0/home")


def test_what_was_begun_is_there_after_a_restart(tmp_path: Path) -> None:
    open_in(tmp_path).begin(Pending("p1", TIME))
    assert open_in(tmp_path).record.pending == Pending("p1", TIME)
    open_in(tmp_path).end()
    assert open_in(tmp_path).record.pending is None


def test_another_volume_starts_an_empty_journal(tmp_path: Path) -> None:
    open_in(tmp_path).begin(Pending("p1", TIME))
    assert open_in(tmp_path, "another").record == Record("another", "vg0/home")


def test_a_write_that_fails_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_in(tmp_path)
    journal.begin(Pending("p1", TIME))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        journal.begin(Pending("p2", TIME))
    assert journal.record.pending == Pending("p1", TIME)
    assert open_in(tmp_path).record.pending == Pending("p1", TIME)
