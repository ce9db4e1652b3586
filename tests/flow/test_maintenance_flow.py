"""A host that prunes and maintains its own repository: the daemon starts the rounds itself."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.flow.kit import Site

KEEP = """retention = "short"
[retention.short]
keep = ["all for 1s"]
min_points = 1
max_delete_pct = 100
[maintenance]
every = "1s"
"""


def with_key(site: Site) -> None:
    """Let the daemon maintain its target."""
    text = site.config.read_text()
    source = f'source_key = "{site.keys}/source.key"\n'
    key = f'maintenance_key = "{site.keys}/maintenance.key"\n'
    site.config.write_text(text.replace(source, source + key))


def run_often(site: Site, times: int) -> None:
    """Make points, each of a change."""
    dice = random.Random(3)
    for _ in range(times):
        site.write_image((dice.randrange(1 << 20), dice.randbytes(9000)))
        done = site.ctl("run", str(site.image), "--wait")
        assert done.code == 0, done


def test_the_daemon_prunes_merges_and_verifies_by_itself(site: Site) -> None:
    site.set_up()
    with_key(site)
    site.start()
    site.until_done()
    run_often(site, 5)
    content = site.image.read_bytes()
    assert len(site.ctl("points", "--json").documents[0]["points"]) == 6
    site.end()
    site.config.write_text(site.config.read_text() + KEEP)
    site.start()
    site.until(lambda: len(site.ctl("points", "--json").documents[0]["points"]) <= 2)
    site.until(lambda: any(e["type"] == "verified" for e in events(site)))
    assert any(e["type"] == "pruned" and e["data"]["points"] >= 4 for e in events(site))
    everything = site.ctl("points", "--all", "--json").documents[0]["points"]
    assert len(everything) >= 6
    forgotten = [p for p in everything if "forgotten" in p]
    assert len(forgotten) >= 4
    assert list((site.repository / "m").iterdir())
    assert site.restored(f"latest:{site.image}") == content


def test_maintain_by_hand_tells_what_it_did(site: Site) -> None:
    site.set_up()
    done = site.daemon_program("--config", str(site.config), "maintain")
    assert (done.code, done.out) == (0, "")  # no target has a key for it
    with_key(site)
    site.start()
    site.until_done()
    run_often(site, 3)
    done = site.daemon_program("--config", str(site.config), "maintain")
    assert done.code == 0, done
    assert f"{site.image}: the structure is whole" in done.out
    done = site.daemon_program("--config", str(site.config), "maintain", "far")
    assert done.code == 11
    assert "no [target.far]" in done.err


def events(site: Site) -> list[dict[str, object]]:
    """Return what the daemon told so far."""
    return site.ctl("events", "--json").documents
