"""Whose turn it is to put the next point of a volume, where receivers do not see each other. Edge.

    turns/HOST/VOLUME/<place, 16 hex>-<round, 2 hex>      the name of the point that has it

The objects lie in the receivers' own folder, outside of every repository. Without them two points
could come into one place between a receiver's look at the chain and its put: both writers find
that by their look afterwards and neither relies on its point, but nobody goes on until an operator
decided. That need not be two writers: one that gave up begins anew elsewhere while its first put is
still under way.

A turn whose receiver died ends by the store's clock, or as soon as the same point comes again at
any receiver. Should that clock lie, it is as it would be without turns.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from blocksnapd.errors import (
    BlocksnapError,
    ObjectExistsError,
    StoreError,
    StoreMissingError,
)
from blocksnapd.store.names import parse_point_name
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.store.objects import ObjectStore

log = logging.getLogger(__name__)

# No request to the bucket that was sent within a turn lasts for longer, see ``s3_client.py``.
TURN_S_MAX: Final = 900.0
_TRIES: Final = 16
_SIZE_MAX: Final = 4096


@dataclass(slots=True)
class Turn:
    """The turn of one point; over at the end of its ``with``, unless the point may still land."""

    store: ObjectStore | None = None
    names: list[str] = field(default_factory=list)
    is_shared: bool = False
    _may_land: bool = False
    _has_landed: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        is_unused = not self._may_land and not self.is_shared
        if self.store is None or not (self._has_landed or is_unused):
            return
        # One that is over by the clock goes with the point alone: until then it keeps its round.
        names = self.names if self._has_landed else self.names[-1:]
        try:
            for name in names:
                self.store.delete(name)
        except StoreError as failed:
            # Whoever wants the place finds the point there, or waits for the clock.
            log.info("a turn was not ended: %s", failed.message)

    @contextmanager
    def landing(self) -> Iterator[None]:
        """Put the point inside; an error that may pass leaves open whether it arrives."""
        self._may_land = True
        try:
            yield
        except BlocksnapError as error:
            self._may_land = error.transient
            raise
        self._has_landed = True


class Turns:
    """The turns of all hosts; ``store`` is the receivers' own folder. Thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def take(self, host: str, point: str) -> Turn:
        """Return the turn of a host's point of that name.

        Raises:
            StoreError: another point has it, or the place failed.
        """
        said = parse_point_name(point)
        folder = f"turns/{host}/{said.volume_id}/{said.seq:016x}"
        # Of two tries of one point only the one that made the object may end what failed.
        data = f"{point} {secrets.token_hex(8)}".encode()
        names = [f"{folder}-00"]
        for _ in range(_TRIES):
            with suppress(ObjectExistsError):
                self._store.put(names[-1], [data])
                return Turn(self._store, names)
            with suppress(StoreMissingError):  # it ended in this moment
                has_it = self._point_of(names[-1])
                age_s = self._store.age(names[-1])
                if age_s > TURN_S_MAX:
                    names.append(f"{folder}-{len(names):02x}")
                elif has_it == point:
                    return Turn(self._store, names, is_shared=True)
                else:
                    raise _taken(point, f"{has_it} has its turn since {format_duration(age_s)}")
        raise _taken(point, "others take turns all the time")

    def _point_of(self, name: str) -> str:
        said = self._store.get(name, size_max=_SIZE_MAX).decode("ascii", "replace")
        return said.partition(" ")[0]


def _taken(point: str, why: str) -> StoreError:
    return StoreError(
        f"{point} must wait: {why}, at another receiver",
        effect="Nothing was committed by this call; the snapshot goes on tracking.",
        hint="It is tried again. If that receiver died, its turn ends after "
        f"{format_duration(TURN_S_MAX)}.",
    )
