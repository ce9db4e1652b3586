"""The journal of a restore: what is read back of it, whatever became of the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.restore.journal import RUNS_MAX, Batch, Journal

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {"point": "p1", "size": 4096}


def batch(*runs: tuple[int, int], content_sum: int = 1) -> Batch:
    columns = np.array(runs, np.uint64).reshape(-1, 2)
    return Batch(columns[:, 0], columns[:, 1], content_sum)


def plain(batches: list[Batch]) -> list[tuple[list[tuple[int, int]], int]]:
    return [
        (list(zip(b.starts.tolist(), b.lengths.tolist(), strict=True)), b.content_sum)
        for b in batches
    ]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def test_what_was_added_is_read(path: str) -> None:
    journal = Journal(path, ABOUT)
    assert journal.read() == []
    journal.start([batch()])
    journal.add(batch((0, 3), (7, 1), content_sum=(1 << 128) - 1))
    journal.add(batch((9, 1)))
    wanted = [([], 1), ([(0, 3), (7, 1)], (1 << 128) - 1), ([(9, 1)], 1)]
    assert plain(Journal(path, dict(reversed(ABOUT.items()))).read()) == wanted
    assert os.stat(path).st_mode & 0o777 == 0o600
    journal.start([batch((1, 1))])
    assert plain(journal.read()) == [([(1, 1)], 1)]
    journal.remove()
    journal.remove()
    assert journal.read() == []


def test_one_about_something_else_is_none(path: str) -> None:
    Journal(path, {**ABOUT, "point": "p2"}).start([batch((0, 1))])
    assert Journal(path, ABOUT).read() == []
    Journal(path, {**ABOUT, "size": 4097}).start([batch((0, 1))])
    assert Journal(path, ABOUT).read() == []


def test_a_link_or_a_pipe_of_that_name_is_not_followed(path: str, tmp_path: Path) -> None:
    """As root in a directory of somebody else: nothing but the name itself is touched."""
    other = tmp_path / "precious"
    Journal(str(other), ABOUT).start([batch((0, 1))])
    before = other.read_bytes()
    os.symlink(other, path)
    journal = Journal(path, ABOUT)
    assert journal.read() == []
    journal.start()
    journal.add(batch((5, 5)))
    assert other.read_bytes() == before
    assert not os.path.islink(path)
    os.unlink(path)
    os.mkfifo(path)
    assert journal.read() == []


@pytest.mark.parametrize(
    "runs", [[(1, 0)], [(5, 2), (3, 1)], [(1, 3), (3, 1)], [(1 << 48, 1)], [(0, 1 << 63)]]
)
def test_runs_that_cannot_be_end_it(runs: list[tuple[int, int]], path: str) -> None:
    journal = Journal(path, ABOUT)
    journal.start([batch((0, 1)), batch(*runs), batch((9, 1))])
    assert plain(journal.read()) == [([(0, 1)], 1)]


def test_a_count_out_of_all_bounds_is_not_read(path: str) -> None:
    journal = Journal(path, ABOUT)
    journal.start([batch((0, 1))])
    with open(path, "ab") as file:
        file.write(bytes(8) + (RUNS_MAX + 1).to_bytes(4, "little") + bytes(16))
    assert len(journal.read()) == 1


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_became_of_it_only_whole_batches_count(path: str, data: st.DataObject) -> None:
    journal = Journal(path, ABOUT)
    batches = [batch((n, 1), (n + 5, 2), content_sum=n) for n in range(5)]
    journal.start(batches)
    with open(path, "rb") as file:
        content = bytearray(file.read())
    head = content.index(b"\n") + 1
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    with open(path, "wb") as file:
        file.write(content)
    found = plain(journal.read())
    assert found == plain(batches)[: len(found)]
    if at >= head:
        assert len(found) == (at - head) // len(batches[0].pack())
