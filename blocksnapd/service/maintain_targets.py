"""One round of maintenance of configured targets, in the process that was started for it. Edge."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.control.messages import EXIT_FAILED, EXIT_OK
from blocksnapd.errors import BlocksnapError, FormatError, NotFoundError
from blocksnapd.maintain.maintainer import Orders, Round
from blocksnapd.service.pruning import policy_of_settings
from blocksnapd.store.keys import load_maintenance
from blocksnapd.store.places import open_store, upkeep_of
from blocksnapd.store.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocksnapd.config import Config, Target
    from blocksnapd.config import Volume as Settings
    from blocksnapd.model import Access
    from blocksnapd.store.keys import MaintenanceKey


@dataclass(frozen=True, slots=True)
class Place:
    """A repository to maintain. ``key``: path of its key; ``orders``: what is wanted of a volume.

    By the volume's name.
    """

    url: str
    access: Access
    key: str
    orders: Callable[[str], Orders]


class Teller:
    """Prints what happens to one volume: sentences for people, or JSON, one event a line."""

    def __init__(self, volume: str, *, as_json: bool) -> None:
        self._volume, self._as_json = volume, as_json

    def __call__(self, kind: str, message: str, *, severity: str = "info", **data: object) -> None:
        """Print one event; without a message it is for machines only."""
        if self._as_json:
            event = {
                "type": kind, "volume": self._volume, "severity": severity, "message": message,
                "data": data,
            }  # fmt: skip
            print(json.dumps(event), flush=True)
        elif message:
            print(f"{self._volume}: {message}" if self._volume else message, flush=True)


def maintain(
    config: Config,
    names: Sequence[str],
    *,
    as_json: bool,
    now: Callable[[], float] = time.time,
) -> int:
    """Maintain the named targets, or all that have a key for it; return the exit code.

    Raises:
        NotFoundError: a target is not configured, or has no maintenance_key.
    """
    with_key = {n: t for n, t in config.targets.items() if t.maintenance_key is not None}
    for name in names:
        if name not in with_key:
            raise NotFoundError(
                f"{config.path} has no [target.{name}] with a maintenance_key",
                effect="Nothing was done.",
                hint=f"It has: {', '.join(with_key) or 'none'}",
            )
    results = [
        _maintain_place(_place_of(config, name, with_key[name]), as_json=as_json, now=now)
        for name in names or with_key
    ]
    return EXIT_OK if all(results) else EXIT_FAILED


def maintain_place(place: Place, *, as_json: bool, now: Callable[[], float] = time.time) -> int:
    """Maintain a repository that no configuration of this host need name; return the exit code."""
    return EXIT_OK if _maintain_place(place, as_json=as_json, now=now) else EXIT_FAILED


def _place_of(config: Config, name: str, target: Target) -> Place:
    assert target.maintenance_key is not None
    configured = {v.name: v for v in config.lanes if v.target == name}
    return Place(
        target.url, target.access, target.maintenance_key,
        lambda volume: orders_for(configured.get(volume)),
    )  # fmt: skip


def _maintain_place(place: Place, *, as_json: bool, now: Callable[[], float]) -> bool:
    tell = Teller("", as_json=as_json)
    try:
        key = load_maintenance(place.key)
        repository = Repository.open(place.url, access=place.access, maintenance_key=key)
        volume_ids = repository.volumes()
    except BlocksnapError as error:
        tell("maintenance-failed", error.sentences(), severity="error")
        return False
    results = [
        _maintain_volume(place, key, repository, volume_id, as_json=as_json, now=now)
        for volume_id in volume_ids
    ]
    try:
        for sentence in upkeep_of(place.url, place.access):
            tell("place-kept-up", sentence)
    except BlocksnapError as error:
        tell("maintenance-failed", error.sentences(), severity="error")
        return False
    return all(results)


def _maintain_volume(
    place: Place,
    key: MaintenanceKey,
    repository: Repository,
    volume_id: str,
    *,
    as_json: bool,
    now: Callable[[], float],
) -> bool:
    tell = Teller(volume_id, as_json=as_json)
    try:
        head = repository.newest(volume_id)
        if head is None:
            return True
        volume = _volume_name(repository, volume_id)
        tell = Teller(volume, as_json=as_json)
        store = open_store(place.url, place.access)
        return Round(store, key, volume_id, place.orders(volume), tell, now).run()
    except BlocksnapError as error:
        tell("maintenance-failed", error.sentences(), severity="error")
        return False


def _volume_name(repository: Repository, volume_id: str) -> str:
    # A newest point that is damaged must not keep all others from being looked after.
    for name in reversed(repository.names(volume_id)):
        with contextlib.suppress(FormatError):
            return repository.load_point(name).facts.volume_name
    return volume_id


def orders_for(settings: Settings | None) -> Orders:
    """Return what the configuration wants of a volume; of one it does not know, no pruning."""
    if settings is None:
        return Orders()
    policy = settings.retention
    return Orders(
        policy=policy_of_settings(policy) if policy is not None else None,
        structure_s=settings.verify.structure_s,
        data_per_day=settings.verify.data_per_day,
    )
