"""Several before one bucket at once: two writers, and a process that prunes and collects."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import CondemnedError
from blocksnapd.model import Access
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import load_restore
from blocksnapd.store.listing import entry_name, list_points
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.places import open_store
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.repository import Repository
from tests.store.support import Lab, check_image, point_id

if TYPE_CHECKING:
    from tests.servers.seaweed import SeaweedFs

WORK_S = 25.0
BLOCKS = 1200
MAINTAINER = (sys.executable, "-m", "tests.flow.bucket_maintainer")


class VolumeLab(Lab):
    """A ``Lab`` of a volume of its own name, whose points are of this very moment."""

    def __init__(self, volume: str, **more: object) -> None:
        self.volume = volume
        self.given: dict[str, bytes] = {}  # what each point that was tried must hold
        super().__init__(**more)

    def reopen(self) -> None:
        self.writer = Repository.on(self.store, source=self.keys.source)

    def sink(self, number: int, base: object = "newest"):
        base = self.writer.newest(self.volume)
        return self.writer.begin(
            self.volume, point_id(number), block_size=self.block_size, base=base
        )

    def facts(self, kind: str, number: int):
        made = super().facts(kind, number)
        return dataclasses.replace(made, volume_id=self.volume, time=datetime.now(UTC))


def protect(lab: VolumeLab, until: float) -> None:
    """Make points until then, as a source does: what was not committed goes into the next one."""
    number, changed = 0, np.empty(0, dtype=np.intp)
    while time.time() < until:
        number += 1
        start = int(lab.rng.integers(0, BLOCKS - 320))
        changed = np.union1d(changed, lab.write(range(start, start + 320), noise=True))
        lab.given[point_id(number)] = lab.bytes()
        is_full = not lab.kept or lab.writer.wanted(lab.volume).afresh
        with contextlib.suppress(CondemnedError):
            lab.commit(None if is_full else changed, number=number)
            changed = np.empty(0, dtype=np.intp)


def test_two_writers_and_a_maintenance_process(seaweed: SeaweedFs, tmp_path) -> None:
    url, access = seaweed.url(), Access(credentials=seaweed.admin)
    made = init_repository(url, str(tmp_path / "keys"), access=access)
    keys = load_restore(made.restore_key)
    labs = [
        VolumeLab(name, store=open_store(url, access), keys=keys, blocks=BLOCKS)
        for name in ("one", "two")
    ]
    until = time.time() + WORK_S
    with (
        ThreadPoolExecutor(len(labs)) as pool,
        subprocess.Popen(
            [*MAINTAINER, url, made.maintenance_key, seaweed.admin, str(until)],
            stdout=subprocess.PIPE, text=True,
        ) as maintenance,
    ):  # fmt: skip
        writers = [pool.submit(protect, lab, until) for lab in labs]
        said, _ = maintenance.communicate(timeout=6 * WORK_S)
        for writer in writers:
            writer.result()
    assert maintenance.returncode == 0, said
    events = [json.loads(line) for line in said.splitlines()]
    deleted = [data for kind, _, _, data in events if kind == "collected" and data["bytes"]]
    assert deleted, said
    # A point that is committed between the listings of packs and of points makes a collection
    # refuse what it was shown, and come again; nothing else may go wrong.
    wrong = [message for _, message, severity, _ in events if severity in ("error", "critical")]
    assert all("is there and was not listed" in message for message in wrong), said
    reader = Repository.on(open_store(url, access), restore=keys)
    for lab in labs:
        loaded = Manifests(lab.store, keys).newest(lab.volume)
        gone = {entry.seq for entry in loaded.manifest.forgotten}
        listing = list_points(lab.store, PointReader(lab.store, keys.source, keys), loaded)
        assert not listing.missing
        points = [
            reader.load_point(entry_name(lab.volume, entry))
            for entry in listing.points
            if entry.seq not in gone
        ]
        assert 2 <= len(points) < len(lab.given)
        assert points[-1].seq >= lab.kept[-1][0].seq
        for point in points:
            check_image(reader, point, lab.given[point.facts.point_id])
