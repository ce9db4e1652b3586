"""What lvm2 says when it fails, as errors an operator can act on. Pure.

Each rule: words found in its output, and the error they become. The first rule that fits wins,
so that causes stand before their consequences. lvm2's own words are always kept in the message.

Source: lvm2 2.03.16, messages of lvcreate, lvremove, lvs, vgextend, run with ``LC_ALL=C``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    DeviceMapperError,
    LvmError,
    NotAllowedError,
    SpaceError,
    VolumeError,
)

_SAID_SIZE_MAX = 600
_NOTHING = "Nothing was changed; the volume and its earlier points are not affected."


class _Rule(NamedTuple):
    pattern: str
    error: type[BlocksnapError]
    what: str
    hint: str
    effect: str = _NOTHING


_RULES = (
    _Rule(
        r"target\(s\) not detected in your kernel|modprobe: FATAL",
        DeviceMapperError, "The kernel lacks the device-mapper target 'snapshot'",
        "Run 'modprobe dm_snapshot', and name it in /etc/modules-load.d to have it after a boot.",
    ),
    _Rule(
        r"must be run as root|Permission denied|Operation not permitted",
        NotAllowedError, "lvm2 lacks the rights",
        "Run blocksnapd as root with CAP_SYS_ADMIN, CAP_MKNOD and CAP_IPC_LOCK.",
    ),
    _Rule(
        r"control: open failed|communicate with kernel device-mapper",
        DeviceMapperError, "There is no device-mapper here",
        "Run 'modprobe dm_mod dm_snapshot' on the host, or use the driver 'scan'.",
    ),
    _Rule(
        r"PVs? (?:are|is) missing|[Cc]ouldn't find device with uuid|missing PV|partial LV",
        VolumeError, "The volume group misses a physical volume",
        "Bring the disk back; if it is the COW space's file, 'blocksnapctl doctor --fix' attaches"
        " it. Never run 'vgreduce --removemissing --force': it deletes the origin.",
        "No snapshot can be taken; after a reboot the volume itself could not be activated.",
    ),
    _Rule(
        r"[Ii]nsufficient (?:free space|suitable)|[Nn]o free extents|not enough free space",
        SpaceError, "The volume group has no room for the snapshot's COW space",
        "Make the COW space larger, or remove snapshots that nobody needs ('lvs -a').",
    ),
    _Rule(
        r"No specified PVs have space",
        SpaceError, "No physical volume for COW space is in the group, or those there are full",
        "'pvs -o+pv_tags' shows them; set one up with 'blocksnapctl cow create', or enlarge it.",
    ),
    _Rule(
        r"[Nn]o PVs? (?:found )?with tag|[Pp]hysical [Vv]olume .* not found in [Vv]olume [Gg]roup"
        r"|[Ff]ailed to find physical volume|[Cc]annot find physical volume|No matching physical",
        SpaceError, "The physical volume for COW space is not in the volume group",
        "Set the COW space up ('blocksnapctl cow create'), or correct 'cow' in the configuration.",
    ),
    _Rule(
        r"Can't get lock|[Cc]annot (?:get|obtain) .*lock|Resource temporarily unavailable",
        BusyError, "Another lvm2 command holds the volume group's lock",
        "The next try waits for it; 'ps' shows a command that hangs.",
    ),
    _Rule(
        r"[Ff]ailed to (?:suspend|lock).*|suspend ioctl .*failed: Device or resource busy",
        BusyError, "The volume could not be suspended; somebody may hold its file system frozen",
        "Thaw it ('fsfreeze -u MOUNTPOINT'): device-mapper freezes by itself, nobody else has to.",
        "No snapshot was made; 'blocksnapctl doctor' shows what the try may have left.",
    ),
    _Rule(
        r"in use|used by another device|Device or resource busy|[Uu]nable to deactivate",
        BusyError, "A device is held open",
        "Find who holds it ('lsof', 'fuser -v') and close it; removal is tried again.",
        "The snapshot goes on taking space until it can be removed.",
    ),
    _Rule(
        r"Volume group \"[^\"]*\" not found|Failed to find (?:logical volume|VG)|[Cc]annot process"
        r" volume group",
        VolumeError, "The volume does not exist",
        "Compare the name in the configuration with 'lvs'.",
        "It is not protected until this is corrected; its earlier points are not affected.",
    ),
    _Rule(
        r"[Ss]napshots? (?:of|from) .*(?:not supported|not allowed|not permitted)"
        r"|not supported (?:on|with) .*(?:thin|pool|RAID|VDO|cache)",
        VolumeError, "lvm2 cannot take a classic snapshot of this kind of volume",
        "Use the driver 'thin' for thin volumes, or 'scan', which works with anything.",
    ),
)  # fmt: skip


def explain(argv: list[str] | tuple[str, ...], status: int, said: str) -> BlocksnapError:
    """Return the error for an lvm2 command that ended with ``status`` and ``said`` this."""
    for rule in _RULES:
        if re.search(rule.pattern, said):
            return rule.error(
                f"{rule.what}. {argv[0]}: {_short(said)}", effect=rule.effect, hint=rule.hint
            )
    ending = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
    return LvmError(
        f"{argv[0]} {ending}: {_short(said) or 'it said nothing'}",
        effect="What it left half-done is repaired before the next try.",
        hint="See the kernel log and 'lvs -a -o+lv_tags'; the daemon's log has its command line.",
    )


def not_installed(program: str) -> LvmError:
    """Return the error for a missing program of lvm2."""
    return LvmError(
        f"lvm2 is not installed: there is no program {program!r}.",
        effect=_NOTHING,
        hint="Install it (Debian: 'apt install lvm2'), or use the driver 'scan'.",
    )


def _short(said: str) -> str:
    return said if len(said) <= _SAID_SIZE_MAX else said[:_SAID_SIZE_MAX] + " ..."
