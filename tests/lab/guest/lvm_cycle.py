"""Guest: COW space set up by the program; two snapshots under load, each byte compared.

Arguments: file system, chunk size in bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from blocksnapd.cycle import cow_space
from blocksnapd.cycle.lvm import Lvm
from tests.lab.guest import kit, lvm_kit

if TYPE_CHECKING:
    from blocksnapd.cycle.lvm_source import LvmSource

BASE, NEXT = lvm_kit.point(1), lvm_kit.point(2)


def held(file: str) -> int:
    """Return the bytes that a sparse file takes, -1 without a file."""
    return Path(file).stat().st_blocks * 512 if Path(file).exists() else -1


def digest(piece: memoryview) -> bytes:
    return hashlib.blake2b(piece, digest_size=8).digest()


def compare(source: LvmSource, chunk_size: int) -> None:
    """Tell how the listed changes and the saved content compare with the snapshots themselves."""
    before = kit.chunk_digests(f"/dev/vg/bs_{BASE}", chunk_size)
    after = kit.chunk_digests(f"/dev/vg/bs_{NEXT}", chunk_size)
    changes = source.changes(BASE)
    bounds = zip(changes.extents.starts.tolist(), changes.extents.ends.tolist(), strict=True)
    listed = {c for start, end in bounds for c in range(start // chunk_size, -(-end // chunk_size))}
    wrong, saved = [], set()
    read = itertools.chain(source.saved(BASE, batch_size=kit.MIB), [None])
    for batch, _ in itertools.pairwise(read):  # each when the next one is read already
        for row, chunk in enumerate(batch.chunks.tolist()):
            saved.add(chunk)
            piece = batch.data[row * chunk_size : (row + 1) * chunk_size]
            if digest(piece) != before[chunk]:
                wrong.append(chunk)
    changed = kit.changed_chunks(before, after)
    kit.tell(
        "compared",
        changed=len(changed),
        listed=len(listed),
        entries=changes.entries,
        missing=sorted(changed - listed)[:10],
        saved_wrong=wrong[:10],
        saved_all=saved == listed,
        size_read=sum(1 for _ in before) * chunk_size,
    )


def mode(file: str) -> str:
    return oct(Path(file).stat().st_mode & 0o777)


async def tell_programs(source: LvmSource, lvm: Lvm) -> None:
    """Tell which programs of lvm2 it takes to do what a cycle does when NEXT is the base."""
    begun, guards = len(lvm.recorder.runs()), "/run/lab/tmp/guards"
    for program in ("lvcreate", "lvremove"):
        lvm_kit.run_first(program, f"echo $PPID >> {guards}")  # its parent is the guard
    await source.observe()
    await source.take(BASE)
    await source.observe(again=True)
    await source.remove(NEXT)
    left = [s.point_id for s in (await source.observe(again=True)).snapshots]
    programs = [run.argv[0] for run in lvm.recorder.runs()[begun:]]
    kit.tell("programs", programs=programs, left=left, guards=kit.run("cat", guards).split())
    await source.remove(BASE)
    kit.tell("once more", guards=kit.run("cat", guards).split())


async def main(kind: str, chunk_size: int) -> None:
    lvm_kit.make_origin(kind)
    kit.make_fs("ext4", "/dev/ubdb", lvm_kit.SNAP_DISK)
    lvm = Lvm()
    space = cow_space.CowSpace(lvm_kit.COW_FILE, "vg", reserve=kit.MIB)
    first = await cow_space.create(lvm, space)
    again = await cow_space.create(lvm, space)
    kit.tell("created", first=first, again=again, mode=mode(lvm_kit.COW_FILE))
    source = lvm_kit.make_source(lvm, file=lvm_kit.COW_FILE, reserve=kit.MIB, chunk_size=chunk_size)
    with kit.Writer(kit.churn, kit.MOUNT, 1), lvm_kit.StallMeter(kit.MOUNT / "meter") as meter:
        taken = await source.take(BASE)
        await asyncio.sleep(1)
        meter.worst_s()
        second = await source.take(NEXT)
        stall_s = meter.worst_s()
        compare(source, chunk_size)
        source.check_valid((BASE, NEXT))
        view = await source.observe()
        before = held(lvm_kit.COW_FILE)
        await source.remove(BASE)
        left = [s.point_id for s in (await source.observe()).snapshots]
        kit.tell(
            "cycled",
            states=[s.state for s in view.snapshots],
            full_size=[s.size for s in view.snapshots],
            suspend_s=[taken.suspend_s, second.suspend_s],
            duration_s=[taken.duration_s, second.duration_s],
            stall_s=stall_s,
            held=before,
            held_after=held(lvm_kit.COW_FILE),
            left=left,
            findings=[f.code for f in await source.examine()],
        )
    await tell_programs(source, lvm)
    await source.remove(NEXT)
    done = await cow_space.remove(lvm, space)
    kit.tell("removed", done=done, devices=lvm_kit.devices(), held=held(lvm_kit.COW_FILE))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
