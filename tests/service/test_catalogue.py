"""What a host remembers of its points, beside what the repository's clear headers say."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from blocksnapd.model import PointFacts, Proof, RestorePoint
from blocksnapd.runtime import durable
from blocksnapd.service.catalogue import Catalogue, with_suspects
from blocksnapd.store.names import point_name
from tests.service.bench import outline

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.store.outline import PointOutline

FACTS = PointFacts(
    volume_id="v1", volume_name="vg0/home", point_id="p0000000000000001",
    time=datetime(2026, 11, 22, 14, 5, 0, 123456, tzinfo=UTC), size=1 << 20, block_size=4096,
    kind="full", method="first", driver="lvm", consistency="crash", chunk_size=4096,
    changed_bytes=8192, state_sum=7, reason="first", tags=("release-7",),
)  # fmt: skip


def point(seq: int, **facts: object) -> RestorePoint:
    found = replace(FACTS, point_id=f"p{seq:016x}", **facts)  # type: ignore[arg-type]
    return RestorePoint(found, seq, f"n{seq}", f"d{seq}", "", "", 8192, 4000)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(str(tmp_path), "vg0/home", "near")


async def load(catalogue: Catalogue, *seqs: int, is_cut: bool = False) -> list[int]:
    """Let the repository have these points; return which of them had to be read."""
    names = {point_name("v1", seq, f"p{seq:016x}"): seq for seq in seqs}
    read: list[int] = []

    def read_outline(name: str) -> PointOutline:
        read.append(names[name])
        return outline(point(names[name]).head)

    await catalogue.load(list(names), read_outline, is_cut=is_cut)
    return read


async def test_what_was_added_is_known_after_a_restart(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    for seq in (1, 2):
        catalogue.add(point(seq))
    newest = catalogue.newest()
    assert newest is not None
    assert newest["time"] == "2026-11-22T14:05:00.123Z"
    assert (newest["tags"], newest["stored_bytes"]) == (["release-7"], 4000)
    again = Catalogue(str(tmp_path), "vg0/home", "near")
    assert await load(again, 2, 1) == [], "what is remembered whole is not read"
    assert again.points() == catalogue.points()


async def test_the_repository_decides_which_points_there_are(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    """A point that is gone there is gone here; one made elsewhere shows its outline."""
    for seq in (1, 2):
        catalogue.add(point(seq))
    again = Catalogue(str(tmp_path), "vg0/home", "near")
    assert await load(again, 2, 3) == [3]
    assert [p["seq"] for p in again.points()] == [2, 3]
    stranger = again.points()[1]
    assert stranger["size"] == 1 << 20
    assert "changed_bytes" not in stranger
    await load(again)
    assert (again.points(), again.newest()) == ([], None)


async def test_torn_and_strange_lines_cost_details_and_nothing_else(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue.add(point(1))
    lie = {"id": point(2).facts.point_id, "seq": 99, "time": "yesterday", "tags": ["kept"]}
    durable.append(
        str(tmp_path / "points.jsonl"),
        b'[]\n"x"\n{"id": []}\n{"no": "id"}\n\xff\xfe\n'
        + json.dumps(lie).encode()
        + b'\n{"id": "p3", "ti',
    )
    again = Catalogue(str(tmp_path), "vg0/home", "near")
    await load(again, 1, 2)
    assert again.points()[0] == catalogue.points()[0]
    second = again.points()[1]
    assert (second["seq"], second["time"]) == (2, "2026-11-22T14:05:00.123Z")
    assert second["tags"] == ["kept"]


def test_a_point_is_suspect_when_the_next_ones_proof_says_so(catalogue: Catalogue) -> None:
    catalogue.add(point(1))
    catalogue.add(point(2))
    catalogue.add(point(3, proof=Proof(10, 1, ((0, 4096),))))
    assert [p.get("suspect", False) for p in catalogue.points()] == [False, True, False]
    assert with_suspects([]) == []


def test_a_disk_that_fails_loses_no_point_in_memory(tmp_path: Path) -> None:
    catalogue = Catalogue(str(tmp_path / "gone"), "vg0/home", "near")
    with pytest.raises(OSError, match="No such file"):
        catalogue.add(point(1))
    assert [p["seq"] for p in catalogue.points()] == [1]
    assert not os.path.exists(tmp_path / "gone")


async def test_what_a_receiver_does_not_show_is_remembered(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    for seq in range(1, 6):
        catalogue.add(point(seq))
    durable.append(str(tmp_path / "points.jsonl"), b'{"id": "p9", "seq": "9"}\n{"id": "p8"}\n')
    again = Catalogue(str(tmp_path), "vg0/renamed", "far")
    assert await load(again, 4, 6, is_cut=True) == [6]
    assert [p["seq"] for p in again.points()] == [1, 2, 3, 4, 6]
    assert {(p["volume"], p["target"]) for p in again.points()} == {("vg0/renamed", "far")}
    await load(again, 4, 6)
    assert [p["seq"] for p in again.points()] == [4, 6]
    await load(again, is_cut=True)
    assert again.points() == [], "another repository"


async def test_points_of_another_repository_are_not_taken_for_older_ones(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    """The volume was shipped elsewhere before, or one of its name was made anew: places repeat."""
    for number, seq in enumerate([1, 2, 3, 4, 5, 1, 2, 3, 4]):
        made = point(seq)
        facts = replace(made.facts, point_id=f"p{number:016x}")
        catalogue.add(replace(made, facts=facts))
    again = Catalogue(str(tmp_path), "vg0/home", "near")
    names = [point_name("v1", seq, f"p{seq + 4:016x}") for seq in (3, 4)]
    await again.load(names, lambda _: None, is_cut=True)
    assert [(p["seq"], p["id"]) for p in again.points()] == [
        (seq, f"p{seq + 4:016x}") for seq in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("seq", "said"),
    [(3, ""), (2, "shows an older state"), (1, "shows an older state"), (4, "somebody else has")],
)
def test_a_point_that_does_not_follow_what_is_known_is_a_surprise(catalogue, seq, said) -> None:
    assert catalogue.surprise(point(seq)) == ""  # nothing is known yet
    for known in (1, 2):
        catalogue.add(point(known))
    told = catalogue.surprise(point(seq))
    assert said in told
    assert bool(told) == bool(said)
