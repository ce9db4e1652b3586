"""A source ships to a receiver on another host, as far as one machine can play two: real processes.

The receiver is killed in the middle, runs full, and gives back on its own host and to a reader.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from typing import TYPE_CHECKING

from tests.flow.kit import MIB, Site, explained, told
from tests.flow.test_export_flow import copied, exported, uri_of

if TYPE_CHECKING:
    from tests.flow.vault import Vault


def set_up(site: Site, vault: Vault, monkeypatch, *, size: int = 4 * MIB) -> bytes:
    """Make a repository at the receiver and protect a file there; return its content."""
    content = random.Random(1).randbytes(size // 2)
    site.write_image((0, content), size=size)
    mine = vault.authority.client("source", "db01")
    for name, value in vault.environment(mine).items():
        monkeypatch.setenv(name, value)
    done = site.ctl("init", vault.url, "--keys", str(site.keys))
    assert done.code == 0, done
    for name in vault.environment(mine):
        monkeypatch.delenv(name)
    site.write_config()
    access = f'ca = "{vault.authority.ca}"\ncert = "{mine.cert}"\nkey = "{mine.key}"'
    place = f'url = "{site.repository}"'
    text = site.config.read_text().replace(place, f'url = "{vault.url}"\n{access}')
    site.config.write_text(text)
    return content + bytes(size - len(content))


def change(site: Site, content: bytes, seed: int, size: int = 200_000) -> bytes:
    dice, new = random.Random(seed), bytearray(content)
    start = dice.randrange(len(new) - size)
    new[start : start + size] = dice.randbytes(size)
    site.write_image((start, bytes(new[start : start + size])))
    return bytes(new)


def restored(site: Site, repo: str, point: str) -> bytes:
    to = site.folder / "back.img"
    to.unlink(missing_ok=True)
    done = site.ctl("--repo", repo, "restore", point, "--to", str(to), key=True)
    assert done.code == 0, done
    return to.read_bytes()


def test_the_whole_way_to_another_host(site: Site, vault: Vault, monkeypatch) -> None:
    """Cycles, then giving back: on the receiver's host, and to a reader somewhere else."""
    first = set_up(site, vault, monkeypatch)
    site.start()
    assert site.until_done()["last_run"]["result"] == "success"
    second = change(site, first, 2)
    assert site.run()["result"] == "success"
    third = change(site, second, 3)
    assert site.run()["result"] == "success"
    assert site.client.get("status")["targets"][0]["up"] is True
    assert [p["seq"] for p in site.points()] == [1, 2, 3]
    host = vault.root / "db01"
    assert len(list(host.glob("v/*/p/*.pt"))) == 3
    name = str(site.image)
    assert restored(site, str(host), f"latest:{name}") == third
    site.repository = host
    with exported(site, f"{name}@latest") as process:  # on the receiver's host, over NBD
        assert copied(site, uri_of(process)) == third
    points = site.ctl("--repo", str(host), "points", "--json", key=True).documents[0]["points"]
    assert restored(site, str(host), points[1]["id"]) == second
    assert site.ctl("--repo", str(host), "verify", name, key=True).code == 0
    theirs = vault.environment(vault.authority.client("reader", "db01"))
    for variable, value in theirs.items():
        monkeypatch.setenv(variable, value)
    assert restored(site, vault.url, points[0]["id"]) == first
    site.repository = vault.url
    with exported(site, points[1]["id"]) as process:
        assert copied(site, uri_of(process)) == second
    done = site.ctl("--repo", vault.url, "hold", points[0]["id"], key=True)
    told(done, 77, "a reader of host db01 may not put")
    for variable, value in vault.environment(vault.authority.client("source", "db01")).items():
        monkeypatch.setenv(variable, value)
    done = site.ctl("--repo", vault.url, "points", key=True)
    told(done, 77, "a source of host db01 may not")
    assert site.end() == 0
    assert vault.end() == 0


def test_the_daemon_goes_on_from_what_the_receiver_has(site, vault, monkeypatch) -> None:
    """A restarted daemon is shown two points, knows of all, and ships what differs only."""
    content = set_up(site, vault, monkeypatch)
    site.start()
    site.until_done()
    for seed in (2, 3):
        content = change(site, content, seed)
        assert site.run()["result"] == "success"
    assert site.end() == 0
    site.start()
    content = change(site, content, 4)
    run = site.run()
    assert run["result"] == "success"
    newest = site.points()[-1]
    assert (newest["seq"], newest["kind"]) == (4, "delta")
    assert newest["shipped_bytes"] < MIB
    assert [p["seq"] for p in site.points()] == [1, 2, 3, 4]
    assert restored(site, str(vault.root / "db01"), f"latest:{site.image}") == content


def test_a_receiver_killed_in_the_middle(site, vault, monkeypatch) -> None:
    """It comes back while packs are under way; the same run ends well, nothing is half there."""
    content = set_up(site, vault, monkeypatch, size=160 * MIB)
    packs = vault.root / "db01"

    def kill() -> None:
        site.until(lambda: list(packs.glob("v/*/d/*/*.pk")))
        vault.end(signal.SIGKILL)
        time.sleep(0.3)
        vault.start()

    killer = threading.Thread(target=kill)
    killer.start()
    site.start()
    last = site.until_done()["last_run"]
    killer.join()
    if last["result"] != "success":
        explained(last["error"], "E-STORE")
        assert site.run()["result"] == "success"
    assert restored(site, str(packs), f"latest:{site.image}") == content
    assert site.ctl("--repo", str(packs), "verify", str(site.image), key=True).code == 0


def test_quota_and_a_blocked_host_are_explained(site, vault, monkeypatch) -> None:
    """What the receiver refuses is told by its own words; the next cycle goes on."""
    content = set_up(site, vault, monkeypatch)
    site.start()
    site.until_done()
    content = change(site, content, 2, 1_500_000)
    vault.reload('quota = "2 MiB"')
    run = site.run()
    explained(run["error"], "E-QUOTA", "quota of host db01 is 2.0 MiB", "raise the quota")
    vault.reload("blocked = true")
    explained(site.run()["error"], "E-ROLE", "host db01 is blocked")
    vault.reload('quota = "1 GiB"')
    assert site.run()["result"] == "success"
    assert len(list((vault.root / "db01").glob("v/*/p/*.pt"))) == 2
    assert restored(site, str(vault.root / "db01"), f"latest:{site.image}") == content
