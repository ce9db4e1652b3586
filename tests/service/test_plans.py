"""Plans outlive the process that made them, and no longer than they are valid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import NotFoundError
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.prune_guards import Guard
from blocksnapd.maintain.prune_plan import make_plan, with_shares
from blocksnapd.maintain.retention import Candidate, Policy, decide
from blocksnapd.service.plans import KeptPlan, PlanBook

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600 * 10**6
NOW = 20_779 * 24 * HOUR  # 2026-11-22


def kept(now: int = NOW) -> KeptPlan:
    policy = Policy((parse_rule("all for 2h"),), min_points=1)
    points = [Candidate(n, f"p{n}", now - (5 - n) * HOUR) for n in range(1, 6)]
    verdicts = decide(points, policy, now)
    plan = make_plan("vol-1", 7, verdicts, [Guard("idle", "too late")], policy, now)
    return KeptPlan(with_shares(plan, {1: 5, 2: 6}, 11), "vg0/home", "near")


@pytest.fixture
def book(tmp_path: Path) -> PlanBook:
    return PlanBook(str(tmp_path / "plans"))


def test_a_plan_is_found_again_by_the_next_process(book: PlanBook, tmp_path: Path) -> None:
    plan = kept()
    book.keep(plan, now_us=NOW)
    for reader in (book, PlanBook(str(tmp_path / "plans"))):
        assert reader.get(plan.plan.plan_id, now_us=NOW + HOUR // 4) == plan
    assert ((tmp_path / "plans").stat().st_mode & 0o777) == 0o700


def test_an_expired_one_is_not(book: PlanBook, tmp_path: Path) -> None:
    first, second = kept(), kept(NOW + HOUR)
    book.keep(first, now_us=NOW)
    with pytest.raises(NotFoundError, match="or it expired"):
        book.get(first.plan.plan_id, now_us=NOW + HOUR)
    book.keep(second, now_us=NOW + HOUR)
    assert [p.stem for p in (tmp_path / "plans").iterdir()] == [second.plan.plan_id]


@pytest.mark.parametrize("plan_id", ["", "pl-", "pl-1234567g", "../pl-00000000", "pl-00000000"])
def test_what_is_none_is_told(book: PlanBook, plan_id: str) -> None:
    with pytest.raises(NotFoundError, match="there is no plan") as caught:
        book.get(plan_id, now_us=NOW)
    assert "--dry-run" in caught.value.hint


def test_a_torn_or_strange_file_is_no_plan(book: PlanBook, tmp_path: Path) -> None:
    plan = kept()
    book.keep(plan, now_us=NOW)
    (path,) = (tmp_path / "plans").iterdir()
    (tmp_path / "plans" / "notes.txt").write_text("mine")
    again = PlanBook(str(tmp_path / "plans"))
    for data in (path.read_bytes()[:-9], b"{}", b"\xff", b"[" * 100_000):
        path.write_bytes(data)
        with pytest.raises(NotFoundError):
            again.get(plan.plan.plan_id, now_us=NOW)
    again.keep(kept(NOW + 1), now_us=NOW)
    left = sorted(p.name for p in (tmp_path / "plans").iterdir())
    assert left == ["notes.txt", f"{kept(NOW + 1).plan.plan_id}.json"]


@given(data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_anything_else_is_no_plan(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("plans")
    (folder / "pl-00000000.json").write_bytes(data)
    with pytest.raises(NotFoundError):
        PlanBook(str(folder)).get("pl-00000000", now_us=0)


def test_a_plan_of_another_shape_is_none(book: PlanBook, tmp_path: Path) -> None:
    plan = kept()
    book.keep(plan, now_us=NOW)
    (path,) = (tmp_path / "plans").iterdir()
    right = json.loads(path.read_bytes())
    for name in right["plan"]:
        path.write_text(json.dumps(right | {"plan": right["plan"] | {name: {"a": 1}}}))
        with pytest.raises(NotFoundError):
            PlanBook(str(tmp_path / "plans")).get(plan.plan.plan_id, now_us=NOW)


def test_a_place_that_cannot_be_written_costs_only_that(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    book, plan = PlanBook(str(tmp_path / "file" / "plans")), kept()
    book.keep(plan, now_us=NOW)
    assert book.get(plan.plan.plan_id, now_us=NOW) == plan


def test_a_plan_on_the_control_socket() -> None:
    message = kept().message()
    assert (message["volume"], message["target"], message["applied"]) == ("vg0/home", "near", False)
    assert (message["keep"], message["forget"], message["frees_bytes"]) == (3, 2, 11)
    assert message["created"] == "2026-11-22T00:00:00.000Z"
    assert message["expires"] == "2026-11-22T00:15:00.000Z"
    assert message["undelete_until"] == "2026-12-06T00:00:00.000Z"
    assert message["refused"] == [{"name": "idle", "text": "too late"}]
    assert message["points"][0] == {
        "id": "p1", "seq": 1, "time": "2026-11-21T20:00:00.000Z", "keep": False, "why": [],
        "frees_bytes": 5,
    }  # fmt: skip
    assert message["points"][4]["why"] == ["all for 2h", "newest"]
