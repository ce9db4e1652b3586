"""Opens the parts of one volume: its change source, repository, journal and fingerprints."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.cycle import cow_space, view_device
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.journal import Journal
from blocksnapd.cycle.lane_source import LaneSource
from blocksnapd.cycle.lvm_source import CowPlace, LvmSource
from blocksnapd.cycle.scan_source import ScanSource
from blocksnapd.errors import BlocksnapError, ConfigError, StateError
from blocksnapd.parse.cow_device import CowDevice
from blocksnapd.parse.extents import merge_chunks
from blocksnapd.receiver_url import is_receiver
from blocksnapd.runtime import durable
from blocksnapd.service.catalogue import Catalogue, Marks
from blocksnapd.service.lane_state import lane_directory, state_directory
from blocksnapd.service.opened import Opened
from blocksnapd.service.prune_answers import Pruners
from blocksnapd.ship.fingerprints import FingerprintStore
from blocksnapd.shipping import Volume
from blocksnapd.store.repository import Repository

if TYPE_CHECKING:
    from blocksnapd.config import Config
    from blocksnapd.config import CowSpace as SpaceSettings
    from blocksnapd.config import Volume as Settings
    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.shared_snapshots import SharedSnapshots
    from blocksnapd.model import PointHead
    from blocksnapd.ports import ChangeSource, Clock
    from blocksnapd.service.lane_hooks import LaneHooks
    from blocksnapd.service.reporting import Say


@dataclass(frozen=True, slots=True)
class LvmWatch:
    """Looks at an LVM volume's COW space by ioctl and statvfs.

    ``lane`` knows which snapshot a point's is where several targets share them.
    """

    source: LvmSource
    space: SpaceSettings
    lvm: Lvm
    lane: LaneSource | None = None

    def cow_use(self, point_id: str) -> tuple[int, int] | None:
        """Return (bytes used, size) of the snapshot's COW device; None: it has none."""
        snapshot_id = self._snapshot(point_id)
        return self.source.cow_use(snapshot_id) if snapshot_id else None

    def is_given_up(self, point_id: str) -> bool:
        """Return whether the kernel gave the snapshot up."""
        snapshot_id = self._snapshot(point_id)
        return bool(snapshot_id) and self.source.is_given_up(snapshot_id)

    async def grow(self, point_id: str, rate: float) -> int:
        """Make the COW device larger, within its limits; return by how many bytes."""
        snapshot_id = self._snapshot(point_id)
        return await self.source.grow(snapshot_id, rate) if snapshot_id else 0

    def _snapshot(self, point_id: str) -> str:
        return self.lane.at(point_id) if self.lane is not None else point_id

    def disk_room(self) -> tuple[int, int] | None:
        """Return (bytes free, reserve) of the disk under the COW space."""
        return cow_space.disk_room(self.space.file).free, self.space.reserve

    async def end_views(self) -> list[str]:
        """End what shows the volume as it was; say what was done."""
        return await view_device.end(self.lvm, self.source.volume, self.directory)

    @property
    def directory(self) -> str:
        """Where the COW space's file is."""
        return os.path.dirname(self.space.file)


