"""How fast a full restore is, beside ``zstd -d`` of the same bytes to the same disk, in one run.

    python -m tests.bench.bench_restore [MiB] [directory]

``zstd -d`` leaves its bytes in the page cache; ``+ sync`` is until they are on the disk, where a
restore always brings them. Three rounds, the best of each counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from blocksnapd.restore.full import RestoreReport, restore_full
from blocksnapd.restore.target import examine, open_target
from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository
from tests.bench.bench_store import make_image, timed, write_full

ROUNDS = 3


def restore(repository: Repository, path: str, *, verify: bool) -> RestoreReport:
    """Restore the only point to ``path``."""
    image = repository.open_image(repository.outlines("vol")[0].name)
    data_size = image.data_extents().size
    plan = examine(path, image_size=image.size, data_size=data_size)
    target = open_target(plan)
    return restore_full(
        image, target, progress=lambda _: None, cancelled=lambda: False, verify=verify
    )


def main() -> None:
    """Run and print."""
    size = int(sys.argv[1] if len(sys.argv) > 1 else 1024) << 20
    where = sys.argv[2] if len(sys.argv) > 2 else None
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=where) as directory:
        image, packed, out = (os.path.join(directory, n) for n in ("image", "image.zst", "out"))
        make_image(image, size)
        report = init_repository(f"{directory}/repo", f"{directory}/keys")
        repository = Repository.open(f"{directory}/repo", restore_key=report.restore_key)
        write_full(repository, image, size)
        timed("zstd", "-q", "-1", "-T2", image, "-o", packed)
        os.sync()

        def note(name: str, seconds: float) -> None:
            best[name] = min(best.get(name, seconds), seconds)

        for _ in range(ROUNDS):
            plain = timed("zstd", "-q", "-d", packed, "-o", out).wall_s
            synced = timed("sync", out).wall_s
            note("zstd -d", plain)
            note("zstd -d + sync", plain + synced)
            for verify in (False, True):
                os.unlink(out)
                start = time.perf_counter()
                done = restore(repository, out, verify=verify)
                note(f"restore{' + verify' * verify}", time.perf_counter() - start)
                if verify:
                    note("  of it writing", done.write_s)
                    note("  of it verifying", done.verify_s)
            subprocess.run(["cmp", image, out], check=True)
            os.unlink(out)
    for name, seconds in best.items():
        ratio = seconds / best["zstd -d"]
        print(f"{name:18} {seconds:6.2f} s  {size / seconds / 1e6:6.0f} MB/s  x{ratio:.2f}")
    print("restored images: equal")


if __name__ == "__main__":
    main()
