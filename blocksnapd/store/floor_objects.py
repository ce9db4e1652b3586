"""The floor of a repository in a bucket: objects, as there is no file beside them. Edge.

    f/<keeper, 16 hex>-<generation, 16 hex>.floor    {"floor_s": 2592000.0, "keeper": …, "check": …}

Each receiver before the bucket is a *keeper* and writes what its own configuration says; of one
keeper the highest generation counts, of all keepers **the longest floor**. So no receiver shortens
what another one promised, in whatever order they start, and two that differ by mistake keep too
much rather than too little. What a receiver that is gone for good still says is taken back by
removing its objects by hand.

A keeper writes a new generation first and removes its older ones then: somebody who looks meanwhile
sees one of them. ``check`` tells damage, not forgery: who may write there, holds the bucket's
credentials. See FORMAT.md § 15.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Final

import xxhash

from blocksnapd.errors import (
    FormatError,
    ObjectExistsError,
    RepositoryFormatError,
    StateError,
    StoreError,
    StoreMissingError,
)
from blocksnapd.store.names import FLOORS_PREFIX, floor_name, is_of, parse_floor_name
from blocksnapd.store.repo_file import read_json_map
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from blocksnapd.store.objects import ObjectStore

log = logging.getLogger(__name__)

FLOOR_SIZE_MAX: Final = 4096
FLOOR_S_MAX: Final = 1e10
_TRIES: Final = 5


def pack_floor(floor_s: float, keeper: str) -> bytes:
    """Return the bytes of a floor; ``keeper`` is for people."""
    said = {"floor_s": float(floor_s), "keeper": keeper[:256]}
    return json.dumps({**said, "check": _check(said)}).encode() + b"\n"


def unpack_floor(data: bytes, name: str) -> tuple[float, str]:
    """Return seconds, and who says so.

    Raises:
        RepositoryFormatError: it is damaged.
    """
    value = read_json_map(data, name)
    said = {"floor_s": value.get("floor_s"), "keeper": value.get("keeper")}
    floor_s, keeper = said.values()
    if not isinstance(floor_s, float) or not isinstance(keeper, str):
        raise RepositoryFormatError(f"{name} says no floor")
    if value.get("check") != _check(said) or not 0 <= floor_s <= FLOOR_S_MAX:
        raise RepositoryFormatError(f"{name} is damaged: it is not what was written")
    return floor_s, keeper


def longest_floor_s(store: ObjectStore) -> float:
    """Return the longest floor that a keeper says; 0: there is none.

    Raises:
        StateError: one of them cannot be read, so nobody knows. StoreError: the place failed.
    """
    for _ in range(_TRIES):
        try:
            newest = _newest(store.list_names(FLOORS_PREFIX))
            return max((_load(store, name)[0] for name in newest.values()), default=0.0)
        except StoreMissingError:
            continue  # its keeper wrote a new one meanwhile
        except FormatError as error:
            raise _nobody_knows(store, error.message) from error
    raise _nobody_knows(store, f"what is listed in {FLOORS_PREFIX} cannot be found")


def put_floor(store: ObjectStore, keeper: str, floor_s: float | None) -> str:
    """Let ``keeper`` say its floor, None: none; return what changed as a sentence, or "".

    Raises:
        StoreError: the place failed.
    """
    wanted, who = floor_s or 0.0, keeper_id(keeper)
    for _ in range(_TRIES):
        own = _own(store, who)
        before = _said(store, own[-1]) if own else 0.0
        if before == wanted:
            return ""
        generation = parse_floor_name(own[-1])[1] + 1 if own else 1
        try:
            store.put(floor_name(who, generation), [pack_floor(wanted, keeper)])
        except ObjectExistsError:
            continue  # another process of the same receiver: what did it say?
        _remove(store, own)
        was = "unreadable" if before is None else _text(before)
        return f"the floor is {_text(wanted)} now; it was {was}"
    raise StoreError(f"the floor of {store.url} cannot be written: others write it, too",
                     effect="The floor before counts.", hint="Send SIGHUP again.")  # fmt: skip


def keeper_id(keeper: str) -> str:
    """Return how a keeper stands in names: 16 hex digits."""
    return hashlib.blake2b(keeper.encode(), digest_size=8).hexdigest()


def _check(said: dict[str, object]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(said, sort_keys=True).encode())


def _newest(names: list[str]) -> dict[str, str]:
    # Sorted, and generations are of one length: the last one of a keeper is the newest.
    return {parse_floor_name(name)[0]: name for name in names}


def _load(store: ObjectStore, name: str) -> tuple[float, str]:
    return unpack_floor(store.get(name, size_max=FLOOR_SIZE_MAX), name)


def _own(store: ObjectStore, who: str) -> list[str]:
    names = [name for name in store.list_names(FLOORS_PREFIX) if is_of(parse_floor_name, name)]
    return [name for name in names if parse_floor_name(name)[0] == who]


def _said(store: ObjectStore, name: str) -> float | None:
    try:
        return _load(store, name)[0]
    except (FormatError, StoreMissingError):
        return None


def _remove(store: ObjectStore, names: list[str]) -> None:
    for name in names:
        try:
            store.delete(name)
        except StoreError as error:
            log.info("an older floor stays, and means nothing: %s", error.message)


def _text(floor_s: float) -> str:
    return format_duration(floor_s) if floor_s else "none"


def _nobody_knows(store: ObjectStore, why: str) -> StateError:
    return StateError(
        f"{store.url} does not tell how long points must be kept: {why}",
        effect="Nothing was forgotten.",
        hint="Have the receiver that wrote it write it again: send it SIGHUP. What a receiver "
        "that is gone for good wrote is removed by hand.",
    )
