"""Guest: MariaDB under load on a protected volume; each point is restored, started, checked.

The server runs as ``nobody`` and has everything on the volume. What must be in a point are all
transactions that were committed before its run began.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import mariadb
from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import World
from tests.lab.guest.daemon_kit import LOG, Daemon, ask, bring_loopback_up, restored, type_in
from tests.lab.machine import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = Path("/run/lab/my")
SOCKET = RUN / "socket"
USER = "nobody"
AS_USER = (
    "setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups", "--", "env", f"TMPDIR={RUN}",
)  # fmt: skip
POINTS = 3
ACCOUNTS = 50
WAIT_S_MAX = 120.0
SMALL = (
    "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M",
    "--loose-innodb-buffer-pool-size-max=16M",  # by itself it asks for 8 TiB of addresses
    "--innodb-flush-log-at-trx-commit=2",  # so that the hook has something to do
)  # fmt: skip
PATH = f"{mariadb.BASE}/bin:{mariadb.BASE}/sbin:{os.environ['PATH']}"
# A hook is given a path of its own, on which a server that was only unpacked is not.
HOOKS = f"""
[[volume."vg/data".hook]]
at = "before-snapshot"
run = ["/usr/bin/env", "PATH={PATH}", "LD_LIBRARY_PATH={mariadb.libraries()}",
       "{RUN}/mysql-flush", "--no-defaults", "--socket={SOCKET}", "--user=root"]
timeout = "60s"
"""


def query(sql: str) -> list[str]:
    """Return the columns of the one row that ``sql`` finds."""
    words = ("--no-defaults", f"--socket={SOCKET}", "--user=root", "--batch", "-N", "-e", sql)
    return kit.run("mariadb", *words).strip().split("\t")


def committed() -> int:
    """Return how many transactions of the load the server holds."""
    return int(query("SELECT COUNT(*) FROM bench.history")[0])


@contextlib.contextmanager
def server(directory: Path) -> Iterator[None]:
    """Have the server in ``directory`` run; recovery is part of its start."""
    where = (f"--datadir={directory}", f"--socket={SOCKET}")
    argv = [*AS_USER, "mariadbd", "--no-defaults", "--skip-networking", *SMALL, *where]
    with (RUN / "log").open("wb") as log, subprocess.Popen(argv, stderr=log) as process:
        try:
            deadline = time.monotonic() + WAIT_S_MAX
            while not SOCKET.exists():
                assert process.poll() is None, (RUN / "log").read_text()
                assert time.monotonic() < deadline, (RUN / "log").read_text()
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(WAIT_S_MAX)


def prepare(world: World) -> Path:
    """Make the server's files, and the configuration with the hook; return the directory."""
    RUN.mkdir()
    shutil.copy(PROJECT / "packaging/hooks/mysql-flush", RUN)
    shutil.chown(RUN, USER)
    with open(world.config_path, "a", encoding="utf-8") as config:
        config.write(HOOKS)
    directory = kit.MOUNT / "my"
    directory.mkdir(mode=0o700)
    shutil.chown(directory, USER)
    kit.run(
        *AS_USER, "mariadb-install-db", "--no-defaults", f"--basedir={mariadb.BASE}",
        f"--datadir={directory}", "--auth-root-authentication-method=normal", "--skip-test-db",
        *SMALL,
    )  # fmt: skip
    return directory


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Have transactions committed: an entry in the history and a balance, always both."""
    argv = ["mariadb", "--no-defaults", f"--socket={SOCKET}", "--user=root", "bench"]
    ends = threading.Event()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, text=True) as client:
        sink = client.stdin
        assert sink is not None

        def write() -> None:
            number = 0
            while not ends.is_set():
                number += 1
                delta, account = number % 7, number % ACCOUNTS
                sink.write(
                    f"BEGIN; INSERT INTO history VALUES ({number}, {delta}); UPDATE account "
                    f"SET balance = balance + {delta} WHERE id = {account}; COMMIT;\n"
                )

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            ends.set()
            writer.join()


def make_points() -> None:
    """Make points while transactions are committed; tell what each must hold at least."""
    for number in range(POINTS):
        time.sleep(1)
        before = committed()
        code, documents = type_in("run", crash_world.VOLUME, "--wait")
        kit.tell(
            "point", number=number, code=code, run=documents[-1], before=before, after=committed()
        )


def refused() -> None:
    """Have a table without transactions: no snapshot is surely right about it."""
    query("CREATE TABLE bench.old (n INT) ENGINE=MyISAM")
    code, documents = type_in("run", crash_world.VOLUME, "--wait")
    query("DROP TABLE bench.old")
    kit.tell("refused", code=code, run=documents[-1])


def check(world: World, point_id: str) -> None:
    """Restore a point to a file, start the server in it, and have it checked."""
    with restored(world, point_id) as root, server(root / "my"):
        checked = query("CHECK TABLE bench.history, bench.account EXTENDED")
        sums = query(
            "SELECT (SELECT COUNT(*) FROM bench.history), (SELECT COALESCE(SUM(delta), 0) FROM "
            "bench.history), (SELECT SUM(balance) FROM bench.account)"
        )
    recovered = "crash recovery" in (RUN / "log").read_text()
    kit.tell("checked", id=point_id, said=" ".join(checked), recovered=recovered,
             committed=int(sums[0]), sums=[int(text) for text in sums[1:]])  # fmt: skip


def main() -> None:
    bring_loopback_up()
    socket.sethostname("localhost")
    os.environ |= {"PATH": PATH, "LD_LIBRARY_PATH": mariadb.libraries()}
    world = World("ext4", 300 * kit.MIB, 4096)
    world.make()
    directory = prepare(world)
    try:
        with server(directory):
            query(
                "CREATE DATABASE bench; USE bench; CREATE TABLE history (n INT PRIMARY KEY, delta "
                "INT); CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL); INSERT INTO"
                f" account SELECT seq, 0 FROM seq_0_to_{ACCOUNTS - 1}"
            )
            daemon = Daemon(world)
            daemon.until(lambda: ask("/v1/points")["points"], "the point of its start")
            with load():
                make_points()
                refused()
        kit.tell("points", points=(points := ask("/v1/points")["points"]))
        kit.tell("stopped", status=daemon.stop()[0])
        for point in points[1:]:  # the first was made before there was a transaction
            check(world, point["id"])
    except BaseException:
        sys.stderr.write((RUN / "log").read_text()[-4000:] + LOG.read_text()[-4000:])
        raise


main()
