"""Guest: what ``volumes`` tells of LVM with a snapshot of ours and COW space, and a plain disk."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from pathlib import Path

from blocksnapd.cycle.lvm import Lvm
from tests.lab.guest import kit, lvm_kit
from tests.lab.guest.lvm_kit import point

CONFIG = "/run/lab/tmp/blocksnap.toml"
TEXT = """schema = 1
[target.here]
url = "/run/lab/tmp/repository"
source_key = "/run/lab/tmp/source.key"
"""


def volumes(*words: str) -> str:
    return kit.run(sys.executable, "-m", "blocksnapd", "volumes", "--config", CONFIG, *words)


def write(end: threading.Event) -> None:
    """Write 4 KiB, synced, again and again."""
    with open(kit.MOUNT / "busy", "wb", buffering=0) as file:
        while not end.wait(0.01):
            file.write(os.urandom(4096))
            os.fsync(file.fileno())


async def main() -> None:
    lvm_kit.make_origin()
    kit.make_lv("vg", "idle", 8 * kit.MIB, "/dev/ubda")
    lvm_kit.add_cow_disk()
    kit.run("mkfs.ext4", "-q", "/dev/ubdc")
    await lvm_kit.make_source(Lvm()).take(point(1))
    before = kit.run("lvs", "-a", "--noheadings", "-o", "lv_name,lv_attr")
    end = threading.Event()
    writer = threading.Thread(target=write, args=(end,))
    writer.start()
    kit.tell("day one", said=volumes("--json"), page=volumes())
    toml = json.loads(volumes("--json"))["volumes"][0]["toml"]
    await asyncio.to_thread(Path(CONFIG).write_text, TEXT + toml)
    kit.tell("pasted", said=volumes("--json"), plain=volumes("--plain"))
    end.set()
    writer.join()
    after = kit.run("lvs", "-a", "--noheadings", "-o", "lv_name,lv_attr")
    kit.tell("unchanged", same=before == after)


asyncio.run(main())
