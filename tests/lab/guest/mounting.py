"""Guest: points mounted by the real command on a real kernel, and unmounted whatever happened.

Arguments: short or long, the repository, its key, then points as KIND=ID. Tells what was seen at
each step.
"""

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.guest import kit

EXTENT, REPOSITORY, KEY, *POINTS = sys.argv[1:]
RECORDS = Path("/run/blocksnap-mounts")
DIRECTORIES = {kind: kit.MOUNT / f"at {kind}" for kind in ("xfs", "ext4", "parted")}


def ctl(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "blocksnapctl", *words], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "XDG_STATE_HOME": "/run/lab/tmp/state"},
    )  # fmt: skip


def done(*words: str) -> tuple[int, str]:
    process = ctl(*words)
    said = process.communicate(timeout=120)[0]
    return process.returncode, said


def mount(kind: str, point: str, *words: str) -> tuple[int, str]:
    return done("mount", point, str(DIRECTORIES[kind]), "--repo", REPOSITORY, "--key", KEY, *words)


def unmount(kind: str) -> tuple[int, str]:
    return done("unmount", str(DIRECTORIES[kind]))


def digests(place: Path) -> dict[str, str]:
    return {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }


def left() -> dict[str, object]:
    """Return what is still there of mounts: nothing should be."""
    return {
        "devices": [n for n in ("nbd0", "nbd1") if Path(f"/sys/block/{n}/pid").exists()],
        "records": [p.name for p in RECORDS.iterdir() if not p.name.startswith(".")],
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if "nbd" in line],
        "loops": kit.run("losetup", "--list", "--noheadings"),
    }


def facts() -> dict[str, str]:
    """Return what is recorded of the one mount there is."""
    found = {}
    for path in RECORDS.iterdir():
        if not path.name.startswith("."):
            for line in path.read_text().splitlines():
                found |= json.loads(line or "{}")
    return found


def workers() -> list[int]:
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                if b"--detached" in (place / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(place.name))
            except OSError:
                continue
    return found


def wait_until(is_so: object, what: str) -> None:
    deadline = time.monotonic() + 60
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def looked_at(points: dict[str, str]) -> None:
    for kind, point in points.items():
        code, said = mount(kind, point)
        place = DIRECTORIES[kind]
        kit.tell("mounted", kind=kind, code=code, said=said, digests=digests(place))
        if kind == "xfs":
            kit.tell("listed", said=done("mount", "--json")[1])
            kit.tell("refused", said=kit.run("touch", str(place / "new"), check=False))
            with (place / "d0/file0").open("rb"):
                kit.tell("busy", result=unmount(kind))
        else:  # two at once; a third device there is not
            kit.tell("unmounted", kind=kind, result=unmount(kind))
    kit.tell("unmounted", kind="xfs", result=unmount("xfs"))
    kit.tell("left", after="looking", **left())


def written(points: dict[str, str]) -> None:
    for kind in ("xfs", "ext4"):
        place = DIRECTORIES[kind]
        mount(kind, points[kind], "--rw")
        (place / "new").write_bytes(os.urandom(2_000_000))
        os.sync()
        count = len(digests(place))
        first = unmount(kind)
        mount(kind, points[kind])
        kit.tell("thrown", kind=kind, count=count, digests=digests(place), first=first)
        unmount(kind)
    kit.tell("left", after="writing", **left())


def killed(points: dict[str, str], *kinds: str) -> None:
    for kind in kinds:
        wait_until(lambda: not workers(), "the workers before did not end")
        mount(kind, points[kind], "--rw")
        (DIRECTORIES[kind] / "lost").write_bytes(b"x" * 100_000)
        (server,) = workers()
        os.kill(server, signal.SIGKILL)
        result = unmount(kind)
        kit.tell("killed", kind=kind, result=result)
        kit.tell("left", after=f"the end of the server of {kind}", **left())
        if EXTENT == "long":
            code, said = mount(kind, points[kind])
            kit.tell("mounted", kind=kind, code=code, said=said, digests=digests(DIRECTORIES[kind]))
            unmount(kind)


def is_recorded(fact: str, process: subprocess.Popen[str]) -> bool:
    return fact in facts() or process.poll() is not None


def cut_short(points: dict[str, str], *steps: str) -> None:
    """Kill the command itself, at steps that it records."""
    for fact in steps:
        process = ctl("mount", points["ext4"], str(DIRECTORIES["ext4"]), "--repo", REPOSITORY,
                      "--key", KEY)  # fmt: skip
        wait_until(functools.partial(is_recorded, fact, process), fact)
        process.kill()
        process.communicate()
        result = unmount("ext4")
        wait_until(lambda: not workers(), "the worker did not end")
        kit.tell("left", after=f"a kill at {fact}", result=result, **left())


def main() -> None:
    points = dict(found.split("=") for found in POINTS)
    for place in DIRECTORIES.values():
        place.mkdir()
    if EXTENT == "short":
        looked_at({"xfs": points["xfs"]})
        killed(points, "ext4")
    else:
        looked_at(points)
        written(points)
        killed(points, "xfs", "ext4")
        cut_short(points, "directory", "device", "mark", "mark")
    wait_until(lambda: not workers(), "a worker lives on")


if __name__ == "__main__":
    main()
