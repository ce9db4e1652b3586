"""Guest: PostgreSQL under pgbench on a protected volume; each point is restored, started, checked.

The cluster is its own, on the volume alone; it runs as ``nobody``, since it refuses root. What must
be in a point are all transactions that were committed before its run began.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import postgres
from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import World
from tests.lab.guest.daemon_kit import LOG, Daemon, ask, bring_loopback_up, restored, type_in
from tests.lab.machine import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = Path("/run/lab/pg")
USER = "nobody"
AS_USER = ("setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups", "--")
POINTS = 4
OPTIONS = f"-k {RUN} -c listen_addresses= -c shared_buffers=16MB -c max_wal_size=64MB"
HOOKS = """
[[volume."vg/data".hook]]
at = "before-snapshot"
run = ["{run}/pg-checkpoint", "--host={run}", "--username=postgres"]
user = "{user}"
timeout = "60s"

[[volume."vg/data".hook]]
at = "after-snapshot"
run = ["/bin/touch", "{run}/released"]
user = "{user}"
always = true
"""


def pg(program: str, *words: str, limit_s: float = 240.0) -> str:
    """Run a program of PostgreSQL's as the cluster's user; return what it prints."""
    return kit.run(*AS_USER, f"{postgres.bin_dir()}/{program}", *words, limit_s=limit_s)


def query(sql: str) -> list[str]:
    """Return the columns of the one row that ``sql`` finds."""
    row = pg("psql", "-XAtq", f"--host={RUN}", "--username=postgres", "--dbname=bench", "-c", sql)
    return row.strip().split("|")


def committed() -> int:
    """Return how many transactions of pgbench the cluster holds."""
    return int(query("SELECT count(*) FROM pgbench_history")[0])


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[None]:
    """Have the cluster in ``directory`` run; recovery is part of its start."""
    log = RUN / "log"
    pg("pg_ctl", "start", "-w", "-t", "200", "-D", str(directory), "-l", str(log), "-o", OPTIONS)
    try:
        yield
    finally:
        pg("pg_ctl", "stop", "-m", "fast", "-w", "-D", str(directory))


def prepare(world: World) -> Path:
    """Make the cluster, and the configuration with the hooks; return its directory."""
    RUN.mkdir()
    shutil.copy(PROJECT / "packaging/hooks/pg-checkpoint", RUN)
    shutil.chown(RUN, USER)
    with open(world.config_path, "a", encoding="utf-8") as config:
        config.write(HOOKS.format(run=RUN, user=USER))
    directory = kit.MOUNT / "pg"
    directory.mkdir(mode=0o700)
    shutil.chown(directory, USER)
    pg("initdb", "-D", str(directory), "-U", "postgres", "-A", "trust", "-k", "--no-locale")
    return directory


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Have pgbench commit transactions."""
    argv = [*AS_USER, f"{postgres.bin_dir()}/pgbench", "-h", str(RUN), "-U", "postgres"]
    argv += ["-n", "-c", "2", "-T", "10000", "bench"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as bench:
        try:
            yield
        finally:
            bench.send_signal(signal.SIGINT)


def make_points() -> None:
    """Make points while transactions are committed; tell what each must hold at least."""
    for number in range(POINTS):
        time.sleep(1)
        (RUN / "released").unlink(missing_ok=True)
        before = committed()
        code, documents = type_in("run", crash_world.VOLUME, "--wait")
        kit.tell(
            "point", number=number, code=code, run=documents[-1], before=before, after=committed(),
            released=(RUN / "released").exists(),
        )  # fmt: skip


def check(world: World, point_id: str) -> None:
    """Restore a point to a file, start the cluster in it, and have it checked."""
    (RUN / "log").unlink(missing_ok=True)
    with restored(world, point_id) as root, cluster(root / "pg"):
        words = ("--host", str(RUN), "--username=postgres", "--heapallindexed")
        said = pg("pg_amcheck", *words, "--install-missing", "--all")
        sums = query(
            "SELECT (SELECT count(*) FROM pgbench_history), "
            "(SELECT coalesce(sum(delta), 0) FROM pgbench_history), (SELECT sum(abalance) FROM "
            "pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
            "(SELECT sum(bbalance) FROM pgbench_branches)"
        )
    recovered = "automatic recovery in progress" in (RUN / "log").read_text()
    kit.tell("checked", id=point_id, amcheck=said, recovered=recovered,
             committed=int(sums[0]), sums=[int(text) for text in sums[1:]])  # fmt: skip


def break_the_hook() -> None:
    """Have a part of the cluster elsewhere: no snapshot of the volume is one of it."""
    elsewhere = kit.MOUNT / "pg/pg_tblspc/1"
    elsewhere.symlink_to(RUN)
    code, documents = type_in("run", crash_world.VOLUME, "--wait")
    elsewhere.unlink()
    kit.tell("elsewhere", code=code, run=documents[-1])


def main(kind: str) -> None:
    bring_loopback_up()
    os.environ["TZ"] = "UTC"
    world = World(kind, 500 * kit.MIB, 4096)
    world.make()
    directory = prepare(world)
    try:
        with cluster(directory):
            pg("createdb", "-h", str(RUN), "-U", "postgres", "bench")
            pg("pgbench", "-h", str(RUN), "-U", "postgres", "-q", "-i", "-s", "1", "bench")
            daemon = Daemon(world)
            daemon.until(lambda: ask("/v1/points")["points"], "the point of its start")
            with load():
                make_points()
                break_the_hook()
        points = ask("/v1/points")["points"]
        kit.tell("points", points=points)
        kit.tell("stopped", status=daemon.stop()[0])
        kit.run("umount", str(kit.MOUNT))  # XFS is not mounted twice
        for point in points:
            check(world, point["id"])
    except BaseException:
        sys.stderr.write(LOG.read_text()[-4000:])
        raise
    kit.tell("ended")


main(*sys.argv[1:])
