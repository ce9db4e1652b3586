"""From init to restore, as an administrator does it: a file protected by driver ``scan``."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.flow.kit import LIMIT_S, MIB, Site, told

if TYPE_CHECKING:
    from pathlib import Path


def change(site: Site, content: bytes, seed: int) -> bytes:
    """Write to a few places of the volume; return its content."""
    dice, new = random.Random(seed), bytearray(content)
    for _ in range(4):
        data = dice.randbytes(5000)
        start = dice.randrange(len(new) - len(data))
        new[start : start + len(data)] = data
        site.write_image((start, data))
    return bytes(new)


def test_the_whole_way(site: Site) -> None:
    """Every verb once: set up, protect, look, give back, prove."""
    first = site.set_up()
    done = site.ctl("config", "check", "--config", str(site.config))
    assert (done.code, done.out) == (0, f"{site.config}: 1 volume, 1 target\n")
    site.start()
    name = str(site.image)
    assert site.until_done()["last_run"]["result"] == "success"
    second = change(site, first, 2)
    done = site.ctl("run", name, "--wait", "--tag", "release-7")
    assert done.code == 0, done
    assert f"{name} → near  success in" in done.out
    third = change(site, second, 3)
    done = site.ctl("trigger", name, "--wait", "--json")
    last = done.documents[-1]
    assert (done.code, last["state"], last["result"]) == (0, "done", "success")
    look_around(site, name)
    points = site.ctl("points", "--json").documents[0]["points"]
    assert [p["method"] for p in points] == ["first", "compare", "compare"]
    assert [p["tags"] for p in points] == [[], ["release-7"], []]
    assert points[0]["changed_bytes"] == 2 * MIB
    assert 0 < points[1]["changed_bytes"] <= 4 * 3 * 4096
    assert site.restored(points[0]["id"]) == first
    assert site.restored(f"latest:{name}") == third
    assert site.restored(f"{name}@{points[1]['time']}") == second
    assert site.restored(name, "--at", points[1]["time"]) == second
    assert os.stat(site.folder / "restored.img").st_blocks * 512 < 3 * MIB  # sparse
    done = site.ctl("verify", name, key=True)
    assert done.code == 0, done
    assert "3 points whole" in done.out
    assert site.ctl("verify", points[1]["id"], key=True).code == 0


def look_around(site: Site, name: str) -> None:
    text = site.ctl("status")
    assert (text.code, text.err) == (0, "")
    row = next(line for line in text.out.splitlines() if line.startswith(name))
    assert row.split()[1] == "protected"
    assert row.split()[-1] == "3"
    assert "target near" in text.out
    found = site.ctl("status", "--json").documents[0]
    assert (found["schema"], found["targets"][0]["up"]) == (1, True)
    volume = found["volumes"][0]
    assert (volume["state"], volume["every"], volume["rpo"]) == ("protected", 3600, 7200)
    assert 0 <= volume["exposure"] < LIMIT_S
    runs = site.ctl("runs", "--json").documents[0]["runs"]
    assert [r["result"] for r in runs] == ["success"] * 3
    assert runs[1]["tags"] == ["release-7"]
    shown = site.ctl("show", runs[0]["id"], "--json").documents[0]
    assert shown["who"]["uid"] == os.geteuid()
    assert runs[0]["point"] in site.ctl("show", f"latest:{name}").out
    events = site.ctl("events", "--json").documents
    assert [e["type"] for e in events] == ["point", "asked", "point", "asked", "point"]
    assert [e["seq"] for e in events] == [1, 2, 3, 4, 5]


def test_the_repository_alone_is_enough(site: Site) -> None:
    """The host is gone: no daemon, no state, no configuration, no source.key, no volume."""
    first = site.set_up()
    site.start()
    site.until_done()
    second = change(site, first, 2)
    site.run()
    assert site.end() == 0
    shutil.rmtree(site.state)
    for gone in (site.config, site.image, site.keys / "source.key"):
        gone.unlink()
    repo = ("--repo", f"file://{site.repository}")
    points = site.ctl("points", *repo, "--json", key=True).documents[0]["points"]
    assert [p["seq"] for p in points] == [1, 2]
    assert points[1]["consistency"] == "unchanged while it was read"
    shown = site.ctl("show", points[0]["id"][:6], *repo, key=True)
    assert points[0]["id"] in shown.out
    assert site.restored(points[0]["id"], *repo) == first
    assert site.restored(f"{site.image}@latest", *repo) == second
    assert site.ctl("verify", *repo, key=True).code == 0
    told(site.ctl("status"), 10, "no daemon answers")


def test_a_sealed_key_and_a_person_who_types(site: Site) -> None:
    """It is asked for on a terminal by init and points; a script names a file."""
    site.write_image((0, b"content"), size=MIB)
    site.write_config()
    init = ("init", str(site.repository), "--keys", str(site.keys), "--passphrase")
    assert "differ" in typed(site, ["one", "two"], *init, code=2)
    said = typed(site, ["open sesame", "open sesame"], *init)
    assert "sealed by your passphrase" in said
    assert "open sesame" not in said
    site.start()
    point = site.until_done()["last_point"]["id"]
    key = ("--repo", str(site.repository), "--key", str(site.keys / "restore.key"))
    assert point in typed(site, ["open sesame"], "points", *key)
    secret = site.folder / "passphrase"
    secret.write_text("open sesame\n")
    assert site.restored(point, "--passphrase-file", str(secret))[:7] == b"content"
    told(site.ctl("points", *key), 77, "sealed with a passphrase", "--passphrase-file FILE")
    secret.write_text("open, wheat\n")
    done = site.ctl("points", *key, "--passphrase-file", str(secret))
    told(done, 77, "the passphrase does not open restore.key")


def typed(site: Site, lines: list[str], *words: str, code: int = 0) -> str:
    """Type ``lines`` when asked for a passphrase on a terminal; return what it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-m", "blocksnapctl", *words],
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    for line in lines:
        before = len(shown)
        while not shown[before:].rstrip().endswith(b":"):
            shown += os.read(ours, 4096)
        os.write(ours, line.encode() + b"\n")
        shown += b"\n"
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the other end of a terminal is gone
        os.close(ours)
    assert process.wait(LIMIT_S) == code, shown
    assert b"Traceback" not in shown, shown
    return shown.decode()


