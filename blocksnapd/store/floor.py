"""The floor of a directory that a receiver keeps: how long nothing is forgotten there. Edge.

    <root>/.floor       {"floor_s": 2592000}

Whoever keeps the directory writes it, and every tool that forgets points there obeys it: neither a
source nor a key of the repository can shorten it. It counts from when a point arrived, by the clock
of the place, not from when its source says it was made.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from blocksnapd.errors import StateError
from blocksnapd.runtime import durable
from blocksnapd.store.files import is_local, local_path

if TYPE_CHECKING:
    from blocksnapd.store.objects import ObjectStore

NAME = ".floor"
_SIZE_MAX = 4096


def floor_s_of(store: ObjectStore) -> float:
    """Return for how many seconds after it arrived nothing forgets a point there; 0: no floor.

    Raises:
        StateError: it cannot be read, so nobody knows.
    """
    if not is_local(store.url):
        return 0.0
    path = os.path.join(local_path(store.url), NAME)
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_SIZE_MAX))
        floor_s = float(found["floor_s"])
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise StateError(
            f"{path} does not tell how long points must be kept: {error}",
            effect="Nothing was forgotten.",
            hint="Have the receiver write it again: restart it, or send it SIGHUP.",
        ) from error
    return floor_s


def write_floor(root: str, floor_s: float | None) -> None:
    """Let nothing forget what arrived in the directory ``root`` for so long; None: no floor."""
    path = os.path.join(root, NAME)
    if floor_s is None:
        durable.remove(path)
        return
    data = json.dumps({"floor_s": floor_s}).encode() + b"\n"
    try:
        with open(path, "rb") as file:
            if file.read(_SIZE_MAX) == data:
                return
    except FileNotFoundError:
        pass
    durable.replace(path, data, mode=0o644)