class VolumeOpener:
    """Opens one configured volume; tried again until everything is there.

    ``shared`` and ``hooks`` are there where it is for one of several targets.
    """

    def __init__(
        self, config: Config, settings: Settings, *, lvm: Lvm, clock: Clock, say: Say,
        shared: SharedSnapshots | None = None, hooks: LaneHooks | None = None,
    ) -> None:  # fmt: skip
        self._config = config
        self._settings = settings
        self._lvm = lvm
        self._clock = clock
        self._say = say
        self._shared, self._hooks = shared, hooks
        self._whole = state_directory(config, settings.name)
        self._pruners = Pruners(config.targets, clock)

    async def __call__(self) -> Opened:
        """Open the parts, after repairing what a crash left half done.

        Raises:
            BlocksnapError: one of them is missing; it is tried again later.
        """
        settings = self._settings
        await asyncio.to_thread(durable.make_dirs, self._whole)
        directory = await asyncio.to_thread(lane_directory, self._config, settings)
        source, watch = await self._source()
        view = await source.observe()
        target = self._config.targets[settings.target]
        repository = await asyncio.to_thread(
            Repository.open,
            target.url,
            access=target.access,
            source_key=target.source_key,
            level=settings.compression.level,
            frame_size=settings.compression.frame_size,
        )
        catalogue = Catalogue(directory, settings.name, settings.target)
        names = await asyncio.to_thread(repository.names, view.volume_id)
        await catalogue.load(names, repository.outline, is_cut=is_receiver(target.url))
        await self._mark(catalogue, view.volume_id)
        self._check_block_size(await asyncio.to_thread(repository.newest, view.volume_id))
        volume = Volume(
            name=settings.name,
            volume_id=view.volume_id,
            block_size=settings.block_size,
            source=source,
            store=repository,
            fingerprints=FingerprintStore(os.path.join(directory, "fingerprints")),
            journal=await asyncio.to_thread(self._journal, directory, view.volume_id),
            clock=self._clock,
            session_log=os.path.join(directory, "session"),
        )
        return Opened(volume, catalogue, watch)

    async def _mark(self, catalogue: Catalogue, volume_id: str) -> None:
        """Tell the catalogue what is held and forgotten, where there is a key to know it."""
        if not self._pruners.has(self._settings.target):
            return
        try:
            pruner = await self._pruners.of(self._settings.target)
            ledger = await asyncio.to_thread(pruner.look, volume_id)
        except BlocksnapError as error:  # new points are made all the same
            said = f"What is held and forgotten is not known: {error.sentences()}"
            name = self._settings.name
            self._say("manifest-unread", said, severity="error", volume=name, data={})
        else:
            catalogue.mark(Marks(ledger, pruner.now_us()))

    async def _source(self) -> tuple[ChangeSource, LvmWatch | None]:
        if self._settings.cow is None:
            volume_id = await asyncio.to_thread(_scan_id, self._whole)
            return ScanSource(self._settings.name, volume_id, self._clock), None
        space = self._config.cow[self._settings.cow.space]
        await asyncio.to_thread(_check_device_mapper)
        await cow_space.attach(self._lvm, as_cow_space(space))
        cow = self._settings.cow
        place = CowPlace(
            chunk_size=cow.chunk_size, file=space.file, reserve=space.reserve, size=cow.size,
            grow_by=cow.grow_by, size_max=cow.size_max, pv_reserve=cow.reserve,
        )  # fmt: skip
        source = self._lvm_source(place)
        if self._shared is None or self._hooks is None:
            self._tell_repaired(await source.repair())
            return source, LvmWatch(source, space, self._lvm)
        self._tell_repaired(await self._shared.open(self._lvm_source(place)))
        lane = LaneSource(self._shared, self._settings.target, source)
        self._hooks.source = lane
        return lane, LvmWatch(source, space, self._lvm, lane)

    def _lvm_source(self, place: CowPlace) -> LvmSource:
        return LvmSource(
            self._settings.name,
            lvm=self._lvm,
            place=place,
            open_cow=CowDevice,
            merge_chunks=merge_chunks,
        )

    def _tell_repaired(self, done: list[str]) -> None:
        for deed in done:
            self._say("repaired", deed, severity="warning", volume=self._settings.name, data={})

    def _journal(self, directory: str, volume_id: str) -> Journal:
        name = self._settings.name
        try:
            return Journal.open(directory, volume_id=volume_id, volume_name=name)
        except StateError as error:
            self._say("journal-lost", error.sentences(), severity="error", volume=name, data={})
            durable.remove(os.path.join(directory, "journal"))
            return Journal.open(directory, volume_id=volume_id, volume_name=name)

    def _check_block_size(self, newest: PointHead | None) -> None:
        size = newest.block_size if newest else self._settings.block_size
        if self._settings.cow is not None and self._settings.cow.chunk_size < size:
            raise ConfigError(
                f"{self._settings.name}: cow.chunk is {self._settings.cow.chunk_size} bytes, "
                f"smaller than the blocks of {size} bytes its points have",
                effect="It is not protected until this is corrected.",
                hint=f"Set cow.chunk to {size} or more.",
            )


def as_cow_space(space: SpaceSettings) -> cow_space.CowSpace:
    """Return a configured COW space as its driver knows it."""
    return cow_space.CowSpace(space.file, space.vg, space.size, space.reserve)


def _check_device_mapper() -> None:
    # Before anything is attached: where there is none, nothing of the host is changed.
    Control().close()


def _scan_id(directory: str) -> str:
    # A file has no identity of its own that survives a copy or a rename: it gets one here.
    path = os.path.join(directory, "id")
    try:
        with open(path, "rb") as file:
            return _known_id(path, file.read(200))
    except FileNotFoundError:
        volume_id = f"scan-{secrets.token_hex(16)}"
        durable.replace(path, volume_id.encode() + b"\n")
        return volume_id


def _known_id(path: str, data: bytes) -> str:
    found = re.fullmatch(rb"(scan-[0-9a-f]{32})\n?", data)
    if found is None:
        raise StateError(
            f"{path} does not hold the id of a volume",
            effect="The volume is not protected; its points are untouched.",
            hint="Bring the file back from a copy. Without it, remove it: then the volume begins a "
            "new history in the repository.",
        )
    return found[1].decode()
