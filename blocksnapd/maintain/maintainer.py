"""One round of maintenance of one volume: prune, merge, verify, heal, collect. Edge.

Every step may fail or die without harm to the others, and to any point: what a step made counts
once a manifest or a record names it. Nothing here waits for a writer, or keeps one waiting.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from blocksnapd.errors import BlocksnapError, BusyError
from blocksnapd.keep_rules import DAY_S, SECOND_US
from blocksnapd.maintain.collect import Collector, Marked
from blocksnapd.maintain.collect_rules import Patience
from blocksnapd.maintain.heal import find_healing
from blocksnapd.maintain.merge import merge_due
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.repack import Repacker
from blocksnapd.maintain.revise import revise
from blocksnapd.maintain.rolling import budget, with_verified
from blocksnapd.maintain.spans import unmerged
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.packing import PACKING_DEFAULT
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.listing import list_points
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import manifests_prefix
from blocksnapd.store.point_reader import PointReader
from blocksnapd.units import MIB, format_count, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocksnapd.maintain.merge import Merges
    from blocksnapd.maintain.retention import Policy
    from blocksnapd.maintain.verify_runs import Outcome
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.manifest_format import LayerRef, Manifest, PointEntry
    from blocksnapd.store.objects import ObjectStore

MERGE_SIZE_MAX = 256 * MIB
REPACK_SIZE_MIN = 64 * MIB  # of a small repository all at once
PROBLEMS_MAX = 20
STEP_TRIES = 3


class Tell(Protocol):
    """Hears what a round does, as events for the operator."""

    def __call__(self, kind: str, message: str, *, severity: str = "info", **data: object) -> None:
        """Take one event."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What an operator wants of a volume's maintenance.

    Attributes:
        policy: which points are kept; None: all of them.
        structure_s: seconds between two checks of the whole structure.
        data_per_day: share of the bytes of packs that is read whole each day, 0 to 1.
        merge_size: bytes of layers that one round may write.
        collect_s: seconds between two looks at what nothing needs any more.
        patience: how long that is left alone before it is deleted.
        repack_share: of the bytes of packs, how much may be repacked at each such look, 0 to 1.
    """

    policy: Policy | None = None
    structure_s: float = DAY_S
    data_per_day: float = 0.05
    merge_size: int = MERGE_SIZE_MAX
    collect_s: float = DAY_S
    patience: Patience = field(default_factory=Patience)
    repack_share: float = 0.1


class Round:
    """One round; see the module.

    Args:
        store: where the volume is.
        key: opens metadata.
        volume_id: which.
        orders: what is wanted.
        tell: hears what happens.
        now: returns seconds since the epoch, UTC.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: MaintenanceKey,
        volume_id: str,
        orders: Orders,
        tell: Tell,
        now: Callable[[], float],
    ) -> None:
        self._store, self._key, self._volume_id = store, key, volume_id
        self._orders, self._tell, self._now = orders, tell, now
        self._manifests = Manifests(store, key)
        self._reader = PointReader(store, key.source, key)

    def run(self) -> bool:
        """Do every step; return whether all went well.

        Raises:
            BusyError: another round is at work on the volume.
        """
        lock = self._store.lock(manifests_prefix(self._volume_id))
        try:
            steps = (self._prune, self._merge, self._verify, self._heal, self._collect)
            results = [self._try(step) for step in steps]
        finally:
            lock.release()
        return all(results)

    def _try(self, step: Callable[[], None]) -> bool:
        try:
            self._anew(step)
        except BlocksnapError as error:
            name = step.__name__.strip("_")
            self._tell("maintenance-failed", f"{name}: {error.sentences()}", severity="error")
            return False
        return True

    def _anew(self, step: Callable[[], None]) -> None:
        # What a step decided by one manifest is decided again when somebody changed it meanwhile.
        for _ in range(STEP_TRIES - 1):
            with suppress(BusyError):
                step()
                return
        step()

    def _prune(self) -> None:
        if self._orders.policy is None:
            return
        plan, ledger = Pruner(self._store, self._key, self._now).prune(
            self._volume_id, self._orders.policy
        )
        if ledger is None:
            said = "; ".join(guard.text for guard in plan.guards)
            self._tell(
                "prune-stopped",
                f"nothing was forgotten: {said}. Look at it and decide: blocksnapctl prune "
                "VOLUME --dry-run",
                severity="warning",
            )
        else:
            count = len(plan.forgotten)
            message = f"{format_count(count, 'point')} forgotten" if count else ""
            self._tell("pruned", message, points=count)

    def _merge(self, distrusted: frozenset[str] = frozenset()) -> None:
        loaded = self._manifests.newest(self._volume_id)
        listing = list_points(self._store, self._reader, loaded)
        if listing.missing:
            self._tell(
                "points-missing",
                f"{format_count(len(listing.missing), 'point')} that should be there cannot be "
                f"found: {listing.missing[0]}. Others may need what they hold. Bring them back "
                "from a copy of the repository, or find out who removed them.",
                severity="critical",
            )
        wanted = without_expired(listing.points, loaded.manifest, self._now_us())
        merges = merge_due(
            self._store, self._key, loaded, wanted,
            budget=self._orders.merge_size, distrusted=distrusted,
        )  # fmt: skip
        gone = passed_over(listing.points, wanted, merges.layers)
        after = revise(
            self._manifests,
            self._volume_id,
            lambda newest: with_merges(newest.manifest, listing.points, gone, merges),
            now_us=self._now_us,
            basis=loaded,
        )
        for problem in merges.problems:
            self._tell("merge-failed", problem, severity="error")
        manifest = after.manifest
        self._tell(
            "state",
            "",
            points=len(manifest.points) - len(manifest.forgotten),
            forgotten=len(manifest.forgotten),
            expired=len(gone),
            layers=len(manifest.layers),
            merged=len(merges.made),
            unmerged=unmerged(manifest.points, manifest.layers),
        )

    def _verify(self) -> None:
        loaded = self._manifests.newest(self._volume_id)
        since_s = seconds_since_verified(loaded.manifest, self._now_us())
        if not loaded.manifest.points or since_s < self._orders.structure_s:
            return
        runs = VerifyRuns(self._store, self._key, self._volume_id)
        outcome = runs.structure(self._now_us())
        self._note_verified(outcome)
        if damaged := damaged_layers(loaded.manifest, outcome):
            self._merge(damaged)  # they are made anew of what they were made of
        share = self._orders.data_per_day
        size = budget(outcome.check.packs, share, min(since_s, DAY_S)) if share else 0
        if size and outcome.check.packs:
            self._note_verified(runs.rolling(self._now_us(), size=size))

    def _note_verified(self, outcome: Outcome) -> None:
        revise(
            self._manifests,
            self._volume_id,
            lambda newest: replace(
                newest.manifest,
                verified=with_verified(newest.manifest, outcome.check.points, outcome.verified),
            ),
            now_us=self._now_us,
        )
        told: dict[str, Any] = {
            "level": outcome.level,
            "damaged_blocks": outcome.damaged_blocks,
            "read_bytes": outcome.read_bytes,
        }
        if outcome.is_whole:
            said = "the structure" if outcome.level == "structure" else "all that was read"
            size = f" ({format_size(outcome.read_bytes)})" if outcome.read_bytes else ""
            self._tell("verified", f"{said}{size} is whole", **told)
            return
        more = f" (and {len(outcome.problems) - 1} more)" if len(outcome.problems) > 1 else ""
        self._tell(
            "damage-found",
            f"{outcome.problems[0]}{more}. What the volume still has is shipped again by its next "
            "cycle. See what is harmed: blocksnapctl verify VOLUME",
            severity="critical",
            problems=list(outcome.problems[:PROBLEMS_MAX]),
            **told,
        )

    def _heal(self) -> None:
        records = CheckRecords(self._store, self._key.source, self._volume_id)
        healing = find_healing(self._store, self._key, self._volume_id, records.read())
        revise(
            self._manifests,
            self._volume_id,
            lambda newest: healing.applied(newest.manifest),
            now_us=self._now_us,
            basis=healing.basis,
        )
        healing.close(records, time_us=self._now_us())
        if healing.healed_blocks:
            count = format_count(healing.healed_blocks, "damaged block")
            self._tell(
                "healed",
                f"{count} can be read again: the volume had the same content, which was shipped "
                "anew.",
                blocks=healing.healed_blocks,
                left=healing.left_blocks,
            )

    def _collect(self) -> None:
        manifest = self._manifests.newest(self._volume_id).manifest
        if self._now_us() - manifest.collected_us < self._orders.collect_s * SECOND_US:
            return
        collector = Collector(
            self._store, self._key, self._volume_id, self._now_us, self._orders.patience
        )
        collected = collector.run()
        if collector.marked is not None:
            self._repack(collector.marked)
        revise(
            self._manifests,
            self._volume_id,
            lambda newest: replace(newest.manifest, collected_us=self._now_us()),
            now_us=self._now_us,
        )
        if collected.deleted:
            self._tell(
                "collected",
                f"{format_count(collected.deleted, 'object')} that no point needs deleted, "
                f"{format_size(collected.size)}",
                objects=collected.deleted,
                bytes=collected.size,
            )
        if collected.lost:
            self._tell(
                "packs-missing",
                f"{format_count(len(collected.lost), 'pack')} that points need cannot be found: "
                f"{collected.lost[0]}. Bring them back from a copy of the repository; see what is "
                "harmed: blocksnapctl verify VOLUME",
                severity="critical",
                packs=list(collected.lost[:PROBLEMS_MAX]),
            )

    def _repack(self, marked: Marked) -> None:
        # Before more is written the old packs' room is still taken: a share at a time.
        size = marked.loaded.manifest.pack_bytes
        done = Repacker(
            self._store, self._key, self._manifests, marked.loaded, marked.mark, marked.listed,
            now_us=self._now_us, packing=PACKING_DEFAULT,
        ).run(budget=max(REPACK_SIZE_MIN, round(self._orders.repack_share * size)))  # fmt: skip
        if done.read:
            self._tell(
                "repacked",
                f"{format_count(done.read, 'pack')} that were mostly dead became "
                f"{format_count(done.written, 'pack')}: {format_size(done.written_size)} instead "
                f"of {format_size(done.read_size)}, once the old ones are collected",
                packs=done.read,
                read_bytes=done.read_size,
                written_bytes=done.written_size,
            )

    def _now_us(self) -> int:
        return round(self._now() * SECOND_US)


