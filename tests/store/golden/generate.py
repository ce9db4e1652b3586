"""Make the golden repository of the current format; run once per format, then never again.

    python -m tests.store.golden.generate

``tests/store/test_golden.py`` reads every one for ever: what was written must stay readable.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import blocksnapd.store.pack_writer
import blocksnapd.store.sink
from blocksnapd.store.files import LocalStore
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import KdfCost, load_restore
from tests.store.support import Lab

HERE = os.path.dirname(__file__)
PASSPHRASE = "golden"


def main() -> None:
    """Write ``format-1``: a full point of several packs, deltas, zeros, a shrink and a growth."""
    blocksnapd.store.pack_writer.BATCH_SIZE = 65536
    blocksnapd.store.pack_writer.PACK_SIZE_TARGET = 15_000
    blocksnapd.store.sink.INLINE_SIZE_MAX = 8_000
    root = os.path.join(HERE, "format-1")
    report = init_repository(
        f"{root}/repo", f"{root}/keys", PASSPHRASE, kdf_cost=KdfCost(256, 1, 1)
    )
    keys = load_restore(report.restore_key, PASSPHRASE)
    lab = Lab(store=LocalStore(f"{root}/repo"), keys=keys, blocks=60)
    lab.write(range(4, 44))
    lab.commit()
    lab.commit(lab.write([0, 10, 11, 59]))
    lab.commit(lab.zero([10, 12, 13]))
    lab.resize(50 * 4096 + 1024)
    lab.commit(lab.write([3, 50]))
    lab.resize(70 * 4096)
    lab.commit(lab.write([69]))
    images = {point.name: hashlib.sha256(image).hexdigest() for point, image in lab.kept}
    with open(f"{root}/images.json", "w", encoding="utf-8") as file:
        json.dump(images, file, indent=2)
        file.write("\n")
    shutil.rmtree(f"{root}/repo/.tmp")
    shutil.rmtree(f"{root}/repo/v/{next(iter(os.listdir(f'{root}/repo/v')))}/.tmp")


if __name__ == "__main__":
    main()
