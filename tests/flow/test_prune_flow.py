"""Keeping points, as an administrator does it: plan, refusal, yes, hold, regret, by two roads."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.flow.kit import MIB, Site, told

if TYPE_CHECKING:
    import pytest

# The first point of the year and the newest: whatever the day, the ones between go.
RETENTION = """\
[retention.thin]
keep = ["1/y for ever"]
min_points = 1
max_delete_pct = 40
"""


def five_points(site: Site) -> list[bytes]:
    """Set a host up whose volume has five points; return what it held at each."""
    contents = [site.set_up()]
    text = site.config.read_text()
    text = text.replace(
        "[defaults]", f'maintenance_key = "{site.keys}/maintenance.key"\n[defaults]'
    )
    site.config.write_text(f'{text}retention = "thin"\n{RETENTION}')
    site.start()
    assert site.until_done()["last_run"]["result"] == "success"
    for seed in range(2, 6):
        data = random.Random(seed).randbytes(MIB // 4)
        site.write_image((0, data))
        contents.append(data + contents[-1][len(data) :])
        assert site.run()["result"] == "success"
    return contents


def test_from_a_plan_to_regret(site: Site) -> None:
    contents, name = five_points(site), str(site.image)
    ids = [p["id"] for p in site.points()]
    done = site.ctl("prune", name, "--dry-run")
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == ids[::-1]
    assert [line.split()[3] for line in lines[1:6]] == ["keep", *["forget"] * 3, "keep"]
    assert lines[1].endswith("newest")
    # What these points alone had: 256 KiB and a little around it, written anew by the next one.
    assert {line.split()[-2] for line in lines[2:5]} <= {"256", "257", "258"}
    assert lines[5].endswith("1/y for ever")
    assert lines[6].startswith(f"{name}  5 points: keep 2, forget 3 (60 %), frees 77")
    assert lines[7].startswith("refused: 3 of 5 points (60 %) would be forgotten")
    assert len(site.points()) == 5
    done = site.ctl("prune", name, "--json")
    plan, error = done.documents
    assert (done.code, error["code"]) == (12, "E-REFUSED")
    assert f"--apply {plan['id']}" in error["hint"]
    assert site.ctl("hold", ids[2], "--reason", "audit").code == 0
    told(site.ctl("prune", "--apply", plan["id"]), 12, f"{ids[2]} is held: audit")
    # With that one kept the rest is no longer too much at once.
    done = site.ctl("prune")
    assert (done.code, done.err) == (0, ""), done
    assert f"{name}  forgot 2 points, kept 3" in done.out
    assert [p["id"] for p in site.points()] == [ids[0], ids[2], ids[4]]
    assert site.volume()["points"] == 3
    listed = site.ctl("points", "--all").out
    assert "held: audit" in listed
    assert listed.count("forgotten, back until") == 2
    assert site.restored(ids[1]) == contents[1]  # as long as it is there
    # A daemon that comes back knows all that, and goes on from the newest point.
    site.end()
    site.start()
    assert [p["id"] for p in site.points()] == [ids[0], ids[2], ids[4]]
    assert site.run()["result"] == "success"
    assert site.ctl("undelete", ids[1]).code == 0
    assert site.ctl("release", ids[2]).code == 0
    assert [p["id"] for p in site.points()][:3] == ids[:3]
    kinds = [e["type"] for e in site.ctl("events", "--json").documents]
    assert kinds.count("pruned") == 1


def test_without_the_daemon(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(site.folder / "own"))
    contents, name = five_points(site), str(site.image)
    ids = [p["id"] for p in site.points()]
    site.end()
    key = ("--repo", str(site.repository), "--key", str(site.keys / "maintenance.key"))
    keep = ("--keep", "1/y for ever", "--min-points", "1")
    done = site.ctl("prune", name, *keep, *key)
    assert done.code == 12, done
    (plan,) = (site.folder / "own" / "blocksnap" / "plans").iterdir()
    command = (
        f"To go on: blocksnapctl --repo {site.repository} prune --key {key[3]} --apply {plan.stem}"
    )
    assert command in done.err
    done = site.ctl("prune", "--apply", plan.stem, *key)
    assert done.code == 0, done
    listed = site.ctl("points", "--json", *key).documents[0]["points"]
    assert [p["id"] for p in listed] == [ids[0], ids[4]]
    told(site.ctl("prune", "--apply", plan.stem, *key), 12, "forgotten or gone")
    done = site.ctl("undelete", ids[3], *key)
    assert (done.code, "held: brought back" in done.out) == (0, True)
    # This key changes what is kept and reads no content.
    told(site.ctl("restore", ids[3], "--to", str(site.folder / "x"), *key), 77, "restore.key")
    sealed = ("--repo", str(site.repository))
    assert site.restored(ids[3], *sealed) == contents[3]
    told(site.ctl("prune", name, *keep, "--repo", str(site.repository)), 77, "--key FILE")