def without_expired(
    points: Sequence[PointEntry], manifest: Manifest, now_us: int
) -> tuple[PointEntry, ...]:
    """Return the points that are kept, or forgotten and can still be brought back."""
    expired = {f.seq for f in manifest.forgotten if f.until_us <= now_us}
    return tuple(point for point in points if point.seq not in expired)


def passed_over(
    points: Sequence[PointEntry], wanted: Sequence[PointEntry], layers: Sequence[LayerRef]
) -> frozenset[int]:
    """Return the seqs of ``points`` that are not ``wanted`` and that nothing needs any more.

    That is so once a layer leads over them, or the next point is full; and below the first.
    """
    kept = {point.seq for point in wanted}
    spans = {(layer.from_seq, layer.to_seq) for layer in layers}
    gone: set[int] = set()
    waiting: list[int] = []
    before = 0
    for point in points:
        if point.seq not in kept:
            waiting.append(point.seq)
            continue
        if point.kind == "full" or (before, point.seq) in spans:
            gone.update(waiting)
        waiting, before = [], point.seq
    return frozenset(gone)


def with_merges(
    manifest: Manifest, points: Sequence[PointEntry], gone: frozenset[int], merges: Merges
) -> Manifest:
    """Return ``manifest`` with ``points`` listed, but those ``gone``, and the merged layers."""
    listed = {p.seq: p for p in (*points, *manifest.points) if p.seq not in gone}
    dropped = {layer.name for layer in merges.dropped}
    layers = {ref.name: ref for ref in (*manifest.layers, *merges.made) if ref.name not in dropped}
    return replace(
        manifest,
        points=tuple(listed[seq] for seq in sorted(listed)),
        layers=tuple(sorted(layers.values(), key=lambda ref: (ref.from_seq, ref.to_seq))),
        forgotten=tuple(f for f in manifest.forgotten if f.seq not in gone),
        holds=tuple(h for h in manifest.holds if h.seq not in gone),
        verified=tuple(v for v in manifest.verified if v.seq not in gone),
    )


def damaged_layers(manifest: Manifest, outcome: Outcome) -> frozenset[str]:
    """Return the names of layers that verification found to be wrong."""
    wrong = {check.name for check in outcome.check.objects.values() if check.problem}
    return frozenset(wrong.intersection(layer.name for layer in manifest.layers))


def seconds_since_verified(manifest: Manifest, now_us: int) -> float:
    """Return how long ago the structure was last checked whole; for ever when it never was."""
    newest = max((v.time_us for v in manifest.verified), default=None)
    return float("inf") if newest is None else max(0, now_us - newest) / SECOND_US
