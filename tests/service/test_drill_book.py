"""Evidence of drills, kept over years and crashes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.errors import StateError
from blocksnapd.service.drill_book import DrillBook
from tests.control.test_drill_messages import evidence

if TYPE_CHECKING:
    from pathlib import Path


def of(number: int, year: int = 2026, **changes: Any) -> Any:
    return evidence(id=f"d-{number:08x}", ended=f"{year}-11-23T01:{number:02}:00.000Z", **changes)


def ids(found: list[Any]) -> list[str]:
    return [drill["id"][-1] for drill in found]


def test_what_is_kept_comes_back_in_order(tmp_path: Path) -> None:
    book = DrillBook(str(tmp_path / "drills"))
    assert book.drills() == []
    for drill in (of(3), of(1, 2025), of(2, volume="vg0/mail"), of(4)):
        book.keep(drill)
    assert ids(book.drills()) == ["1", "2", "3", "4"]
    assert ids(book.drills("vg0/home")) == ["1", "3", "4"]
    assert ids(book.drills(None, 1_795_396_200.0 - 7 * 60)) == ["3", "4"]
    again = DrillBook(str(tmp_path / "drills"))
    assert again.drills()[2] == of(3)
    assert (tmp_path / "drills" / "2026.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_torn_line_hides_no_other(tmp_path: Path) -> None:
    book = DrillBook(str(tmp_path))
    book.keep(of(1))
    with open(tmp_path / "2026.jsonl", "ab") as file:
        file.write(json.dumps(of(2)).encode()[:100])
    assert ids(book.drills()) == ["1"]
    book.keep(of(3))
    assert ids(book.drills()) == ["1", "3"]


def test_what_is_no_evidence_is_left_out(tmp_path: Path) -> None:
    book = DrillBook(str(tmp_path))
    (tmp_path / "2026.jsonl").write_bytes(b"\xff\n{}\n[]\n" + b"x" * 600_000 + b"\n")
    (tmp_path / "notes.txt").write_text("x")
    book.keep(of(1))
    assert ids(book.drills()) == ["1"]


def test_of_very_many_the_newest_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocksnapd.service.drill_book.SHOWN_MAX", 2)
    book = DrillBook(str(tmp_path))
    for number in (1, 2, 3):
        book.keep(of(number))
    assert ids(book.drills()) == ["2", "3"]


def test_a_place_that_cannot_be_written_is_told() -> None:
    with pytest.raises(StateError, match="could not be kept"):
        DrillBook("/proc/none").keep(of(1))
