"""A volume with two targets: a folder here, and a receiver that stands still and comes back."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.flow.kit import MIB, Site

if TYPE_CHECKING:
    from tests.flow.vault import Vault

EVERY_S = 1.0
RPO_S = 6.0  # of a machine that many share
STALLED_S = 12.0
SIZE = 8 * MIB

CONFIG = """\
schema = 1
[daemon]
state_dir = "{state}"
[control]
socket = "{socket}"
[metrics]
listen = []
[target.near]
url = "{near}"
source_key = "{keys}/source.key"
maintenance_key = "{keys}/maintenance.key"
[target.far]
url = "{far}"
source_key = "{far_keys}/source.key"
stall_timeout = "5s"
ca = "{ca}"
cert = "{cert}"
key = "{key}"
[retention.short]
keep = ["all for 1d"]
[volume."{image}"]
every = "{every}"
rpo = "{rpo}"
targets = ["far", "near"]
retention = {{ near = "short" }}
retry = {{ first = "1s", max = "1s" }}
"""


@pytest.fixture
def two(site: Site, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A host that ships a file to both, the far one first in its list."""
    site.write_image((0, random.Random(1).randbytes(SIZE)), size=SIZE)
    mine = vault.authority.client("source", "db01")
    for name, value in vault.environment(mine).items():
        monkeypatch.setenv(name, value)
    for url, keys in ((str(site.repository), site.keys), (vault.url, site.folder / "far-keys")):
        done = site.ctl("init", url, "--keys", str(keys))
        assert done.code == 0, done
    site.config.write_text(
        CONFIG.format(
            state=site.state, socket=site.socket, near=site.repository, far=vault.url,
            keys=site.keys, far_keys=site.folder / "far-keys", ca=vault.authority.ca,
            cert=mine.cert, key=mine.key, image=site.image, every=f"{EVERY_S:g}s",
            rpo=f"{RPO_S:g}s",
        )
    )  # fmt: skip
    return site


def at(site: Site, target: str) -> dict[str, Any]:
    """Return what status says of the volume at a target."""
    volumes = site.client.get("status")["volumes"]
    return next(v for v in volumes if v["target"] == target)


def points(site: Site, target: str) -> list[dict[str, Any]]:
    return [p for p in site.points() if p["target"] == target]


def test_one_that_stands_still_delays_nobody_and_catches_up(two: Site, vault: Vault) -> None:
    two.start()
    two.until(lambda: at(two, "near")["last_point"] and at(two, "far")["last_point"])
    assert at(two, "near")["keep"] == ["all for 1d"]
    assert at(two, "far")["keep"] == []
    assert vault.process is not None
    vault.process.send_signal(signal.SIGSTOP)
    before, began, content = len(points(two, "near")), time.monotonic(), b""
    far_before = points(two, "far")[-1]
    while time.monotonic() < began + STALLED_S:
        content = random.Random(time.monotonic()).randbytes(MIB)
        two.write_image((3 * MIB, content))
        time.sleep(EVERY_S / 2)
        assert at(two, "near")["state"] == "protected"
    assert len(points(two, "near")) > before + 3
    late = at(two, "far")
    assert late["state"] == "late"
    assert late["exposure"] > RPO_S
    told = two.ctl("status")
    assert f"{two.image} → far" in told.out, told
    assert f"{two.image} → near" in told.out
    said = two.ctl("explain", str(two.image)).out
    assert f"{two.image} → far is LATE" in said, said
    assert f"{two.image} → near is protected" in said

    # A restore takes the point of the target that answers; a target can be named, too.
    newest = two.client.get("points", f"latest:{two.image}")
    assert newest["target"] == "near"
    assert two.client.get("points", f"latest:{two.image}#far")["id"] == far_before["id"]
    to = two.folder / "out.img"
    done = two.ctl("restore", f"{two.image}@latest", "--target", "near", "--to", str(to), key=True)
    assert done.code == 0, done
    listed = two.ctl("points", "--target", "far", "--plain").out.splitlines()
    assert listed
    assert {line.split("\t")[-1] for line in listed} == {"far"}

    vault.process.send_signal(signal.SIGCONT)
    two.until(lambda: at(two, "far")["state"] == "protected")
    caught_up = [p for p in points(two, "far") if p["seq"] > far_before["seq"]]
    assert all(p["kind"] == "delta" for p in caught_up)
    assert sum(p["shipped_bytes"] for p in caught_up) < SIZE // 2  # no full copy
    two.ctl("run", str(two.image), "--wait")
    for target in ("near", "far"):
        point = points(two, target)[-1]
        keys = two.keys if target == "near" else two.folder / "far-keys"
        url = str(two.repository) if target == "near" else str(vault.root / "db01")
        out = two.folder / f"{target}.img"
        words = ("restore", point["id"], "--to", str(out), "--key", str(keys / "restore.key"))
        assert two.ctl("--repo", url, *words).code == 0
        assert out.read_bytes() == two.image.read_bytes()


def test_a_run_of_one_target_and_of_all(two: Site) -> None:
    two.config.write_text(
        two.config.read_text().replace('every = "1s"\nrpo = "6s"', 'every = "1h"')
    )
    two.start()
    two.until(lambda: at(two, "near")["last_point"] and at(two, "far")["last_point"])
    counts = {t: len(points(two, t)) for t in ("near", "far")}
    assert two.ctl("run", str(two.image), "--wait").code == 0
    assert {t: len(points(two, t)) for t in counts} == {t: n + 1 for t, n in counts.items()}
    assert two.ctl("run", str(two.image), "--target", "far", "--wait").code == 0
    assert len(points(two, "near")) == counts["near"] + 1
    assert len(points(two, "far")) == counts["far"] + 2
    done = two.ctl("run", str(two.image), "--target", "nowhere")
    assert done.code != 0
    assert "It has: far, near" in done.err, done
    pruned = two.ctl("prune", str(two.image), "--target", "near", "--dry-run")
    assert pruned.code == 0, pruned


def test_a_second_target_takes_no_full_copy_of_the_first(two: Site) -> None:
    text = two.config.read_text()
    two.config.write_text(
        text.replace('targets = ["far", "near"]', 'targets = ["near"]').replace(
            'every = "1s"\nrpo = "6s"', 'every = "1h"'
        )
    )
    two.start()
    two.until(lambda: at(two, "near")["last_point"])
    two.config.write_text(text)
    assert two.ctl("reload").code == 0
    two.until(lambda: len(points(two, "near")) > 1 and points(two, "far"))
    assert points(two, "near")[1]["kind"] == "delta"
    assert points(two, "far")[0]["kind"] == "full"
    two.config.write_text(text.replace('targets = ["far", "near"]', 'targets = ["near"]'))
    count = len(points(two, "near"))
    assert two.ctl("reload").code == 0
    two.until(lambda: len(points(two, "near")) > count + 1 and not points(two, "far"))
    assert {p["kind"] for p in points(two, "near")[1:]} == {"delta"}
