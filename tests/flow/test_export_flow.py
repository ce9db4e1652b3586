"""``blocksnapctl export`` as an administrator uses it: look, copy, let write, end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.export.client import Client
from tests.flow.kit import LIMIT_S, MIB, Site, told

if TYPE_CHECKING:
    from collections.abc import Iterator


def heed_interrupts() -> None:
    """Whoever starts the tests in the background makes their children ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def exported(site: Site, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run the verb beside us; it is interrupted in the end and leaves nothing behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "blocksnapctl", "export", *words, "--repo", str(site.repository),
         "--key", str(site.keys / "restore.key")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(site.folder)}, preexec_fn=heed_interrupts,
    )  # fmt: skip
    try:
        yield process
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()  # nothing of ours stays, whatever went wrong
    assert process.returncode == 0, (out, err)
    assert "Traceback" not in out + err
    assert not [name for name in os.listdir(site.folder) if name.startswith("blocksnap-")]


def uri_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, process.communicate(timeout=LIMIT_S)
    return line


def two_points(site: Site) -> tuple[bytes, bytes]:
    first = site.set_up()
    site.start()
    site.until_done()
    second = b"changed" * 1000 + first[7000:]
    site.write_image((0, second[:7000]))
    site.run()
    site.end()
    return first, second


def run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def copied(site: Site, uri: str) -> bytes:
    place = site.folder / "copy.img"
    run("nbdcopy", uri, str(place))
    found = place.read_bytes()
    place.unlink()
    return found


def test_points_are_copied_from_the_repository_alone(site: Site) -> None:
    first, second = two_points(site)
    points = site.ctl("points", "--repo", str(site.repository), "--json", key=True)
    ids = [p["id"] for p in points.documents[0]["points"]]
    with exported(site, f"{site.image}@latest") as process:
        uri = uri_of(process)
        assert uri.startswith("nbd+unix:///?socket=")
        assert copied(site, uri) == second
        info = json.loads(run("nbdinfo", "--json", uri))["exports"][0]
        assert info["description"].startswith(f"{site.image} at 20")
        other = uri.replace("///", f"///{ids[0]}")
        refused = subprocess.run(
            ["qemu-img", "info", other], capture_output=True, text=True, check=False
        )
        assert f"only {ids[1]} is exported here" in refused.stderr
    with exported(site) as process:  # every point by its name
        uri = uri_of(process)
        listed = json.loads(run("nbdinfo", "--json", "--list", uri))["exports"]
        assert [e["export-name"] for e in listed] == ids[::-1]
        assert copied(site, uri.replace("///", f"///{ids[0]}")) == first
        named = f"{site.image}@latest".replace("/", "%2F").replace("@", "%40")
        assert copied(site, uri.replace("///", f"///{named}")) == second


def test_over_tcp_and_writable(site: Site) -> None:
    first, _ = two_points(site)
    points = site.ctl("points", "--repo", str(site.repository), "--json", key=True)
    point = points.documents[0]["points"][0]["id"]
    with exported(site, point, "--listen", "127.0.0.1:0", "--writable", "--json") as process:
        run_now: dict[str, Any] = json.loads(uri_of(process))
        while not run_now["to"]:
            run_now = json.loads(uri_of(process))
        uri = run_now["to"]
        assert uri.startswith("nbd://127.0.0.1:")
        run("qemu-io", "-f", "raw", "-c", "write -P 9 1m 1m", "-c", "read -P 9 1m 1m", uri)
    assert site.restored(point, "--repo", str(site.repository)) == first


def test_a_socket_of_ones_own_and_its_end(site: Site) -> None:
    _, second = two_points(site)
    place = site.folder / "mine.sock"
    with exported(site, f"latest:{site.image}", "--unix", str(place), "--plain") as process:
        assert uri_of(process) == f"nbd+unix:///?socket={place}"
        assert os.stat(place).st_mode & 0o777 == 0o600
        with Client(str(place)) as client:
            assert client.choose() == len(second)
            assert client.read(0, MIB).content == second[:MIB]
            process.send_signal(signal.SIGINT)
            assert client.is_closed()
            process.wait(LIMIT_S)
    assert not place.exists()


