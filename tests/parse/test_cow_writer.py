"""What is written as a COW device, the parser reads; a real kernel does in tests.lab."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import CowFormatError, HostError
from blocksnapd.parse import cow_format, cow_writer
from blocksnapd.parse.cow_device import CowDevice
from blocksnapd.parse.cow_writer import CowWriter, area_of

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 4096
runs = st.lists(
    st.tuples(st.integers(1, 40), st.one_of(st.integers(1, 9), st.integers(250, 260))),
    min_size=0, max_size=8,
)  # fmt: skip


def content_of(chunk: int) -> bytes:
    return (chunk % 251 + 1).to_bytes(1, "little") * CHUNK


def as_runs(drawn: list[tuple[int, int]], at: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return runs with drawn gaps and lengths from chunk ``at`` on, and where they end."""
    starts, lengths = [], []
    for gap, length in drawn:
        starts.append(at + gap)
        lengths.append(length)
        at += gap + length
    return np.array(starts, np.uint64), np.array(lengths, np.uint64), at


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(runs, max_size=4), st.randoms(use_true_random=False))
def test_the_parser_reads_what_was_written(tmp_path, monkeypatch, parts, dice) -> None:
    monkeypatch.setattr(cow_writer, "STEP_CHUNKS", 77)
    path = str(tmp_path / f"cow-{os.urandom(6).hex()}")
    total = sum(length for part in parts for _, length in part)
    size, at, wanted = cow_format.bytes_needed(total, CHUNK), 0, {}
    with CowWriter(path, chunk_size=CHUNK, size=size) as writer:
        for part in parts:
            starts, lengths, at = as_runs(part, at)
            writer.begin(starts, lengths)
            chunks = [c for s, n in zip(starts.tolist(), lengths.tolist(), strict=True)
                      for c in range(s, s + n)]  # fmt: skip
            shown = [chunk for chunk in chunks if dice.random() < 0.8]
            wanted |= {c: content_of(c) if c in set(shown) else bytes(CHUNK) for c in chunks}
            dice.shuffle(shown)
            for low in range(0, len(shown), 30):
                piece = shown[low : low + 30]
                data = b"".join(map(content_of, piece))
                writer.write(np.array(piece, np.uint64), memoryview(data))
        assert writer.count == total
        writer.finish()
    with CowDevice(path) as device:
        table = device.table(origin_size=(at + 1) * CHUNK, entries_max=total)
        assert table.old.tolist() == sorted(wanted)
        view = memoryview(bytearray(CHUNK))
        for old, new in zip(table.old.tolist(), table.new.tolist(), strict=True):
            device.read_into(new * CHUNK, view)
            assert view == wanted[old]
        assert device.size == size
    os.unlink(path)


@pytest.mark.parametrize("chunk_size", [4096, 65536, 524288])
def test_worked_numbers(chunk_size: int) -> None:
    per_area = chunk_size // 16
    for index in (0, per_area - 1, per_area, 3 * per_area + 5):
        assert area_of(cow_format.data_chunk(index, chunk_size), chunk_size) == index // per_area


def test_before_its_end_it_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "cow")
    with CowWriter(path, chunk_size=CHUNK, size=20 * CHUNK) as writer:
        writer.begin(np.array([3], np.uint64), np.array([2], np.uint64))
        writer.write(np.array([3], np.uint64), memoryview(content_of(3)))
    with CowDevice(path) as device, pytest.raises(CowFormatError):
        device.header()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_what_does_not_fit_or_was_not_begun(tmp_path: Path) -> None:
    path = str(tmp_path / "cow")
    one = np.array([1], np.uint64)
    with CowWriter(path, chunk_size=CHUNK, size=4 * CHUNK) as writer:
        with pytest.raises(ValueError, match="not in the table"):
            writer.write(one, memoryview(bytes(CHUNK)))
        writer.begin(one, one)
        for chunk in (0, 2):
            with pytest.raises(ValueError, match="not in the table"):
                writer.write(np.array([chunk], np.uint64), memoryview(bytes(CHUNK)))
        with pytest.raises(ValueError, match="do not fit"):
            writer.begin(np.array([7], np.uint64), np.array([2], np.uint64))
    with pytest.raises(HostError, match="opening: File exists"):
        CowWriter(path, chunk_size=CHUNK, size=4 * CHUNK)
