"""This repository beside zstd, borg and restic: the same images, the same disk, the same run.

    python -m tests.bench.bench_compare [--dir DIR] [--rounds 2] [--settings=-1:1024,3:1024]

The images are an XFS file system of 2 GiB and what it became after a while of use, with the COW
device that a real kernel wrote meanwhile (see images.py). Measured are the first full, the
increment and the restore of the second image.

- Ours are named by zstd's level and the KiB of a frame: FAST and SMALL of packing.py. They
  are whole cycles of the daemon's pipeline, encryption and hashing included, in a process that has
  started; the increment is what the COW device lists, and proves the point before. Images are read
  past the page cache, all others read them from it. Each ends with everything on the disk.
- zstd -1 -T2 neither encrypts nor syncs; its second image is compressed whole again.
- borg is given --read-special, as it would be a device: it reads and cuts the whole image each
  time, as restic does. Both encrypt and compress as they do by default.
- A restore goes to a sparse file. Ours syncs it, theirs are followed by sync; "verified" is with
  our reading back of everything.

Tools take turns; the best of all rounds counts. borg and restic are left out where they are not
installed: apt-get install borgbackup restic.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from blocksnapd.packing import FAST, SMALL
from blocksnapd.restore.full import restore_full
from blocksnapd.restore.target import examine, open_target
from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository
from tests.bench.costs import Cost, cost_of, cost_of_program
from tests.bench.images import Recording, record
from tests.bench.replay import VOLUME_ID, Replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.restore.full import RestoreReport

STEPS = ("first full", "increment", "restore", "verified")
SETTINGS = ",".join(f"{made.level}:{made.frame_size >> 10}" for made in (FAST, SMALL))
PASSWORD = "only for the measurement"
MIB = 1 << 20


class Result(NamedTuple):
    """What one tool did: the cost of each step, bytes of its repository after each image."""

    costs: dict[str, Cost]
    first_bytes: int
    both_bytes: int


# --- the others -----------------------------------------------------------------------------------


def run_zstd(images: Recording, place: str) -> Result:
    """Compress each image by itself."""
    first, both = os.path.join(place, "1.zst"), os.path.join(place, "2.zst")
    costs = {"first full": cost_of_program("zstd", "-q", "-1", "-T2", images.before, "-o", first)}
    cost_of_program("zstd", "-q", "-1", "-T2", images.after, "-o", both)
    out = os.path.join(place, "out")
    plain = cost_of_program("zstd", "-q", "-d", both, "-o", out)
    costs["restore"] = _synced(plain, out)
    return Result(costs, os.stat(first).st_size, os.stat(first).st_size + os.stat(both).st_size)


def run_borg(images: Recording, place: str) -> Result:
    """Make two archives."""
    repository = os.path.join(place, "repo")
    environment = {
        "BORG_BASE_DIR": place, "BORG_PASSPHRASE": PASSWORD, "BORG_REPO": repository,
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }  # fmt: skip
    folder, before = os.path.split(images.before)

    def borg(*argv: str, directory: str = folder) -> Cost:
        return cost_of_program("borg", *argv, environment=environment, directory=directory)

    borg("init", "--encryption", "repokey-blake2")
    costs = {"first full": borg("create", "--read-special", "::1", before)}
    first_bytes = _tree_size(repository)
    after = os.path.basename(images.after)
    costs["increment"] = borg("create", "--read-special", "::2", after)
    both_bytes = _tree_size(repository)
    plain = borg("extract", "--sparse", "::2", directory=place)
    costs["restore"] = _synced(plain, os.path.join(place, after))
    return Result(costs, first_bytes, both_bytes)


def run_restic(images: Recording, place: str) -> Result:
    """Make two snapshots."""
    repository = os.path.join(place, "repo")
    environment = {
        "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": repository,
        "RESTIC_CACHE_DIR": os.path.join(place, "cache"),
    }  # fmt: skip
    folder, before = os.path.split(images.before)

    def restic(*argv: str) -> Cost:
        return cost_of_program("restic", *argv, environment=environment, directory=folder)

    restic("init")
    costs = {"first full": restic("backup", before)}
    first_bytes = _tree_size(repository)
    after = os.path.basename(images.after)
    costs["increment"] = restic("backup", after)
    both_bytes = _tree_size(repository)
    out = os.path.join(place, "out")
    plain = restic("restore", "latest", "--path", images.after, "--target", out)
    costs["restore"] = _synced(plain, os.path.join(out, after))
    return Result(costs, first_bytes, both_bytes)


# --- ours -----------------------------------------------------------------------------------------


def run_ours(setting: str) -> Callable[[Recording, str], Result]:
    """Return what runs our own steps, in a process of their own."""

    def run(images: Recording, place: str) -> Result:
        argv = [sys.executable, "-m", __spec__.name, "--child", setting, place, *images]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
        costs, first_bytes, both_bytes = json.loads(done.stdout)
        return Result({step: Cost(*cost) for step, cost in costs.items()}, first_bytes, both_bytes)

    return run


def child(setting: str, place: str, images: Recording) -> Result:
    """Run our own steps."""
    level, frame_kib = map(int, setting.split(":"))
    url = os.path.join(place, "repo")
    made = init_repository(url, os.path.join(place, "keys"))
    repository = Repository.open(
        url, restore_key=made.restore_key, level=level, frame_size=frame_kib << 10
    )
    replay = Replay(images, repository, os.path.join(place, "state"))
    costs = {"first full": cost_of(replay.cycle)}
    first_bytes = _tree_size(url)
    costs["increment"] = cost_of(replay.cycle)
    both_bytes = _tree_size(url)
    out = os.path.join(place, "out")
    for step in ("restore", "verified"):
        costs[step] = cost_of(lambda step=step: restore(repository, out, verify=step == "verified"))
        subprocess.run(["cmp", images.after, out], check=True)
        os.unlink(out)
    return Result(costs, first_bytes, both_bytes)


def restore(repository: Repository, path: str, *, verify: bool) -> RestoreReport:
    """Restore the newest point to ``path``."""
    image = repository.open_image(repository.outlines(VOLUME_ID)[-1].name)
    plan = examine(path, image_size=image.size, data_size=image.data_extents().size)
    return restore_full(
        image, open_target(plan), progress=lambda _: None, cancelled=lambda: False, verify=verify
    )


# --- the table ------------------------------------------------------------------------------------


def measure(images: Recording, directory: str, rounds: int, settings: list[str]) -> None:
    """Run every tool in each round and print the table."""
    tools: dict[str, Callable[[Recording, str], Result]] = {"zstd -1 -T2": run_zstd}
    tools |= {f"ours {setting}": run_ours(setting) for setting in settings}
    tools |= {
        tool: run
        for tool, run in (("borg", run_borg), ("restic", run_restic))
        if shutil.which(tool)
    }
    best: dict[str, Result] = {}
    for _ in range(rounds):
        for tool, run in tools.items():
            os.sync()  # what the tool before has left is not to be this one's burden
            place = tempfile.mkdtemp(dir=directory)
            try:
                best[tool] = _better(best.get(tool), run(images, place))
            finally:
                shutil.rmtree(place)
    print_table(best)


def print_table(best: dict[str, Result]) -> None:
    """Print seconds (and CPU seconds), bytes and ratios."""
    print(f"{'':14}" + "".join(f"{step:>18}" for step in STEPS) + f"{'1 image':>11}{'both':>10}"
          f"{'memory':>9}")  # fmt: skip
    for tool, result in best.items():
        cells = "".join(_cell(result.costs.get(step)) for step in STEPS)
        memory = max(cost.memory for cost in result.costs.values())
        print(f"{tool:14}{cells}{result.first_bytes / 1e6:>8.1f} MB"
              f"{result.both_bytes / 1e6:>7.1f} MB{memory >> 20:>5} MiB")  # fmt: skip
    print("seconds on the clock (CPU seconds)\n")
    for tool, ours in best.items():
        if tool.startswith("ours"):
            print("\n    ".join([f"{tool}:", *_ratios(ours, best)]))


def _ratios(ours: Result, best: dict[str, Result]) -> list[str]:
    zstd, borg, restic = best["zstd -1 -T2"], best.get("borg"), best.get("restic")

    def ratio(step: str, other: Result) -> float:
        return ours.costs[step].wall_s / other.costs[step].wall_s

    found = [
        f"first full x{ratio('first full', zstd):.2f} of zstd -1 -T2's time (bar 1.15)",
        f"restore x{ratio('restore', zstd):.2f} of zstd -d's (bar 1.5)",
    ]
    if borg:
        faster = 1 / ratio("increment", borg)
        found.append(f"increment {faster:.1f} times as fast as borg's (bar 15)")
        found.append(f"first full x{ratio('first full', borg):.2f} of borg's (bar 1)")
    if restic:
        found.append(f"both images x{ours.both_bytes / restic.both_bytes:.3f} of restic's (bar 1)")
        found.append(f"one x{ours.first_bytes / restic.first_bytes:.3f}")
    return found


def _cell(cost: Cost | None) -> str:
    return f"{'-':>18}" if cost is None else f"{cost.wall_s:>10.2f} ({cost.cpu_s:5.2f})"


def _better(one: Result | None, other: Result) -> Result:
    if one is None:
        return other
    costs = {step: min(cost, one.costs[step]) for step, cost in other.costs.items()}
    return other._replace(costs=costs)


def _synced(plain: Cost, path: str) -> Cost:
    sync = cost_of_program("sync", path)
    return Cost(plain.wall_s + sync.wall_s, plain.cpu_s + sync.cpu_s, plain.memory)


def _tree_size(directory: str) -> int:
    return sum(
        os.stat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(directory)
        for name in names
    )


def main() -> None:
    """Measure and print, or run our own steps for that."""
    if sys.argv[1:2] == ["--child"]:
        setting, place, *images = sys.argv[2:]
        print(json.dumps(child(setting, place, Recording(*images))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dir", help="where images and repositories go; images there are used")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--settings", default=SETTINGS, metavar="LEVEL:FRAME_KIB,…")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = os.path.abspath(args.dir or scratch)
        measure(record(directory), directory, args.rounds, args.settings.split(","))


if __name__ == "__main__":
    main()