def test_what_cannot_be_exported_is_told(site: Site) -> None:
    two_points(site)
    repo = ("--repo", str(site.repository))
    told(site.ctl("export", f"{site.image}@2001-01-01T00:00", *repo, key=True), 11, "as old as")
    open_to_all = ("export", "--listen", "0.0.0.0:0", *repo)
    told(site.ctl(*open_to_all, key=True), 12, "could read the point", "--yes")
    done = site.ctl("export", "--tls-cert", "a", *repo, key=True)
    assert done.code == 2
    taken = site.folder / "taken"
    taken.write_text("precious")
    told(site.ctl("export", "--unix", str(taken), *repo, key=True), 12, "exists")
    assert taken.read_text() == "precious"


def test_the_daemons_points_are_exported_with_the_operators_key(site: Site) -> None:
    content = site.set_up()
    site.start()
    site.until_done()
    done = subprocess.Popen(
        [sys.executable, "-m", "blocksnapctl", "export", f"{site.image}@latest", "--key",
         str(site.keys / "restore.key"), "--timeout", "30s"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "BLOCKSNAP_SOCKET": str(site.socket)}, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert copied(site, uri_of(done)) == content
    done.send_signal(signal.SIGINT)
    _, said = done.communicate(timeout=LIMIT_S)
    assert done.returncode == 0
    for word in ("nbdinfo", "qemu-img convert", "nbd-client -unix", "Ctrl-C", "--writable"):
        assert word in said


def test_a_detached_one_goes_on_until_it_is_cancelled(site: Site, monkeypatch: Any) -> None:
    first, _ = two_points(site)
    monkeypatch.setenv("XDG_STATE_HOME", str(site.folder / "s"))
    repo = ("--repo", str(site.repository))
    ids = [
        p["id"] for p in site.ctl("points", *repo, "--json", key=True).documents[0]["points"]
    ]  # fmt: skip
    done = site.ctl("export", ids[0], *repo, "--detach", key=True)
    assert done.code == 0, done
    assert "blocksnapctl cancel r" in done.err
    uri = done.out.strip()
    assert copied(site, uri) == first
    run_id = done.err.rpartition("cancel ")[2].split()[0]
    listed = site.ctl("runs", "--json")
    assert [(r["id"], r["kind"], r["to"]) for r in listed.documents[0]["runs"]] == [
        (run_id, "export", uri)
    ]
    assert site.ctl("show", run_id).code == 0
    assert site.ctl("cancel", run_id).code == 0
    site.until(lambda: not os.path.exists(uri.partition("socket=")[2]))
    ended = json.loads(site.ctl("show", run_id, "--json").out)
    assert ended["state"] == "done"
    assert "cancelled by" in ended["warnings"][0]
    assert "sent" in ended["reason"]
    failed = site.ctl("export", ids[0], *repo, "--detach", "--listen", "0.0.0.0:0", key=True)
    told(failed, 12, "could read the point")


def test_the_daemon_serves_every_point_also_those_to_come(site: Site) -> None:
    """As ``[export.NAME]`` says: started again when it dies, ended with the daemon."""
    first = site.set_up()
    place = site.folder / "points.sock"
    settings = f"""
[export.points]
target = "near"
key = "{site.keys}/restore.key"
unix = "{place}"
"""
    site.write_config(settings)
    site.start()
    assert site.daemon is not None
    pid = site.daemon.pid
    site.until_done()
    site.until(place.exists)
    uri = f"nbd+unix:///{{}}?socket={place}"
    named = f"{site.image}@latest".replace("/", "%2F").replace("@", "%40")
    assert copied(site, uri.format(named)) == first
    second = b"changed" * 1000 + first[7000:]
    site.write_image((0, second[:7000]))
    site.run()
    site.until(lambda: copied(site, uri.format(named)) == second)
    child = next(iter(children(pid)))
    os.kill(child, signal.SIGKILL)
    site.until(lambda: children(pid) - {child})
    site.until(lambda: answers(place))
    assert copied(site, uri.format(named)) == second
    told_of = site.ctl("events", "--json").documents
    assert any(event["type"] == "export-failed" for event in told_of)
    (child,) = children(pid)
    site.end()
    assert not place.exists()
    assert not os.path.exists(f"/proc/{child}")


def children(pid: int) -> set[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return set(map(int, file.read().split()))


def answers(place: os.PathLike[str]) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(os.fspath(place)) == 0
