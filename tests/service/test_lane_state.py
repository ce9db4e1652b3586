"""Where the state of a volume's targets lies, and what moves when there is a second one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from blocksnapd.config import Config, load
from blocksnapd.service.lane_state import lane_directory, state_directory

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """schema = 1
[daemon]
state_dir = "{folder}/state"
[target.a]
url = "/a"
source_key = "/k"
[target.b]
url = "/b"
source_key = "/k"
[volume."/x"]
targets = {targets}
"""


def config(folder: Path, *targets: str) -> Config:
    file = folder / "b.toml"
    file.write_text(TEXT.format(folder=folder, targets=json.dumps(targets)))
    return load(str(file))


def test_one_target_has_the_volumes_own_directory(tmp_path: Path) -> None:
    found = config(tmp_path, "a")
    (lane,) = found.lanes
    assert lane.label == "/x"
    assert lane_directory(found, lane) == state_directory(found, "/x")


@pytest.mark.parametrize("owner", ["a", "b"])
def test_what_is_there_moves_to_whom_it_is_of_and_stays(tmp_path: Path, owner: str) -> None:
    single = config(tmp_path, owner)
    whole = state_directory(single, "/x")
    path = tmp_path / "state" / "volumes" / "%2Fx"
    assert whole == str(path)
    (path / "fingerprints").mkdir(parents=True)
    (path / "journal").write_text("j")
    (path / "paused").write_text("p")
    (path / "points.jsonl").write_text(json.dumps({"id": "p1", "target": owner}) + "\n")
    both = config(tmp_path, "a", "b")
    for _ in range(2):
        places = {lane.target: lane_directory(both, lane) for lane in both.lanes}
    assert places == {t: f"{path}/targets/{t}" for t in ("a", "b")}
    moved = path / "targets" / owner
    assert sorted(p.name for p in moved.iterdir()) == ["fingerprints", "journal", "points.jsonl"]
    assert sorted(p.name for p in path.iterdir()) == ["paused", "targets"]
    again = config(tmp_path, owner)
    assert lane_directory(again, again.lanes[0]) == str(moved)


def test_state_of_nobody_stays_where_it_is(tmp_path: Path) -> None:
    both = config(tmp_path, "a", "b")
    path = tmp_path / "state" / "volumes" / "%2Fx"
    path.mkdir(parents=True)
    (path / "points.jsonl").write_text("rubbish\n")
    assert [lane_directory(both, lane) for lane in both.lanes]
    assert (path / "points.jsonl").exists()
