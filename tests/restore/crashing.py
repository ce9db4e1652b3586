"""A restore that is killed at its Nth step, again and again, in processes of its own.

    crashing.py TARGET SEED FIRST LAST [EACH]

For each N from FIRST to LAST a child begins the restore of the image that SEED makes and kills
itself with SIGKILL right before step N; then another restores to the end. A step is a write, a
sync, each half of what is appended to the journal, and what gives names. Prints a line of JSON for
each: what the second kept and wrote, and whether the target is the image. Ends when a child did
not die any more: there is no such step.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
from typing import TYPE_CHECKING, Any

from blocksnapd.restore.full import RestoreReport, restore_full
from blocksnapd.restore.journal import JOURNAL_SUFFIX, Journal
from blocksnapd.restore.resume import Resume
from blocksnapd.restore.target import examine, open_target
from blocksnapd.runtime import durable
from blocksnapd.units import KIB, MIB
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import U64
    from blocksnapd.restore.resume import Syncs

SIZE = 3 * MIB - 700


def make_image(seed: int, size: int = SIZE) -> MemoryImage:
    """Return an image with holes, and with zeros that are no holes."""
    dice, content = random.Random(seed), bytearray(size)
    for _ in range(8):
        at = dice.randrange(size)
        part = dice.randbytes(dice.choice([9000, 300_000, 300_000]))[: size - at]
        content[at : at + len(part)] = part
    content[:6000] = dice.randbytes(6000)
    return MemoryImage(bytes(content), seed=seed)


def journal_path(target: str) -> str:
    """Return where the journal lies; beside a device there is no room for one."""
    place = os.environ.get("JOURNALS")
    return os.path.join(place, "device") if place else target + JOURNAL_SUFFIX


def restore(
    image: MemoryImage, path: str, *, cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[Any], None] = lambda _: None,
) -> RestoreReport:  # fmt: skip
    """Restore as a worker does, with batches of a few blocks."""
    about = {"size": image.size, "sum": image.content[:50].hex()}
    journal = Journal(journal_path(path), about)
    keeps = bool(journal.read())
    plan = examine(path, image_size=image.size, data_size=image.size, overwrite=True)
    target = open_target(plan, keeps=keeps)
    resume = Steady(journal, image.without, batch_size=100 * KIB, batch_s=0)
    return restore_full(image, target, progress=progress, cancelled=cancelled, resume=resume)


class Steady(Resume):
    """Waits for each batch, so that a step is the same one each time."""

    def note(self, blocks: U64, content_sum: int, size: int, target: Syncs) -> None:
        super().note(blocks, content_sum, size, target)
        if self._syncing is not None:
            self._syncing.result()


def kill_before(step: int) -> None:
    """Let this process die before its step of that number."""
    steps = itertools.count()

    def here() -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            here()
            return function(*arguments, **named)

        return called

    def append(path: str, data: bytes, *, mode: int = 0o600) -> None:
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            here()
            whole_append(path, part, mode=mode)

    whole_append = durable.append
    durable.append = append  # type: ignore[assignment]
    os.pwrite = dying(os.pwrite)
    for name in ("sync_file", "publish", "publish_over", "remove", "replace"):
        setattr(durable, name, dying(getattr(durable, name)))


def main() -> None:
    path, seed, first, last, *each = sys.argv[1:]
    image = make_image(int(seed))
    for step in range(int(first), int(last), *map(int, each)):
        pid = os.fork()
        if pid == 0:
            kill_before(step)
            restore(image, path)
            os._exit(0)
        if os.waitpid(pid, 0)[1] != signal.SIGKILL:
            return
        report = restore(image, path)
        with open(path, "rb") as file:
            is_equal = file.read(image.size) == image.content
        told = {"step": step, "kept": report.kept_bytes, "written": report.written_bytes}
        print(json.dumps({**told, "equal": is_equal}), flush=True)
        if os.path.isfile(path):
            os.unlink(path)


if __name__ == "__main__":
    main()
