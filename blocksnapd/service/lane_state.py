"""Where the state of a volume is kept, of each of its targets if there are several. Edge.

    volumes/<name>/                    the volume's own: its id, pause, hooks, shared snapshots
    volumes/<name>/targets/<target>/   journal, fingerprints, points and session of one target

A volume that never had several targets keeps all of it in its own directory. What is there moves
when it gets a second one, so that none of its targets gets a full copy anew.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from blocksnapd.config import Config, Volume

_POINTS: Final = "points.jsonl"
_MOVED: Final = ("fingerprints", "session", "journal", _POINTS)  # the last one tells whose they are


def state_directory(config: Config, volume: str) -> str:
    """Return where the state of ``volume`` lives."""
    return os.path.join(config.daemon.state_dir, "volumes", quote(volume, safe=""))


def lane_directory(config: Config, settings: Volume) -> str:
    """Return where the state of a volume's target lives, moving what is elsewhere. Blocking.

    Raises:
        OSError: the disk of the state directory failed.
    """
    whole = state_directory(config, settings.name)
    own = os.path.join(whole, "targets", quote(settings.target, safe=""))
    if not settings.further:
        return own if os.path.isdir(own) else whole
    durable.make_dirs(own)
    if _owner(whole) == settings.target:
        for name in _MOVED:
            if os.path.exists(os.path.join(whole, name)):
                durable.publish_over(os.path.join(whole, name), os.path.join(own, name))
    return own


def _owner(directory: str) -> str:
    """Return the target whose state is in a volume's own directory; empty: nobody's."""
    try:
        with open(os.path.join(directory, _POINTS), "rb") as file:
            *_, last = file.read().splitlines()
        return str(json.loads(last).get("target", ""))
    except (FileNotFoundError, ValueError, AttributeError):
        return ""