def test_events_go_on_where_a_reader_stopped(site: Site) -> None:
    """A follower is told at once; after a restart --since goes on without gap or repeat."""
    site.set_up(size=MIB)
    site.start()
    site.until_done()
    follower = subprocess.Popen(
        [sys.executable, "-m", "blocksnapctl", "--socket", str(site.socket), "--json", "events",
         "--follow", "--since", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert follower.stdout is not None
    heard: list[dict[str, Any]] = [json.loads(follower.stdout.readline())]
    site.run()
    heard += [json.loads(follower.stdout.readline()) for _ in ("asked", "point")]
    assert site.end() == 0
    rest, said = follower.communicate(timeout=LIMIT_S)
    heard += map(json.loads, rest.splitlines())
    assert follower.returncode == 10
    assert f"blocksnapctl events --follow --since {heard[-1]['seq']}" in said
    site.start()
    site.run()
    more = site.ctl("events", "--json", "--since", str(heard[-1]["seq"])).documents
    assert [e["seq"] for e in heard + more] == list(range(1, len(heard + more) + 1))
    assert more[-1]["type"] == "point"
    runs = site.ctl("runs", "--json").documents[0]["runs"]  # of both lives of the daemon
    assert [r["result"] for r in runs if r["result"] != "skipped"] == ["success"] * 3
    assert site.ctl("show", runs[-1]["id"]).code == 0


def test_killed_in_the_middle_of_shipping(site: Site) -> None:
    """SIGKILL with a pack written already: no point of it, and the next one is right."""
    first = site.set_up(size=48 * MIB, used=MIB)
    site.start()
    site.until_done()
    site.end()
    second = random.Random(2).randbytes(48 * MIB)
    site.write_image((0, second))
    before = site.packs()
    site.write_config(compression=19)  # that slow, so that it can be caught
    site.start()
    site.client.post("runs", body={"kind": "cycle", "volume": str(site.image)})
    site.until(lambda: site.packs() - before)
    site.hold()
    assert site.end(signal.SIGKILL) == -signal.SIGKILL
    leftovers = site.packs() - before
    assert leftovers
    assert len(site.point_objects()) == 1
    whole_points(site, [first])
    site.write_config(compression=1)
    site.start()
    assert site.until_done()["points"] == 1
    assert site.run()["result"] == "success"
    whole_points(site, [first, second])
    assert leftovers <= site.packs()  # they cost room, and no point names them


def whole_points(site: Site, contents: list[bytes]) -> None:
    """Assert that the repository has exactly these points, whole, whoever asks."""
    repo = ("--repo", str(site.repository))
    points = site.ctl("points", *repo, "--json", key=True).documents[0]["points"]
    assert len(points) == len(contents)
    for point, content in zip(points, contents, strict=True):
        assert site.restored(point["id"], *repo) == content
    assert site.ctl("verify", *repo, key=True).code == 0


def test_stopped_in_the_middle_of_shipping(site: Site) -> None:
    """SIGTERM: no point, no failure, and the end comes quickly."""
    content = site.set_up(size=32 * MIB, compression=19)
    site.start()
    site.hold_while_it_ships(0.1)
    site.go_on()
    started = time.monotonic()
    assert site.end() == 0
    assert time.monotonic() - started < 10
    assert not site.point_objects()
    assert not site.socket.exists()
    assert not list(site.repository.glob("**/*.pk"))  # it tidied up
    site.write_config(compression=1)
    site.start()
    assert site.until_done()["points"] == 1
    kinds = [e["type"] for e in site.ctl("events", "--json").documents]
    assert kinds == ["stopped", "point"]
    whole_points(site, [content])


def test_the_second_daemon_does_not_start(site: Site) -> None:
    """On the same state directory, whatever its socket is; the first one goes on."""
    site.set_up(size=MIB)
    site.start()
    other = site.folder / "other.toml"
    site.config.rename(other)
    site.write_config(socket=site.folder / "second.sock")
    told(site.daemon_program("--config", str(other)), 75, "another daemon", "This one did not")
    told(site.daemon_program("--config", str(site.config)), 75, str(site.state), "another daemon")
    assert not (site.folder / "second.sock").exists()
    assert site.run()["result"] == "success"


def test_two_hosts_that_claim_the_same_volume(site: Site) -> None:
    """A cloned host: the one that comes second is told, and no point of the first is harmed."""
    content = site.set_up(size=24 * MIB, compression=19)
    clone = Site()
    try:
        site.start()
        site.hold_while_it_ships(0.1)
        shutil.copytree(site.state, clone.state, ignore=shutil.ignore_patterns("lock"))
        clone.write_config(repository=site.repository, keys=site.keys, image=site.image)
        clone.start()
        failed = clone.until_done(str(site.image))
        assert failed["last_run"]["error"]["code"] == "E-BUSY"
        assert "another writer is at work" in failed["causes"][0]["message"]
        done = clone.ctl("run", str(site.image), "--wait")
        told(done, 75, "another writer is at work", "stop the other daemon")
        site.go_on()
        site.client.post("runs", site.volume()["active_run"]["id"], "cancel", body={})
        assert site.until_done()["last_run"]["result"] == "cancelled"
        assert clone.ctl("run", str(site.image), "--wait").code == 0
        assert site.ctl("run", str(site.image), "--wait").code == 0
        whole_points(site, [content, content])
    finally:
        clone.close()


def test_the_same_without_root(plain_site: Site) -> None:
    """Nobody is root: set up, protect, restart, give back."""
    first = plain_site.set_up(size=MIB)
    plain_site.start()
    assert plain_site.until_done()["state"] == "protected"
    second = change(plain_site, first, 2)
    done = plain_site.ctl("run", str(plain_site.image), "--wait")
    assert done.code == 0, done
    assert plain_site.end() == 0
    plain_site.start()
    assert plain_site.until_done()["last_run"]["result"] == "skipped"  # it is not due yet
    assert [p["seq"] for p in plain_site.points()] == [1, 2]
    assert plain_site.restored(plain_site.points()[0]["id"]) == first
    assert plain_site.restored(f"latest:{plain_site.image}") == second
    owners = {os.stat(p).st_uid for p in tree(plain_site.repository) + tree(plain_site.state)}
    assert owners == {os.stat(plain_site.keys).st_uid}
    assert owners != {0} or os.geteuid() != 0


def tree(top: Path) -> list[Path]:
    return [top, *top.rglob("*")]


def test_status_loads_nothing_heavy(site: Site) -> None:
    """What takes long to load has no place where an operator only looks."""
    site.set_up(size=MIB)
    site.start()
    code = (
        "import sys; from blocksnapctl.__main__ import main; code = main(['status']); "
        "heavy = {'aiohttp', 'asyncio', 'numpy', 'pydantic', 'cryptography', 'subprocess'}; "
        "print(sorted(heavy & set(sys.modules))); sys.exit(code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, check=True,
        env={**os.environ, "BLOCKSNAP_SOCKET": str(site.socket)},
    )  # fmt: skip
    assert found.stdout.splitlines()[-1] == "[]"
    assert "protected" in found.stdout or "seeding" in found.stdout
