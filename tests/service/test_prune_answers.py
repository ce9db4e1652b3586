"""Which target has a key to be pruned with, and what is said where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blocksnapd.config import Target
from blocksnapd.errors import KeyMissingError, NotFoundError, StoreError, StoreMissingError
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.prune_answers import Pruners
from blocksnapd.store.init import init_repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pruners(tmp_path: Path) -> Pruners:
    init_repository(str(tmp_path / "repository"), str(tmp_path / "keys"))
    keys = tmp_path / "keys"

    def target(place: str, key: str | None) -> Target:
        return Target(
            url=str(tmp_path / place), source_key=str(keys / "source.key"),
            maintenance_key=str(keys / key) if key else None,
        )  # fmt: skip

    targets = {
        "near": target("repository", "maintenance.key"),
        "mute": target("repository", None),
        "lost": target("repository", "lost.key"),
        "gone": target("gone", "maintenance.key"),
    }
    return Pruners(targets, ManualClock())


async def test_a_target_with_a_key(pruners: Pruners) -> None:
    found = await pruners.of("near")
    assert found is await pruners.of("near")
    assert found.look("nothing").points == ()
    with pytest.raises(NotFoundError, match="no point p1"):
        found.hold("nothing", "p1")
    assert [n for n in ("near", "mute", "lost", "other") if pruners.has(n)] == ["near", "lost"]


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ("mute", KeyMissingError, r"\[target.mute\] has no maintenance_key"),
        ("lost", KeyMissingError, "lost.key"),
        ("gone", StoreMissingError, "there is no directory"),
    ],
)
async def test_what_is_missing_is_told(
    pruners: Pruners, target: str, error: type[StoreError], said: str
) -> None:
    with pytest.raises(error, match=said):
        await pruners.of(target)
