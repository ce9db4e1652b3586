"""Past runs: kept over restarts, bounded, and hostile to nobody when the file is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.run_history import RunHistory
from blocksnapd.service.runs import RunAnswers, RunBook

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from blocksnapd.control.messages import Run


def a_run(number: int, volume: str = "v") -> Run:
    return {"schema": 1, "id": f"r{number:08x}", "volume": volume, "state": "done",
            "kind": "cycle", "result": "success", "started": None, "queued": ""}  # fmt: skip


def ids(runs: list[Run]) -> list[int]:
    return [int(run["id"][1:], 16) for run in runs]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.jsonl")
    history = RunHistory(path, kept_max=5)
    for number in range(23):
        history.keep(a_run(number))
        kept = ids(RunHistory(path, kept_max=5).load())
        assert kept == list(range(max(0, number - 4), number + 1))
    assert (tmp_path / "runs.jsonl").read_bytes().count(b"\n") <= 10


@settings(deadline=None)  # it syncs
@given(cut=st.integers(0, 400), more=st.binary(max_size=60))
def test_a_damaged_file_costs_what_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, cut: int, more: bytes
) -> None:
    """Whatever a crash left: what is whole is there, and so is the next run."""
    path = tmp_path_factory.mktemp("history") / "runs.jsonl"
    history = RunHistory(str(path))
    for number in range(3):
        history.keep(a_run(number))
    path.write_bytes(path.read_bytes()[:cut] + more)
    whole = path.read_bytes()[:cut].count(b"\n")
    again = RunHistory(str(path))
    assert ids(again.load())[:whole] == list(range(whole))
    again.keep(a_run(7))
    assert ids(RunHistory(str(path)).load())[-1] == 7
    assert ids(RunHistory(str(path)).load())[:whole] == list(range(whole))


def test_a_disk_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = RunHistory(str(tmp_path))  # a directory
    assert history.load() == []
    history.keep(a_run(1))
    assert "will not be known after a restart" in caplog.text


async def test_they_are_told_like_others(tmp_path: Path) -> None:
    """After a restart: listed behind the new ones, shown, waited for and followed."""
    path = str(tmp_path / "runs.jsonl")
    first = RunHistory(path)
    book = RunBook(ManualClock(), ended=first.note)
    run = book.queue("cycle", "v")
    book.start(run)
    book.finish(run, "success")
    other = book.queue("cycle", "w")
    book.finish(other, "cancelled")
    await first.flush()
    again = RunBook(ManualClock(), past=RunHistory(path).load())
    new = again.queue("cycle", "v")
    answers = RunAnswers(again)
    assert [r["id"] for r in await answers.runs(None)] == [new.run_id, other.run_id, run.run_id]
    assert [r["id"] for r in await answers.runs("v")] == [new.run_id, run.run_id]
    told = await answers.run(run.run_id)
    assert told == run.message()
    assert await answers.wait_run(run.run_id, 10.0) == told
    assert [r async for r in answers.follow_run(run.run_id)] == [told]
    assert await answers.cancel_run(run.run_id, cast("dict[str, int]", {})) == told  # type: ignore[arg-type]
    assert again.last("v") is None  # what status shows is of this daemon's life
