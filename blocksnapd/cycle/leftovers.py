"""What commands that were cut off left in a volume group: told, for a person to decide. Edge.

    UNFINISHED    a volume that a restore made, and did not fill
    RESTORING     one that a restore is filling
    MERGE-CUT     a COW device that was to be merged into its origin
    VIEW-CUT      a snapshot for a view, without the view: cut off, or the host was booted since

What holds a device open is at work, and is not called cut off.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blocksnapd.cycle import merging, view_device
from blocksnapd.cycle.lvm_text import MERGE_PREFIX, VIEW_PREFIX
from blocksnapd.cycle.new_volume import TAG_UNFINISHED
from blocksnapd.cycle.volume_repair import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blocksnapd.cycle.lvm_text import LogicalVolume, VolumeName


def examine(
    volume: VolumeName,
    volumes: Iterable[LogicalVolume],
    is_there: Callable[[str], bool] = os.path.exists,
) -> list[Finding]:
    """Tell what is left, around ``volume`` and in its group.

    Args:
        volume: the protected volume.
        volumes: every volume of its group.
        is_there: whether a device of this path exists.
    """
    found = []
    for v in volumes:
        if TAG_UNFINISHED in v.tags:
            found.append(_filled(v) if v.is_open else _unfinished(v))
        elif v.name.startswith(MERGE_PREFIX) and f"{merging.TAG_OF}{volume.lv}" in v.tags:
            if v.attr[0] != merging.MERGING and not v.is_open:
                found.append(_not_merged(v, volume))
        elif v.name.startswith(VIEW_PREFIX) and v.origin == volume.lv:
            shown = view_device.device_name(volume, v.name.removeprefix(VIEW_PREFIX))
            if not is_there(f"/dev/mapper/{shown}") and not v.is_open:
                found.append(_not_shown(v, volume))
    return found


def _unfinished(v: LogicalVolume) -> Finding:
    return Finding(
        "UNFINISHED", f"{v.vg}/{v.name} was made for a restore that is not done.",
        "It holds only a part of a point.",
        f"Begin the restore again, it goes on; or lvremove {v.vg}/{v.name}.",
        fixable=False,
    )  # fmt: skip


def _filled(v: LogicalVolume) -> Finding:
    return Finding(
        "RESTORING", f"{v.vg}/{v.name} is being filled by a restore that is running.",
        "Until that is done, it holds only a part of a point.", "Wait for its end.",
        fixable=False,
    )  # fmt: skip


def _not_merged(v: LogicalVolume, volume: VolumeName) -> Finding:
    return Finding(
        "MERGE-CUT", f"{v.vg}/{v.name} was to be merged into {volume}, and that never began.",
        f"It takes room from the COW space; {volume} was not changed by it.",
        "Begin again what was cut off: blocksnapctl view --merge; or, if nothing of it is under"
        f" way, lvremove {v.vg}/{v.name}.",
        fixable=False,
    )  # fmt: skip


def _not_shown(v: LogicalVolume, volume: VolumeName) -> Finding:
    return Finding(
        "VIEW-CUT", f"{v.vg}/{v.name} was taken for a view of {volume}, which is not there.",
        f"Each block of {volume} that is overwritten is copied for it, into the COW space.",
        f"If nobody is just making a view: blocksnapctl view --end {volume}.",
        fixable=False,
    )  # fmt: skip
