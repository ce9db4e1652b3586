"""``doctor``: looks at everything the configuration names, tells what is wrong, repairs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.control.messages import EXIT_FAILED, EXIT_OK
from blocksnapd.cycle import doctor
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.errors import BlocksnapError
from blocksnapd.service.targets import reach

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from blocksnapd.config import Config


async def checkup(config: Config, *, fix: bool) -> int:
    """Print what is found and done; return 0 when everything is right, 1 when something is not."""
    lvm, bad = Lvm(), 0
    for settings in config.volumes.values():
        if settings.cow is not None:
            volume = VolumeName.parse(settings.name)
            file = config.cow[settings.cow.space].file
            if fix:
                bad += await _told(doctor.repair(lvm, volume, file=file))
            bad += await _examined(lvm, volume, file)
    for target in config.targets.values():
        bad += await _told(reach(target))
    count = "1 thing is" if bad == 1 else f"{bad} things are"
    print(f"{count} not right" if bad else "everything is right")
    return EXIT_FAILED if bad else EXIT_OK


async def _told(work: Awaitable[list[str]]) -> int:
    try:
        for sentence in await work:
            print(sentence)
    except BlocksnapError as error:
        print(f"[{error.code}] {error.sentences()}")
        return 1
    return 0


async def _examined(lvm: Lvm, volume: VolumeName, file: str) -> int:
    try:
        findings = await doctor.examine(lvm, volume, file=file)
    except BlocksnapError as error:
        print(f"[{error.code}] {error.sentences()}")
        return 1
    for found in findings:
        print(f"[{found.code}] {found.what} {found.effect} {found.fix}")
    return len(findings)
