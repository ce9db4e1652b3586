"""``doctor``: looks at everything the configuration names, tells what is wrong, repairs it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from blocksnapd.control.messages import EXIT_FAILED, EXIT_OK, SCHEMA
from blocksnapd.cycle import doctor
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.errors import BlocksnapError
from blocksnapd.service.cut_restores import cut_restores
from blocksnapd.service.targets import reach

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from blocksnapd.config import Config
    from blocksnapd.control.documents import Checkup, CheckupFinding
    from blocksnapd.cycle.doctor import Finding


RESTORING: Final = "RESTORING"  # the one thing that is told although it is as it should be


async def checkup(config: Config, *, fix: bool, form: str | None = None) -> int:
    """Print what is found and done; return 0 when everything is right, 1 when something is not.

    Args:
        config: what is to be looked at.
        fix: repair what can be repaired.
        form: ``json`` for one document, ``plain`` for fields with tabs between, None for people.
    """
    found = await _looked(config, fix=fix)
    if form == "json":
        print(json.dumps(found))
    elif form == "plain":
        for one in found["findings"]:
            print(
                "\t".join((one["code"], one["about"], one["message"], one["effect"], one["hint"]))
            )
    else:
        print("\n".join([*found["done"], *map(_sentence, found["findings"]), _summary(found)]))
    return EXIT_FAILED if _count_wrong(found) else EXIT_OK


async def _looked(config: Config, *, fix: bool) -> Checkup:
    lvm = Lvm()
    found: Checkup = {"schema": SCHEMA, "fixed": fix, "done": [], "findings": []}
    for settings in config.volumes.values():
        if settings.cow is not None:
            volume = VolumeName.parse(settings.name)
            file = config.cow[settings.cow.space].file
            if fix:
                await _told(found, settings.name, doctor.repair(lvm, volume, file=file))
            await _examined(found, settings.name, doctor.examine(lvm, volume, file=file))
    await _examined(found, "", asyncio.to_thread(cut_restores))
    for name, target in config.targets.items():
        await _told(found, name, reach(target))
    return found


async def _told(found: Checkup, about: str, work: Awaitable[list[str]]) -> None:
    try:
        found["done"] += await work
    except BlocksnapError as error:
        found["findings"].append(_failed(about, error))


async def _examined(found: Checkup, about: str, work: Awaitable[list[Finding]]) -> None:
    try:
        found["findings"] += [
            {
                "code": one.code, "about": about, "message": one.what, "effect": one.effect,
                "hint": one.fix, "fixable": one.fixable,
            }
            for one in await work
        ]  # fmt: skip
    except BlocksnapError as error:
        found["findings"].append(_failed(about, error))


def _failed(about: str, error: BlocksnapError) -> CheckupFinding:
    return {
        "code": error.code, "about": about, "message": error.message,
        "effect": error.effect or "", "hint": error.hint or "", "fixable": False,
    }  # fmt: skip


def _sentence(one: CheckupFinding) -> str:
    parts = (one["message"], one["effect"], one["hint"])
    return f"[{one['code']}] {' '.join(p for p in parts if p)}"


def _summary(found: Checkup) -> str:
    count = _count_wrong(found)
    if not count:
        return "everything is right"
    return "1 thing is not right" if count == 1 else f"{count} things are not right"


def _count_wrong(found: Checkup) -> int:
    return sum(one["code"] != RESTORING for one in found["findings"])
