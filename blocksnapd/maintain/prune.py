"""Forget points, bring them back, hold them: the next generation of a volume's manifest. Edge.

Nothing is removed here. A forgotten point is hidden and stays whole until its window ends; only
then may collecting take what nothing else names. Whoever publishes a generation at the same time
wins or loses as a whole: the loser looks again and decides again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from blocksnapd.errors import NotFoundError, RefusedError
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.maintain.gaps import StackGaps
from blocksnapd.maintain.prune_frees import measure
from blocksnapd.maintain.prune_guards import Clocks, Guard, guards
from blocksnapd.maintain.prune_plan import check_plan, make_plan, with_shares
from blocksnapd.maintain.retention import Candidate, Verdict, decide
from blocksnapd.maintain.revise import revise
from blocksnapd.store.floor import floor_s_of
from blocksnapd.store.identity import check_repository
from blocksnapd.store.listing import entry_name, list_points
from blocksnapd.store.manifest_format import Forgotten, Hold
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import manifests_prefix, points_prefix
from blocksnapd.store.point_format import from_us
from blocksnapd.store.point_reader import PointReader
from blocksnapd.units import format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.maintain.prune_plan import Plan
    from blocksnapd.maintain.retention import Policy
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.manifest_format import LoadedManifest, Manifest, PointEntry
    from blocksnapd.store.objects import ObjectStore

_NOTHING = "Nothing was changed."
_LIST = "List the points with: blocksnapctl points --all"


@dataclass(frozen=True, slots=True)
class Ledger:
    """A volume's points as of one generation: listed ones, and names of those that are missing."""

    loaded: LoadedManifest
    points: tuple[PointEntry, ...]
    missing: tuple[str, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """What the generation says."""
        return self.loaded.manifest

    @property
    def names(self) -> dict[int, str]:
        """The names of the points' objects, by ``seq``."""
        return {e.seq: entry_name(self.loaded.volume_id, e) for e in self.points}

    def entry(self, point_id: str) -> PointEntry:
        """Return the point with this id.

        Raises:
            NotFoundError: it is not listed.
        """
        for entry in self.points:
            if entry.point_id == point_id:
                return entry
        raise NotFoundError(f"there is no point {point_id}", effect=_NOTHING, hint=_LIST)

    def forgotten(self, seq: int) -> Forgotten | None:
        """Return since and until when a point is forgotten, None when it is not."""
        return next((f for f in self.manifest.forgotten if f.seq == seq), None)

    def candidates(self, now_us: int) -> list[Candidate]:
        """Return the points that are there and not forgotten, by seq."""
        gone = {f.seq for f in self.manifest.forgotten}
        held = {h.seq: hold_text(h) for h in self.manifest.holds if is_held(h, now_us)}
        whole = {v.seq for v in self.manifest.verified if v.level != "structure"}
        missing = set(self.missing)
        return [
            Candidate(e.seq, e.point_id, e.time_us, e.tags, held.get(e.seq, ""), e.seq in whole)
            for e in self.points
            if e.seq not in gone and entry_name(self.loaded.volume_id, e) not in missing
        ]


class Pruner:
    """Retention of one repository. Thread-safe; blocking.

    Args:
        store: where it lies.
        key: opens metadata; with it manifests are read and made.
        now: returns seconds since the epoch, UTC.
    """

    def __init__(self, store: ObjectStore, key: MaintenanceKey, now: Callable[[], float]) -> None:
        self._store, self._key, self._now = store, key, now
        self._manifests = Manifests(store, key)
        self._reader = PointReader(store, key.source, key)

    @property
    def store(self) -> ObjectStore:
        """Where the repository lies."""
        return self._store

    @property
    def key(self) -> MaintenanceKey:
        """What opens its metadata."""
        return self._key

    def now_us(self) -> int:
        """Return the time in microseconds since the epoch."""
        return round(self._now() * SECOND_US)

    def look(self, volume_id: str) -> Ledger:
        """Return the volume's points as they are now.

        Raises:
            StoreMissingError: the repository is not there, or another one is.
            ChecksumError, RepositoryFormatError: the newest manifest or a new point is damaged.
            StoreError: the place failed.
        """
        # A mount point without its disk would pass for a volume without points.
        check_repository(self._store, self._key.source)
        return self._ledger(self._manifests.newest(volume_id))

    def plan(self, volume_id: str, policy: Policy) -> Plan:
        """Return what ``policy`` would do now; raises as ``look``."""
        ledger, now_us = self.look(volume_id), self.now_us()
        verdicts = self._floored(ledger, decide(ledger.candidates(now_us), policy, now_us))
        clocks = Clocks(now_us, last_us=ledger.loaded.time_us or None)
        found = guards(verdicts, policy, clocks)
        if ledger.missing and not all(v.keep for v in verdicts):
            found.append(_missing(ledger.missing))
        return make_plan(volume_id, ledger.loaded.generation, verdicts, found, policy, now_us)

    def measured(self, plan: Plan, progress: Callable[[int, int], None] | None = None) -> Plan:
        """Return ``plan`` with what it frees; reads the layers of every point.

        Raises:
            FormatError, StoreError, NotFoundError: a layer cannot be read.
        """
        if not plan.forgotten:
            return with_shares(plan, {}, 0)
        ledger = self.look(plan.volume_id)
        found = measure(
            [p.seq for p in plan.points],
            [p.seq for p in plan.forgotten],
            StackGaps(self._store, self._reader, ledger.loaded, ledger.points),
            progress=progress,
        )
        return with_shares(plan, found.alone, found.total)

    def apply(self, plan: Plan) -> Ledger:
        """Forget what ``plan`` forgets, exactly that, whatever guards said. Return the new state.

        Raises:
            RefusedError: the plan expired, or something changed since; the message says what.
            BusyError: others went on changing the manifest. Otherwise raises as ``look``.
        """
        now_us = self.now_us()
        new = tuple(
            Forgotten(p.seq, now_us, now_us + plan.undelete_us, plan.plan_id)
            for p in plan.forgotten
        )

        def change(ledger: Ledger) -> Manifest:
            check_plan(plan, ledger.candidates(now_us), now_us)
            self._check_floor(ledger, plan)
            both = sorted((*ledger.manifest.forgotten, *new), key=lambda f: f.seq)
            return replace(ledger.manifest, forgotten=tuple(both))

        return self._revise(plan.volume_id, change)

    def _floored(self, ledger: Ledger, verdicts: list[Verdict]) -> list[Verdict]:
        """Keep what arrived too recently for the place, whatever the policy says."""
        floor_s = floor_s_of(self._store)
        if not floor_s:
            return verdicts
        names, floor = ledger.names, f"floor {format_duration(floor_s)}"
        return [
            v
            if v.keep or self._store.age(names[v.point.seq]) >= floor_s
            else Verdict(v.point, (floor,))
            for v in verdicts
        ]

    def _check_floor(self, ledger: Ledger, plan: Plan) -> None:
        floor_s, names = floor_s_of(self._store), ledger.names
        for point in plan.forgotten:
            if floor_s and self._store.age(names[point.seq]) < floor_s:
                raise RefusedError(
                    f"{point.point_id} arrived less than {format_duration(floor_s)} ago, and "
                    "nothing that young is forgotten here",
                    effect=_NOTHING,
                    hint="That is the floor of this host in the receiver's configuration.",
                )

    def prune(self, volume_id: str, policy: Policy) -> tuple[Plan, Ledger | None]:
        """Do what the policy says, unless a guard speaks. Return the plan, and the new state.

        The state is None when a guard spoke: nothing was forgotten, somebody has to look at the
        plan. Raises as ``apply``.
        """
        plan = self.plan(volume_id, policy)
        if plan.guards:
            return plan, None
        return plan, self.apply(plan) if plan.forgotten else self.look(volume_id)

    def undelete(self, volume_id: str, point_id: str) -> Ledger:
        """Bring a forgotten point back, and hold it: or the next prune would forget it again.

        Raises:
            NotFoundError: there is no such point.
            RefusedError: it is not forgotten, or its window has ended. Otherwise as ``apply``.
        """
        now_us = self.now_us()

        def change(ledger: Ledger) -> Manifest:
            entry = ledger.entry(point_id)
            found = ledger.forgotten(entry.seq)
            if found is None:
                raise RefusedError(f"{point_id} is not forgotten", effect=_NOTHING, hint=_LIST)
            if found.until_us <= now_us:
                raise RefusedError(
                    f"{point_id} could be brought back until {_moment(found.until_us)}",
                    effect="Its content may be gone already. " + _NOTHING,
                    hint="Restore from another point.",
                )
            manifest = ledger.manifest
            left = tuple(f for f in manifest.forgotten if f.seq != entry.seq)
            held = _with_hold(manifest.holds, Hold(entry.seq, now_us, 0, "brought back"))
            return replace(manifest, forgotten=left, holds=held)

        return self._revise(volume_id, change)

    def hold(self, volume_id: str, point_id: str, *, until_us: int = 0, reason: str = "") -> Ledger:
        """Let nothing drop a point until ``until_us`` (0: for ever); a second hold replaces it.

        Raises:
            NotFoundError: there is no such point.
            RefusedError: it is forgotten, or ``until_us`` is past. Otherwise as ``apply``.
        """
        now_us = self.now_us()

        def change(ledger: Ledger) -> Manifest:
            entry = ledger.entry(point_id)
            if until_us and until_us <= now_us:
                raise RefusedError(f"{_moment(until_us)} is past", effect=_NOTHING)
            if ledger.forgotten(entry.seq) is not None:
                raise RefusedError(
                    f"{point_id} is forgotten", effect=_NOTHING,
                    hint=f"Bring it back with: blocksnapctl undelete {point_id}",
                )  # fmt: skip
            held = _with_hold(ledger.manifest.holds, Hold(entry.seq, now_us, until_us, reason))
            return replace(ledger.manifest, holds=held)

        return self._revise(volume_id, change)

    def release(self, volume_id: str, point_id: str) -> Ledger:
        """Leave a point to the policy again; one that is not held stays as it is.

        Raises:
            NotFoundError: there is no such point. Otherwise as ``apply``.
        """

        def change(ledger: Ledger) -> Manifest:
            seq = ledger.entry(point_id).seq
            return replace(
                ledger.manifest, holds=tuple(h for h in ledger.manifest.holds if h.seq != seq)
            )

        return self._revise(volume_id, change)

    def _revise(self, volume_id: str, change: Callable[[Ledger], Manifest]) -> Ledger:
        """Publish what ``change`` makes of the newest generation; return the new state."""
        check_repository(self._store, self._key.source)

        def wanted(loaded: LoadedManifest) -> Manifest:
            # What is decided on must be durable: a point or a manifest may be seen and vanish.
            for prefix in (points_prefix(volume_id), manifests_prefix(volume_id)):
                self._store.settle(prefix)
            ledger = self._ledger(loaded)
            found = change(ledger)
            return found if found == loaded.manifest else replace(found, points=ledger.points)

        return self._ledger(revise(self._manifests, volume_id, wanted, now_us=self.now_us))

    def _ledger(self, loaded: LoadedManifest) -> Ledger:
        listing = list_points(self._store, self._reader, loaded)
        return Ledger(loaded, listing.points, listing.missing)


def is_held(hold: Hold, now_us: int) -> bool:
    """Return whether a hold still counts."""
    return not hold.until_us or hold.until_us > now_us


def hold_text(hold: Hold) -> str:
    """Return a hold for people: ``held until 2026-12-01 00:00 UTC: audit``."""
    until = f" until {_moment(hold.until_us)}" if hold.until_us else ""
    return f"held{until}: {hold.reason}" if hold.reason else f"held{until}"


def _with_hold(holds: tuple[Hold, ...], new: Hold) -> tuple[Hold, ...]:
    return tuple(sorted((*(h for h in holds if h.seq != new.seq), new), key=lambda h: h.seq))


def _missing(names: tuple[str, ...]) -> Guard:
    text = f"{format_count(len(names), 'point')} that should be there cannot be found: {names[0]}"
    return Guard("missing", text + (" …" if len(names) > 1 else ""))


def _moment(time_us: int) -> str:
    return f"{from_us(time_us):%Y-%m-%d %H:%M} UTC"
