"""Make the golden repository of the current format; run once per format, then never again.

    python -m tests.store.golden.generate

``tests/store/test_golden.py`` reads every one for ever: what was written must stay readable.
``format-1-first`` is what the first program of format 1 wrote, before there was maintenance.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

from blocksnapd.maintain.heal import find_healing
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.retention import Policy
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.keys import KdfCost, pack_maintenance, pack_restore, pack_source
from blocksnapd.store.repository import Repository
from tests.fakes.remembered import Remembered
from tests.maintain.collect_lab import CollectLab
from tests.store.support import BLOCK, START, VOLUME, point_id

HERE = os.path.dirname(__file__)
PASSPHRASE = "golden"
DAY_US = 86_400_000_000


class GoldenLab(CollectLab):
    """A volume whose source remembers where its content lies."""

    def __init__(self) -> None:
        super().__init__(blocks=60)
        self.now = START.timestamp()
        self.known = Remembered()
        self.writer = Repository.on(self.store, source=self.keys.source, frame_size=65536)

    def put(self, changed, *, full: bool = False) -> None:
        """Commit a point in which ``changed`` blocks may differ."""
        self.now += 3600
        number = self.sequence = getattr(self, "sequence", 0) + 1
        sink = self.writer.begin(
            VOLUME, point_id(number), block_size=BLOCK, base=self.writer.newest(VOLUME),
            known=self.known,
        )  # fmt: skip
        self.feed(sink, changed)
        facts = self.facts("full" if full else "delta", number)
        records = sink.finish(facts)
        point = sink.commit(facts)
        zeros = [b for b in np.asarray(changed).tolist() if not self.image[b].any()]
        self.known.committed(records, zeros, full=full, blocks=self.blocks)
        self.kept.append((point, self.bytes()))

    def copy(self, to, source) -> np.ndarray:
        """Give blocks ``to`` the content of ``source``; return them."""
        self.image[list(to)] = self.image[list(source)]
        return np.asarray(to)

    def heal_a_pack(self) -> None:
        """Damage a pack, ship what it held again, heal by patches; then mend the pack."""
        name = next(n for n in self.packs() if point_id(21) in n)
        whole = self.store.objects[name]
        self.store.objects[name] = bytes(100) + whole[100:]
        VerifyRuns(self.store, self.keys, VOLUME).whole(int(self.now * 1e6))
        wanted = np.unique(self.writer.wanted(VOLUME).blocks).astype(np.intp)
        self.known = Remembered()
        self.put(wanted)
        records = CheckRecords(self.store, self.keys.source, VOLUME)
        found = find_healing(self.store, self.key, VOLUME, records.read())
        loaded, _ = self.look()
        made = found.applied(loaded.manifest)
        assert made.patches
        assert not found.left_blocks
        self.manifests.publish(loaded, made, time_us=int(self.now * 1e6))
        found.close(records, time_us=int(self.now * 1e6))
        self.store.objects[name] = whole

    def story(self) -> None:
        """Play everything that format 1 can say."""
        self.write(range(4, 44), noise=True)
        self.put(np.flatnonzero(self.image.any(axis=1)), full=True)
        self.put(self.write([0, 10, 11, 59]))
        self.put(np.union1d(self.copy([50, 51, 52], [4, 5, 0]), self.write([20], noise=True)))
        self.put(self.zero([10, 12, 13]))
        self.resize(50 * BLOCK + 1024)
        self.put(self.write([3, 50]))
        self.resize(70 * BLOCK)
        for number in range(14):
            self.put(self.write([69, 20 + number, 5 + number], noise=number % 2 == 0))
        self.maintain()
        self.forget({2, 3, 5, 6, 7, 9, 10, 12, 13})
        assert self.collect_all().deleted > 3
        assert self.repack(with_data=True).written
        with patch("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 200_000):  # several frames
            self.put(self.write(range(2, 66), noise=True))
        self.put(self.write([*range(2, 30), *range(34, 66)]))
        self.put(self.copy([58, 59, 60], [40, 41, 31]))  # nothing but references
        self.forget({14, 15, 16, 17, 18, 20})
        self.pass_days(10)
        assert self.repack(with_data=False).written
        assert self.collect_all().deleted > 3
        self.heal_a_pack()
        self.maintain()
        pruner = Pruner(self.store, self.key, lambda: self.now)
        pruner.hold(VOLUME, point_id(8), reason="audit")
        plan = pruner.plan(VOLUME, Policy((), min_points=4, max_delete_pct=100.0))
        assert pruner.apply(plan).manifest.forgotten


def main() -> None:
    """Write ``format-1``: keys, objects, and the digest of each listed point's image."""
    lab = GoldenLab()
    clock = SimpleNamespace(strftime=time.strftime, gmtime=lambda: time.gmtime(lab.now))
    with (
        patch("blocksnapd.store.repository.time", clock),
        patch("blocksnapd.store.pack_writer.BATCH_SIZE", 65536),
        patch("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 60_000),
        patch("blocksnapd.store.sink.INLINE_SIZE_MAX", 8_000),
    ):
        lab.story()
    root = os.path.join(HERE, "format-1")
    cost = KdfCost(256, 1, 1)
    files = {f"repo/{name}": data for name, data in lab.store.objects.items()} | {
        "keys/source.key": pack_source(lab.keys.source),
        "keys/maintenance.key": pack_maintenance(lab.key),
        "keys/restore.key": pack_restore(lab.keys, PASSPHRASE, cost),
    }
    listed = set(lab.listed())
    images = {p.name: hashlib.sha256(i).hexdigest() for p, i in lab.kept if p.name in listed}
    assert listed == set(images)
    files["images.json"] = json.dumps(images, indent=2).encode() + b"\n"
    for name, data in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)


if __name__ == "__main__":
    main()
