"""All that a receiver keeps: which volumes of which hosts, and how old the newest point is. Edge.

Read from the directory or the bucket, so that it works beside a receiver that runs, and without
one. What a source says of time counts only where it makes things worse: exposure is from the older
of the time a point was taken and the time it arrived here.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blocksnapd.control.messages import EXIT_OK, EXIT_WARNINGS, SCHEMA, format_time
from blocksnapd.errors import BlocksnapError, FormatError, UsageError
from blocksnapd.receive.open_root import open_root
from blocksnapd.s3_url import is_s3
from blocksnapd.store.files import is_local, local_path
from blocksnapd.store.keys import load_maintenance
from blocksnapd.store.repository import Repository
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocksnapd.config_receive import Host, ReceiveConfig
    from blocksnapd.receive.roots import Root
    from blocksnapd.store.objects import ObjectStore

HEAD: Final = ("HOST", "VOLUME", "STATE", "EXPOSURE / RPO", "LAST POINT", "ARRIVED", "POINTS")
WELL: Final = ("protected", "no-rpo", "blocked")


@dataclass(frozen=True, slots=True)
class VolumeHere:
    """One volume of one host; times are seconds since 1970, None where there is no point.

    ``state``: ``protected`` or ``late`` by the RPO that the receiver was told; ``no-rpo``: it was
    told none; ``unprotected``: no point; ``damaged``: ``problem`` says what cannot be read;
    ``blocked``: nobody speaks for the host. ``volume`` is its id where no key tells the name.
    """

    host: str
    volume: str = ""
    volume_id: str = ""
    state: str = "unprotected"
    exposure_s: float | None = None
    rpo_s: float | None = None
    point_id: str = ""
    time_s: float | None = None
    arrived_s: float | None = None
    points: int = 0
    problem: str = ""

    @property
    def document(self) -> dict[str, object]:
        """The same as ``--json`` tells it."""
        newest = None
        if self.time_s is not None and self.arrived_s is not None:
            times = {"time": format_time(self.time_s), "arrived": format_time(self.arrived_s)}
            newest = {"id": self.point_id, **times}
        return {
            "host": self.host, "volume": self.volume, "volume_id": self.volume_id,
            "state": self.state, "exposure": self.exposure_s, "rpo": self.rpo_s,
            "last_point": newest, "points": self.points, "problem": self.problem or None,
        }  # fmt: skip


def root_named(root: str | None) -> str | None:
    """Return the directory, or the place in object storage, that ``root`` names.

    Raises:
        UsageError: it is neither.
    """
    if root is None:
        return None
    if is_s3(root):
        return root
    if not is_local(root):
        raise UsageError(
            f"{root!r} is neither a directory of this host nor a bucket: who comes from outside "
            "sees one host's repository at most",
            effect="Nothing was read.",
            hint="On the receiver itself: blocksnapctl --target /var/lib/blocksnap-receive status. "
            "From here, one repository: blocksnapctl --repo URL points",
        )
    return local_path(root)


def at_root(config: ReceiveConfig, root: str | None) -> ReceiveConfig:
    """Return the configuration of the receiver that keeps its hosts in ``root``, if it is told."""
    if root is None:
        return config
    receive = config.receive.model_copy(update={"root": root})
    return config.model_copy(update={"receive": receive})


def volumes_here(config: ReceiveConfig, now: float) -> list[VolumeHere]:
    """Return every volume of every host, sorted; a host without any is there with an empty name.

    Raises:
        BlocksnapError: the place of all hosts cannot be read.
    """
    root = open_root(config)
    hosts = root.hosts()
    return [one for host in hosts for one in _of_host(root, host, config.host(host), now)]


def show(config: ReceiveConfig, *, as_json: bool) -> int:
    """Print the table, or one document; return EXIT_OK if all is well, else EXIT_WARNINGS.

    Raises:
        BlocksnapError: the place of all hosts cannot be read.
    """
    now = time.time()
    found = volumes_here(config, now)
    if as_json:
        volumes = [one.document for one in found]
        told = {"schema": SCHEMA, "now": format_time(now), "root": config.receive.root}
        print(json.dumps({**told, "volumes": volumes}))
    else:
        print("\n".join(_page(found)))
    return EXIT_OK if all(one.state in WELL for one in found) else EXIT_WARNINGS


def _of_host(root: Root, host: str, said: Host, now: float) -> Iterator[VolumeHere]:
    try:
        store = root.opened(host)
        repository = _opened(store, said)
        volume_ids = repository.volumes()
    except BlocksnapError as error:
        yield VolumeHere(host, state="damaged", rpo_s=said.rpo_s, problem=error.message)
        return
    if not volume_ids:
        state = "blocked" if said.is_blocked else "unprotected"
        yield VolumeHere(host, state=state, rpo_s=said.rpo_s)
    for volume_id in volume_ids:
        try:
            yield _of_volume(repository, store, host, volume_id, now, said)
        except BlocksnapError as error:
            yield VolumeHere(
                host, volume_id, volume_id, "damaged", rpo_s=said.rpo_s, problem=error.message
            )


def _opened(store: ObjectStore, said: Host) -> Repository:
    # Only the names of volumes are sealed: without the key, or with a wrong one, there are ids.
    if said.maintenance_key is not None:
        with contextlib.suppress(BlocksnapError):
            return Repository.on(store, maintenance=load_maintenance(said.maintenance_key))
    return Repository.on(store)


def _of_volume(
    repository: Repository, store: ObjectStore, host: str, volume_id: str, now: float, said: Host
) -> VolumeHere:
    names = repository.names(volume_id)
    if not names:
        state = "blocked" if said.is_blocked else "unprotected"
        return VolumeHere(host, volume_id, volume_id, state, rpo_s=said.rpo_s)
    outline = repository.outline(names[-1])
    if outline is None:
        raise FormatError(f"the newest point, {names[-1]}, cannot be read")
    time_s, arrived_s = outline.time.timestamp(), now - store.age(names[-1])
    exposure_s = max(0.0, now - min(time_s, arrived_s))
    return VolumeHere(
        host, _name_of(repository, names[-1], volume_id, said), volume_id,
        _state(said, exposure_s), exposure_s, said.rpo_s, outline.point_id, time_s, arrived_s,
        len(names),
    )  # fmt: skip


def _state(said: Host, exposure_s: float) -> str:
    if said.is_blocked:
        return "blocked"
    if said.rpo_s is None:
        return "no-rpo"
    return "late" if exposure_s > said.rpo_s else "protected"


def _name_of(repository: Repository, name: str, volume_id: str, said: Host) -> str:
    if said.maintenance_key is not None:
        with contextlib.suppress(BlocksnapError):
            return repository.load_point(name).facts.volume_name
    return volume_id


def _page(found: Sequence[VolumeHere]) -> list[str]:
    rows = [HEAD, *(_row(one) for one in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    page = [head]
    for one, line in zip(found, lines, strict=True):
        page += [line, f"  └ {_clean(one.problem)}"] if one.problem else [line]
    return page


def _row(one: VolumeHere) -> tuple[str, ...]:
    exposure, rpo = ("–" if s is None else format_duration(s) for s in (one.exposure_s, one.rpo_s))
    times = ("–" if s is None else format_time(s) for s in (one.time_s, one.arrived_s))
    said = (one.host, one.volume or "–", one.state, f"{exposure} / {rpo}", *times, str(one.points))
    return tuple(map(_clean, said))


def _clean(text: str) -> str:
    # Names are a source's own words; none may steer the operator's terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
