"""Guest: restores onto logical volumes; what is refused, what is on them afterwards?

Each refusal is told as [class, message]; `plain` is the target of the restores that succeed.
"""

import hashlib
import os
import random

from blocksnapd.errors import BlocksnapError
from blocksnapd.restore import device_use
from blocksnapd.restore.full import restore_full
from blocksnapd.restore.target import examine, open_target
from tests.lab.guest import kit
from tests.restore.memory_image import MemoryImage

LV_SIZE = 24 * kit.MIB
IMAGE_SIZE = 20 * kit.MIB - 3 * 512  # the end of neither a block nor the volume
FLAWED = "/dev/mapper/flawed"


def make_image(seed: int) -> MemoryImage:
    dice = random.Random(seed)
    content = bytearray(IMAGE_SIZE)
    for at in (0, 700_000, 5 * kit.MIB - 1000, 12 * kit.MIB, IMAGE_SIZE - 9000):
        part = dice.randbytes(200_000)[: IMAGE_SIZE - at]
        content[at : at + len(part)] = part
    return MemoryImage(bytes(content), seed=seed)


def restore(image: MemoryImage, path: str, *, overwrite: bool = False) -> None:
    data_size = image.data_extents().size
    plan = examine(path, image_size=image.size, data_size=data_size, overwrite=overwrite)
    target = open_target(plan)
    restore_full(image, target, progress=lambda _: None, cancelled=lambda: False)


def refusal(path: str, image: MemoryImage, *, overwrite: bool = True) -> list[str]:
    try:
        restore(image, path, overwrite=overwrite)
    except BlocksnapError as error:
        return [type(error).__name__, error.message]
    return ["none", ""]


def fill(device: str) -> None:
    """Overwrite all of ``device`` with something that must not shine through."""
    piece = b"\xaa" * kit.MIB
    with open(device, "wb", buffering=0) as file:
        file.writelines([piece] * (LV_SIZE // kit.MIB))
        os.fsync(file.fileno())


def digest_of(image: MemoryImage) -> str:
    """Return what a device of LV_SIZE, full of 0xaa before, must have."""
    return hashlib.sha256(image.content.ljust(LV_SIZE, b"\xaa")).hexdigest()


def refusals(image: MemoryImage) -> None:
    mounted = kit.make_lv("vg", "mounted", LV_SIZE)
    kit.make_fs("ext4", mounted, kit.MOUNT)
    swap = kit.make_lv("vg", "swap", LV_SIZE)
    kit.run("mkswap", swap)
    kit.run("swapon", swap)
    small = kit.make_lv("vg", "small", 16 * kit.MIB)
    formatted = kit.make_lv("vg", "formatted", LV_SIZE)
    kit.run("mkfs.ext4", "-qF", formatted)
    open_lv = kit.make_lv("vg", "opened", LV_SIZE)
    kit.make_vg("idle", "/dev/ubdb")
    kit.make_lv("idle", "some", LV_SIZE)
    kit.run("vgchange", "-an", "idle")
    with kit.Writer(kit.scribble, open_lv, 1):
        while not device_use.users(open_lv):
            pass
        kit.tell("refused", what="opened", said=refusal(open_lv, image))
    for what, path in (
        ("mounted", mounted), ("swap", swap), ("small", small), ("held", "/dev/ubda"),
        ("idle", "/dev/ubdb"),
    ):  # fmt: skip
        kit.tell("refused", what=what, said=refusal(path, image))
    kit.tell("refused", what="formatted", said=refusal(formatted, image, overwrite=False))
    kit.run("umount", str(kit.MOUNT))
    kit.run("swapoff", swap)


def restores(image: MemoryImage) -> None:
    plain = kit.make_lv("vg", "plain", LV_SIZE)
    fill(plain)
    restore(image, plain)
    kit.tell("restored", wanted=digest_of(image), found=kit.image_digest(plain))


def restore_under_a_snapshot(image: MemoryImage) -> None:
    """The origin itself, not mounted, while a snapshot tracks it: the tracking goes on."""
    origin = kit.make_lv("vg", "origin", LV_SIZE)
    fill(origin)
    kit.run("lvcreate", "-qq", "--permission", "r", "-n", "s0", "-L", "40m", "-s", "vg/origin")
    before = kit.image_digest("/dev/vg/s0")
    for what in ("s0", "origin-real", "s0-cow"):
        kit.tell("refused", what=what, said=refusal(f"/dev/mapper/vg-{what}", image))
    restore(image, origin)
    kit.tell("restored", wanted=digest_of(image), found=kit.image_digest(origin))
    kit.tell("restored", wanted=before, found=kit.image_digest("/dev/vg/s0"))


def restore_onto_a_flaw(image: MemoryImage) -> None:
    """A device that fails between 10 and 11 MiB: what is left must not look whole."""
    plain, flaw, good = "/dev/vg/plain", 10 * kit.MIB // 512, 11 * kit.MIB // 512
    table = (
        f"0 {flaw} linear {plain} 0\n{flaw} {good - flaw} error\n"
        f"{good} {LV_SIZE // 512 - good} linear {plain} {good}\n"
    )
    kit.run("dmsetup", "create", "flawed", "--table", table)
    try:
        restore(image, FLAWED)
        said, effect = "none", ""
    except BlocksnapError as error:
        said, effect = type(error).__name__, error.effect
    with open(plain, "rb") as file:
        blank = not any(file.read(kit.MIB))
    kit.tell("flawed", said=said, effect=effect, blank=blank)


def main() -> None:
    image = make_image(3)
    kit.make_vg("vg", "/dev/ubda")
    refusals(image)
    restores(image)
    restore_under_a_snapshot(image)
    restore_onto_a_flaw(image)


main()
