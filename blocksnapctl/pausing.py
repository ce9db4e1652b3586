"""The verbs ``pause`` and ``resume``: a volume's schedule stops, and goes on. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from blocksnapctl.render import clean
from blocksnapctl.times import local_iso
from blocksnapctl.zone import LocalZone
from blocksnapd.control.messages import EXIT_OK

if TYPE_CHECKING:
    from blocksnapctl.commands import Context
    from blocksnapd.control.messages import VolumeStatus


def pause(context: Context) -> int:
    """Let the daemon make no points of a volume by itself, for a while or until told otherwise."""
    arguments, request = context.arguments, dict[str, Any]()
    if arguments.duration is not None:
        request["seconds"] = arguments.duration
    if arguments.reason:
        request["reason"] = arguments.reason
    found = context.daemon.post("volumes", arguments.volume, "pause", body=request)
    _tell(context, cast("VolumeStatus", found))
    return EXIT_OK


def resume(context: Context) -> int:
    """Let the daemon make points of a volume again."""
    arguments = context.arguments
    request = {"force": True} if arguments.yes else {}
    found = context.daemon.post("volumes", arguments.volume, "resume", body=request)
    _tell(context, cast("VolumeStatus", found))
    return EXIT_OK


def _tell(context: Context, volume: VolumeStatus) -> None:
    out, name, paused = context.output, volume["volume"], volume.get("paused")
    if out.as_json:
        out.document(volume)
    elif paused is None:
        out.data(f"{clean(name)}  resumed")
    else:
        until = paused.get("until")
        end = f"until {local_iso(until, LocalZone())}" if until else "until it is resumed"
        out.data(f"{clean(name)}  paused {end}")
