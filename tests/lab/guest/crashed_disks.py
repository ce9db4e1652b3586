"""Guest: two file systems whose logs were not replayed, as a crash leaves them.

Tells the digests of the files that both have to have once their logs are replayed.
"""

import hashlib
import os
import random

from tests.lab.guest import kit

DISKS = {"xfs": "/dev/ubda", "ext4": "/dev/ubdb"}


def fill(kind: str) -> dict[str, str]:
    """Make files; those from the second half are in the log alone when the disk is cut off."""
    place, dice, digests = kit.MOUNT / kind, random.Random(kind), {}
    for number in range(20):
        file = place / f"d{number % 5}" / f"file{number}"
        file.parent.mkdir(exist_ok=True)
        data = dice.randbytes(dice.randrange(1, 30_000))
        fd = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        digests[str(file.relative_to(place))] = hashlib.sha256(data).hexdigest()
        if number == 10:
            os.sync()
    return digests


def main() -> None:
    for kind, disk in DISKS.items():
        kit.make_fs(kind, disk, kit.MOUNT / kind)
        digests = fill(kind)
        # Whatever was synced is in the log; nothing more reaches the disk after this.
        kit.run("xfs_io", "-x", "-c", "shutdown -f", str(kit.MOUNT / kind))
        kit.run("umount", str(kit.MOUNT / kind))
        # The guest takes half a minute to read all of the larger one through its client.
        image = kit.image_digest(disk) if kind == "ext4" else ""
        kit.tell("crashed", kind=kind, digests=digests, image=image)


if __name__ == "__main__":
    main()
