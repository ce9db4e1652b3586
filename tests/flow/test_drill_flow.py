"""Drills as an administrator makes them: configured, by hand, without a daemon; and the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.flow.kit import MIB, Site, told

if TYPE_CHECKING:
    from pathlib import Path

CHECK = "import os; raise SystemExit(open(os.environ['BLOCKSNAP_IMAGE'], 'rb').read(4) != bytes(4))"


@pytest.fixture
def ext4(site: Site) -> Site:
    """A volume with a file system, protected; with drills configured."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4 (Debian: e2fsprogs)")
    site.set_up(size=8 * MIB)
    site.write_image(size=8 * MIB)
    subprocess.run(["mkfs.ext4", "-qF", str(site.image)], check=True, capture_output=True)
    scratch = site.folder / "scratch"
    scratch.mkdir()
    argv = json.dumps([sys.executable, "-c", CHECK])
    site.write_config(
        f'drill = {{ key = "{site.keys}/restore.key", run = {argv}, scratch = "{scratch}" }}\n'
    )
    site.start()
    site.until_done()
    return site


def steps(found: Any) -> dict[str, str]:
    return {step["name"]: step["result"] for step in found["steps"]}


def test_drills_of_every_kind_are_in_the_report(
    ext4: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    site, volume, scratch = ext4, str(ext4.image), str(ext4.folder / "scratch")
    assert f"Not drilled in this time: {volume}" in site.ctl("report").out
    # By the daemon, as it is configured.
    done = site.ctl("drill", volume, "--json")
    assert done.code == 0, done
    good = done.documents[-1]
    all_well = {"readable": "success", "restored": "success", "fsck": "success"}
    assert steps(good) == {**all_well, "check": "success"}
    assert (good["target"], good["size"]) == ("near", 8 * MIB)
    # By hand, with a check that finds something.
    mine = ("--scratch", scratch, "--check", "/bin/sh -c 'echo row 7 is lost; exit 4'")
    done = site.ctl("drill", volume, *mine, key=True)
    told(done, 1, "row 7 is lost", "E-DRILL")
    assert "check     failed" in done.out
    # With the repository alone: nobody but we can keep it.
    repo = ("--repo", str(site.repository), "--scratch", scratch)
    done = site.ctl("drill", f"{volume}@latest", *repo, "--json", key=True)
    assert (done.code, steps(done.documents[-1])) == (0, all_well)
    assert os.listdir(scratch) == []
    assert volume == done.documents[-1]["volume"]

    found = site.ctl("report", "--json").documents[0]
    assert [d["result"] for d in found["drills"]] == ["success", "failed", "success"]
    assert found["undrilled"] == []
    text = site.ctl("report", "--since", "1h", volume).out
    for word in ("3 drills, 1 failed", "row 7 is lost", "e2fsck -fn", good["id"]):
        assert word in text
    assert site.ctl("report", "--since", "0.001s").out.count("d-") == 0
    kinds = [json.loads(line)["type"] for line in site.ctl("events", "--json").out.splitlines()]
    assert (kinds.count("drilled"), kinds.count("drill-failed")) == (1, 1)
    kept = (site.state / "drills").glob("*.jsonl")
    assert sum(len(path.read_text().splitlines()) for path in kept) == 2
    assert len(site.points()) == 1, "no drill makes or drops a point"


def test_what_cannot_be_drilled_is_told(ext4: Site) -> None:
    told(ext4.ctl("drill", "/srv/none"), 11, "no volume")
    told(ext4.ctl("drill", str(ext4.image), "--scratch", "/tmp"), 2, "--key")
    done = ext4.ctl("drill", str(ext4.image), "--scratch", str(ext4.folder / "none"), key=True)
    told(done, 1, "no place for a drill")


def test_a_damaged_point_fails_its_drill(ext4: Site) -> None:
    ext4.write_image((6 * MIB, os.urandom(MIB)))
    ext4.run()
    (pack,) = ext4.packs()
    data = bytearray(pack.read_bytes())
    data[100] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    done = ext4.ctl("drill", str(ext4.image))
    told(done, 1, "E-DRILL")
    assert ext4.points(), "what is damaged is still listed"
    newest = ext4.point_objects()[-1]
    newest.chmod(0o600)
    newest.write_bytes(bytes(len(newest.read_bytes())))
    done = ext4.ctl("drill", str(ext4.image))  # the older one is whole, and does not pass for it
    told(done, 1, "E-DRILL", "Left out, because they are damaged")
