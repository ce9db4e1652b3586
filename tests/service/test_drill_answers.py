"""What is asked of drills, of a daemon and of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.errors import NotFoundError, RefusedError
from blocksnapd.service.drill_answers import DrillAnswers, NoDrills
from tests.control.test_drill_messages import evidence
from tests.service.bench import ROOT
from tests.service.test_drill_task import Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


async def test_evidence_of_others_is_kept_for_volumes_that_are_known(site: Site) -> None:
    answers = DrillAnswers(site.task, site.book)
    await answers.keep_drill(evidence(volume="db/log"), ROOT)  # type: ignore[arg-type]
    assert [d["volume"] for d in await answers.drills(None, 0)] == ["db/log"]
    assert await answers.drills("db/data", 0) == []
    assert site.said == [("drilled", "info", "db/log")]
    with pytest.raises(NotFoundError):
        await answers.keep_drill(evidence(volume="db/none"), ROOT)  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [{}, {"volume": "db/data", "check": ["/bin/sh"]}])
async def test_the_daemon_drills_as_it_is_configured(site: Site, more: Any) -> None:
    with pytest.raises(RefusedError, match="as its configuration says"):
        DrillAnswers(site.task, site.book).start_drill({"kind": "drill", **more}, ROOT)


async def test_a_drill_is_started_once(site: Site) -> None:
    site.will_say()
    answers = DrillAnswers(site.task, site.book)
    first = answers.start_drill({"kind": "drill", "volume": "db/data"}, ROOT)
    second = answers.start_drill({"kind": "drill", "volume": "db/data"}, ROOT)
    assert (first["joined"], second["joined"], first["id"]) == (False, True, second["id"])
    await site.task.close()


async def test_a_worker_keeps_none() -> None:
    assert await NoDrills().drills(None, 0) == []
    with pytest.raises(NotFoundError):
        await NoDrills().keep_drill(evidence(), ROOT)  # type: ignore[arg-type]
