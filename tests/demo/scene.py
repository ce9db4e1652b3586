"""The demo, from top to bottom, through the commands an administrator types.

    set up → first full copy → cycles under load → kill in the middle of shipping → go on
    → restore several points → compare each, whole image against whole image

The references are taken by ``dd`` from the snapshots themselves, and compared by ``cmp``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tests.demo.host import MIB, Host, Load, run
from tests.demo.table import Row, render

EVERY_S = 6
BALLAST_SIZE = 90 * MIB

CONFIG = """\
schema = 1

[daemon]
state_dir = "{work}/state"

[control]
socket = "{work}/run/control.sock"

[metrics]
listen = []

[target.vault]
url = "{repository}"
source_key = "{work}/keys/source.key"

[cow.spare]                      # a sparse file on the snapshot disk
file = "{snapshots}/cow.img"
vg = "{vg}"
reserve = "64 MiB"

[volume."{volume}"]
every = "{every}s"
rpo = "1m"
targets = ["vault"]
cow = {{ space = "spare", chunk = "4 KiB", freeze_max = "10s" }}
"""


@dataclass
class Story:
    """What was seen while it played."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


class Scene:
    """One performance on one host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.story = Story()
        self.socket = f"{host.work}/run/control.sock"
        self.config = f"{host.work}/blocksnap.toml"
        self.repository = f"{host.vault}/repository"
        self.started = time.monotonic()
        self.daemon: subprocess.Popen[bytes] | None = None

    def play(self) -> bool:
        """Play it all; return whether every comparison was equal and nothing was left behind."""
        self.set_up()
        load = Load(self.host.mount, size_max=120 * MIB)
        self.host.later(load.stop)
        self.start_daemon()
        load.start()
        self.first_points()
        killed = self.kill_in_the_middle()
        after = self.go_on(killed)
        self.say("the load goes on for one more point")
        last = self.wait_for_point(beyond=after)
        self.keep_reference(last, "last")
        load.stop()
        self._until(self._is_quiet, "a moment between two cycles", 60)
        self.stop_daemon()
        rows = self.restore_and_compare()
        print(render(rows), flush=True)
        left = self.host.snapshot_names()
        self.say(f"snapshots on the host at the end: {len(left)} (the one that tracks)")
        return all(r.compared in ("equal", "") for r in rows) and len(left) == 1

    def say(self, text: str) -> None:
        """Tell what happens, with the time."""
        print(f"[{time.monotonic() - self.started:5.1f} s] {text}", flush=True)

    def set_up(self) -> None:
        """The volume exists; blocksnap makes keys, repository and COW space."""
        host = self.host
        self.say("a host with an XFS volume on LVM, a snapshot disk and a vault")
        host.prepare()
        os.makedirs(f"{host.work}/run", exist_ok=True)
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(
                CONFIG.format(
                    work=host.work, repository=self.repository, snapshots=host.snapshots,
                    vg=host.vg, volume=host.volume, every=EVERY_S,
                )
            )  # fmt: skip
        host.later(lambda: self.blocksnapctl("cow", "remove", config=True, check=False))
        host.later(self._remove_snapshots)
        self.show("init", self.repository, "--keys", f"{host.work}/keys")
        self.show("cow", "create", config=True)

    def first_points(self) -> None:
        """The first full copy, a cycle by itself, one that is asked for, and the status."""
        first = self.wait_for_point(beyond="")
        self.keep_reference(first, "first full copy")
        second = self.wait_for_point(beyond=first)
        self.show("status")
        self.show("run", self.host.volume, "--wait", "--tag", "asked-for")
        asked = self.points()[-1]["id"]
        self.story.labels[asked] = "asked for with run --wait"
        middle = self.wait_for_point(beyond=asked)
        self.keep_reference(middle, "middle")
        self.say(f"{len(self.points())} points so far, {second} among them")

    def kill_in_the_middle(self) -> str:
        """Write much, ask for a cycle, SIGKILL the daemon while it ships; return that point."""
        for attempt in range(5):
            self.write_ballast(attempt)
            base = self.points()[-1]["id"]
            with contextlib.suppress(OSError):
                self.ask("POST", "/v1/runs", {"kind": "cycle", "volume": self.host.volume})
            if self._kill_while_it_ships():
                names = self.host.snapshot_names()
                self.say(f"snapshots on the host now: {', '.join(names)}")
                (shipping,) = {n.removeprefix("bs_") for n in names} - {base}
                self.keep_reference(shipping, "killed while it was shipped")
                return shipping
            self.say("it was faster than the kill; once more")
        raise RuntimeError("the daemon ships too fast to be killed in the middle")

    def go_on(self, shipping: str) -> str:
        """Start again: the same tracking, no full copy, no snapshot left over."""
        self.start_daemon()
        after = self._until(lambda: self._point_after(shipping), "a point after the kill", 90)
        methods = {p["id"]: p["method"] for p in self.points()}
        self.say(f"after the kill: {shipping} {methods[shipping]}, {after} {methods[after]}")
        if {methods[shipping], methods[after]} != {"tracked"}:
            raise RuntimeError("the tracking was lost by the kill")
        self.keep_reference(after, "the one after the kill")
        return after

    def _point_after(self, point_id: str) -> str:
        ids = [p["id"] for p in self.points()]
        return "" if point_id not in ids[:-1] else ids[-1]

    def restore_and_compare(self) -> list[Row]:
        """Restore every point that has a reference; compare each; mount one."""
        self.say("from here on the repository and the key are enough: the daemon is stopped")
        results = {}
        for point_id, reference in self.story.references.items():
            image = f"{self.host.vault}/restored-{point_id}.img"
            self.show("--repo", self.repository, "restore", point_id, "--to", image, key=True)
            same = subprocess.run(["cmp", reference, image], check=False).returncode == 0
            results[point_id] = "equal" if same else "DIFFERENT"
            self.say(f"cmp {os.path.basename(reference)} with the restored image: "
                     f"{results[point_id]}")  # fmt: skip
        self.mount_one(image)
        return [self._row(point, results) for point in self._all_points()]

    def mount_one(self, image: str) -> None:
        """Mount the last restored image and list it."""
        where = f"{self.host.work}/mnt/restored"
        os.makedirs(where)
        run("mount", "-o", "loop,nouuid", image, where)
        try:
            listing = run("ls", "-l", where).splitlines()
        finally:
            run("umount", where)
        self.say(f"mounted {os.path.basename(image)}: {len(listing) - 1} files, such as")
        print("\n".join(listing[1:5]), flush=True)

    def start_daemon(self) -> None:
        """Start blocksnapd as systemd would, without systemd."""
        self.say("blocksnapd starts")
        log = open(f"{self.host.work}/blocksnapd.log", "ab")  # noqa: SIM115 - the child's
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "blocksnapd", "--config", self.config],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        self.host.later(self.stop_daemon)
        self._until(self._is_ready, "the daemon to be ready", 60)

    def stop_daemon(self) -> None:
        """Stop it in good order."""
        if self.daemon is not None:
            with contextlib.suppress(OSError):
                self._remember_runs()
            self.daemon.terminate()
            self.daemon.wait(60)
            self.daemon = None

    def keep_reference(self, point_id: str, label: str) -> None:
        """Copy the snapshot of a point with dd while it is there."""
        path = f"{self.host.vault}/reference-{point_id}.img"
        source = self.host.snapshot_path(point_id)
        run("dd", f"if={source}", f"of={path}", "bs=1M", "iflag=direct", "conv=sparse")
        self.story.references[point_id] = path
        self.story.labels[point_id] = label
        self.say(f"point {point_id}: {label}; dd took a reference from its snapshot")

    def write_ballast(self, attempt: int) -> None:
        """Change so much at once that shipping takes a while."""
        with open(f"{self.host.mount}/ballast", "r+b" if attempt else "wb") as file:
            file.writelines(os.urandom(MIB) for _ in range(BALLAST_SIZE // MIB))
            os.fsync(file.fileno())

    def wait_for_point(self, *, beyond: str) -> str:
        """Return the id of the newest point once it is not ``beyond`` any more."""

        def newer() -> str:
            points = self.points()
            newest = points[-1]["id"] if points else ""
            return newest if newest != beyond else ""

        return self._until(newer, f"a point after {beyond or 'none'}", 90)

    def points(self) -> list[dict[str, Any]]:
        """Return the points, oldest first, and remember how their runs went."""
        self._remember_runs()
        found: list[dict[str, Any]] = self.ask("GET", "/v1/points")["points"]
        return found

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the daemon directly: a poll must not cost the start of a program."""
        connection = _UnixConnection(self.socket)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def blocksnapctl(
        self, *words: str, config: bool = False, key: bool = False, check: bool = True
    ) -> str:
        """Type one blocksnapctl command; return what it printed."""
        more = ["--config", self.config] if config else []
        more += ["--key", f"{self.host.work}/keys/restore.key"] if key else []
        done = subprocess.run(
            [sys.executable, "-m", "blocksnapctl", "--socket", self.socket, *words, *more],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"blocksnapctl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def show(self, *words: str, config: bool = False, key: bool = False) -> None:
        """Type a command and show what it printed."""
        self.say(f"$ blocksnapctl {' '.join(words)}")
        print(self.blocksnapctl(*words, config=config, key=key), end="", flush=True)

    def log(self) -> str:
        """Return the end of the daemon's log."""
        return run("tail", "-n", "30", f"{self.host.work}/blocksnapd.log", check=False)

    def _kill_while_it_ships(self) -> bool:
        assert self.daemon is not None
        while True:
            run_now = self.ask("GET", "/v1/runs")["runs"][0]
            if run_now["state"] == "done":
                return False
            if run_now["phase"] == "listed" and run_now["done_bytes"] > 0:
                os.kill(self.daemon.pid, signal.SIGKILL)
                self.daemon.wait()
                self.daemon = None
                done, total = run_now["done_bytes"] // MIB, run_now["expected_bytes"] // MIB
                self.say(f"SIGKILL while it shipped: {done} of {total} MiB")
                return True
            time.sleep(0.01)

    def _remember_runs(self) -> None:
        for run_now in self.ask("GET", "/v1/runs")["runs"]:
            if run_now["point"]:
                self.story.runs[run_now["point"]] = run_now

    def _all_points(self) -> list[dict[str, Any]]:
        text = self.blocksnapctl("--repo", self.repository, "--json", "points", key=True)
        found: list[dict[str, Any]] = json.loads(text)["points"]
        return found

    def _row(self, point: dict[str, Any], results: dict[str, str]) -> Row:
        went = self.story.runs.get(point["id"], {})
        return Row(
            point=point["id"],
            time=point["time"][11:19],
            method=point["method"],
            changed=point["changed_bytes"],
            shipped=point["shipped_bytes"],
            stored=point["stored_bytes"],
            suspend_s=went.get("suspend") or None,  # not seen by the run that shipped it
            cycle_s=went.get("duration"),
            compared=results.get(point["id"], ""),
            label=self.story.labels.get(point["id"], ""),
        )

    def _is_ready(self) -> bool:
        try:
            connection = _UnixConnection(self.socket)
            connection.request("GET", "/v1/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def _is_quiet(self) -> bool:
        (volume,) = self.ask("GET", "/v1/status")["volumes"]
        return volume["active_run"] is None and volume["last_run"]["result"] == "success"

    def _until(self, condition: Any, what: str, limit_s: float) -> Any:
        deadline = time.monotonic() + limit_s
        while not (found := condition()):
            if self.daemon is not None and self.daemon.poll() is not None:
                raise RuntimeError(f"the daemon ended while we waited for {what}\n{self.log()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {limit_s:.0f} s for {what}\n{self.log()}")
            time.sleep(0.1)
        return found

    def _remove_snapshots(self) -> None:
        for name in self.host.snapshot_names():
            run("lvremove", "-qqy", f"{self.host.vg}/{name}", check=False)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
