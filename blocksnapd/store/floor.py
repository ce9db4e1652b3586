"""The floor of a repository that a receiver keeps: how long nothing is forgotten there. Edge.

    <root>/.floor       {"floor_s": 2592000}       in a directory; in a bucket: floor_objects.py

Whoever keeps the repository writes it, and every tool that forgets points there obeys it: neither a
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
from blocksnapd.store.floor_objects import longest_floor_s
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from blocksnapd.store.objects import ObjectStore

NAME = ".floor"
_SIZE_MAX = 4096


def floor_s_of(store: ObjectStore) -> float:
    """Return for how many seconds after it arrived nothing forgets a point there; 0: no floor.

    Raises:
        StateError: it cannot be read, so nobody knows.
    """
    said_s = longest_floor_s(store)
    return max(said_s, _in_file(store)) if is_local(store.url) else said_s


def write_floor(root: str, floor_s: float | None) -> str:
    """Let nothing forget what arrived in the directory ``root`` for so long; None: no floor.

    Return what changed as a sentence, or "".
    """
    path = os.path.join(root, NAME)
    data = b"" if floor_s is None else json.dumps({"floor_s": floor_s}).encode() + b"\n"
    try:
        with open(path, "rb") as file:
            before = file.read(_SIZE_MAX)
    except FileNotFoundError:
        before = b""
    if data == before:
        return ""
    if floor_s is None:
        durable.remove(path)
        return "there is no floor any more"
    durable.replace(path, data, mode=0o644)
    return f"the floor is {format_duration(floor_s)} now"


def _in_file(store: ObjectStore) -> float:
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
