"""Guest: restores to logical volumes that the restore makes: refused, killed, gone on with, whole.

Arguments: the repository, its key, the point. /dev/ubda is full of 0xaa, /dev/ubdb is COW space.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from blocksnapd.errors import BlocksnapError
from blocksnapd.maintain.prune import Pruner
from blocksnapd.restore import progress
from blocksnapd.restore.progress import Progress
from blocksnapd.restore.resume import Resume
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.service import restoring as service
from blocksnapd.service.runs import LiveRun
from blocksnapd.service.worker_points import WorkerPoints
from blocksnapd.store.files import LocalStore
from blocksnapd.store.keys import load_restore
from blocksnapd.store.repository import Repository
from tests.lab.guest import kit

REPOSITORY, KEY, POINT = sys.argv[1:]
STATE = "/run/lab/tmp/state"
BACK = "/dev/vg/back"


class Dying(service.Restoring):
    """One that is killed once it has done so many bytes."""

    dies_at = 1 << 60

    def _progress(self, now: Progress) -> None:
        super()._progress(now)
        if now.phase == "write" and now.done > self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


def restoring(to: str, **more: object) -> Dying:
    keys = load_restore(KEY)
    clock = SystemClock()
    pruner = Pruner(LocalStore(REPOSITORY), keys, clock.now)
    points = WorkerPoints(Repository.open(REPOSITORY, restore_key=keys), REPOSITORY, pruner)
    asyncio.run(points.load())
    run = LiveRun("r1", "restore", "disk", clock, clock.now())
    run.point, run.to = POINT, f"/dev/{to}"
    request = {"kind": "restore", "point": POINT, "to": run.to, "new": True, **more}
    return Dying(request, points, run, lambda: False)  # type: ignore[arg-type]


def refusal(what: str, to: str, **more: object) -> None:
    said, effect = "none", ""
    try:
        restoring(to, **more).do()
    except BlocksnapError as error:
        said, effect = error.message, error.effect
    kit.tell("refused", what=what, said=said, effect=effect, volumes=volumes())


def volumes() -> dict[str, list[str]]:
    words = ("-o", "lv_name,lv_size,lv_tags,devices", "--units", "b", "--nosuffix")
    report = json.loads(kit.run("lvs", "--reportformat", "json", *words, "vg"))
    return {
        lv["lv_name"]: [lv["lv_size"], lv["lv_tags"], lv["devices"]]
        for lv in report["report"][0]["lv"]
    }


def refusals() -> None:
    filler = kit.make_lv("vg", "filler", 80 * kit.MIB, "/dev/ubda")
    refusal("full", "vg/back")  # there would be room on the COW space
    refusal("exists", "vg/filler")
    refusal("no group", "other/back")
    kit.run("lvremove", "-qqy", "vg/filler")
    assert not os.path.exists(filler)
    planned = restoring("vg/back", dry_run=True)
    planned.do()
    kit.tell("planned", planned=planned._run.more["planned"], volumes=volumes())


class Prompt(Resume):
    """One that has remembered each batch before the next piece is written."""

    def note(self, *noted: object) -> None:
        super().note(*noted)  # type: ignore[arg-type]
        if self._syncing is not None:
            self._syncing.result()


def killed(dies_at: int) -> None:
    pid = os.fork()
    if pid == 0:
        progress.REPORT_EVERY_S = 0.0  # told at every piece, it can die at any
        Resume.__init__.__kwdefaults__.update(batch_size=kit.MIB, batch_s=0.0)
        service.Resume = Prompt
        dying = restoring("vg/back")
        dying.dies_at = dies_at
        dying.do()
        os._exit(1)
    status = os.waitpid(pid, 0)[1]
    with open(BACK, "rb") as file:
        blank = not any(file.read(kit.MIB))
    kit.tell("killed", status=status, blank=blank, volumes=volumes())


def finished() -> None:
    words = ["-m", "blocksnapctl", "restore", POINT, "--to", "vg/back", "--repo", REPOSITORY,
             "--key", KEY, "--json"]  # fmt: skip
    said = kit.run(sys.executable, *words)
    last = json.loads([line for line in said.splitlines() if line.startswith("{")][-1])
    with open(BACK, "rb") as file:
        size = file.seek(0, os.SEEK_END)
    kit.tell("finished", run=last, digest=kit.image_digest(BACK), size=size, volumes=volumes(),
             journals=os.listdir(f"{STATE}"))  # fmt: skip


def damaged() -> None:
    for pack in Path(REPOSITORY).glob("v/*/d/*/*.pk"):
        pack.unlink()
    refusal("damaged", "vg/lost")


def main() -> None:
    os.environ["XDG_STATE_HOME"] = STATE
    with open("/dev/ubda", "wb", buffering=0) as file:
        file.writelines([b"\xaa" * kit.MIB] * 128)
    kit.make_vg("vg", "/dev/ubda", "/dev/ubdb")
    kit.run("pvchange", "-qq", "--addtag", "blocksnap_cow", "/dev/ubdb")
    refusals()
    for dies_at in (20 * kit.MIB, 30 * kit.MIB):
        killed(dies_at)
    finished()
    refusal("finished", "vg/back")
    damaged()


main()
