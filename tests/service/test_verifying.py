"""What a verification tells: each damaged object, each point it harms, and where."""

from __future__ import annotations

import functools

import pytest

from blocksnapd.errors import CancelledRunError, ChecksumError, StoreError
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service import verifying
from blocksnapd.service.runs import LiveRun, RunBook
from blocksnapd.service.verifying import Verifying
from tests.maintain.support import flipped, history_lab, packs
from tests.store.support import VOLUME, Lab


@pytest.fixture
def lab(monkeypatch) -> Lab:
    return history_lab(monkeypatch)


@pytest.fixture
def run() -> LiveRun:
    return RunBook(ManualClock()).queue("verify", "")


def verifying_of(lab: Lab, run: LiveRun, *, cancelled: bool = False) -> Verifying:
    runs_of = functools.partial(VerifyRuns, lab.store, lab.keys)
    return Verifying(lab.reader, runs_of, run, lambda: cancelled)


def test_whole_volumes(lab, run):
    verifying_of(lab, run).volumes([VOLUME], share=1, now_us=1)
    assert run.reason == "8 points whole, 151 blocks read"
    assert run.warnings == []
    assert run.done_bytes == run.expected_bytes > 0
    verifying_of(lab, run).volumes([VOLUME], share=0, now_us=1)
    assert run.reason == "8 points whole, 0 blocks read"


def test_damage_names_the_object_and_each_point(lab, run):
    name = packs(lab)[0]
    lab.store.objects[name] = flipped(lab.store.objects[name], 70_000)
    with pytest.raises(ChecksumError, match="6 problems found in 8 points"):
        verifying_of(lab, run).volumes([VOLUME], share=1, now_us=1)
    assert run.warnings[0].startswith(f"{name}: frame 1")
    assert run.warnings[1] == ("p0000000000000001: 64.0 KiB cannot be restored: bytes 81920-147456")
    assert "86016-122880, 131072-147456" in run.warnings[3]
    assert len(run.warnings) == 6
    with pytest.raises(ChecksumError, match="1 problem found in 1 point"):
        verifying_of(lab, run).point(lab.kept[2][0].name)
    assert run.warnings[0].startswith("p0000000000000003: ")
    verifying_of(lab, run).point(lab.kept[7][0].name)
    assert run.warnings == []


def test_much_damage_is_cut(lab, run, monkeypatch):
    monkeypatch.setattr(verifying, "PROBLEMS_MAX", 3)
    for name in packs(lab):
        lab.store.objects[name] = b""
    with pytest.raises(ChecksumError):
        verifying_of(lab, run).volumes([VOLUME], share=1, now_us=1)
    assert len(run.warnings) == 4
    assert run.warnings[-1].startswith("and ")


def test_who_may_only_read_learns_all_the_same(lab, run, monkeypatch):
    def refuse(*_: object) -> int:
        raise StoreError("it may not be written")

    monkeypatch.setattr(lab.store, "put", refuse)
    verifying_of(lab, run).volumes([VOLUME], share=1, now_us=1)
    assert run.warnings == ["What was found could not be recorded: it may not be written"]
    name = packs(lab)[0]
    lab.store.objects[name] = flipped(lab.store.objects[name], 70_000)
    with pytest.raises(ChecksumError):
        verifying_of(lab, run).volumes([VOLUME], share=1, now_us=1)
    assert len(run.warnings) == 7


def test_it_ends_when_it_is_cancelled(lab, run):
    with pytest.raises(CancelledRunError):
        verifying_of(lab, run, cancelled=True).volumes([VOLUME], share=1, now_us=1)
    with pytest.raises(CancelledRunError):
        verifying_of(lab, run, cancelled=True).point(lab.kept[0][0].name)
