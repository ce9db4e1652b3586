"""Which packs are read whole next: a share of the bytes a day, the longest unread first. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.keep_rules import DAY_S
from blocksnapd.store.manifest_format import Verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from blocksnapd.maintain.verify_levels import PackUse, PointCheck
    from blocksnapd.store.manifest_format import Manifest

_RANK = {"structure": 0, "data": 1, "source": 2}


def budget(packs: Mapping[str, PackUse], share: float, elapsed_s: float = DAY_S) -> int:
    """Return how many bytes of ``packs`` are due ``elapsed_s`` after the last run, at most all."""
    total = sum(use.place.ref.size for use in packs.values())
    return min(total, round(total * share * elapsed_s / DAY_S))


def choose(packs: Mapping[str, PackUse], checked: Mapping[str, int], size: int) -> list[str]:
    """Return the packs to read for ``size`` bytes: those never read first, oldest points first.

    ``checked`` tells when each was last read. One more than fits is read rather than one less, so
    that every pack has its turn whatever its size.
    """
    ordered = sorted(
        packs, key=lambda name: (checked.get(name, -1), packs[name].first_seq, name)
    )  # fmt: skip
    chosen = []
    for name in ordered:
        if size <= 0:
            break
        chosen.append(name)
        size -= packs[name].place.ref.size
    return chosen


def verified_by_data(
    points: Iterable[PointCheck],
    packs: Mapping[str, PackUse],
    checked: Mapping[str, int],
    *,
    time_us: int,
) -> Verified | None:
    """Return the newest point whose content is known to be whole, if there is one.

    A point needs no pack that was first named after it; so all packs of those before the first
    pack that was never read were.
    """
    unread = [use.first_seq for name, use in packs.items() if name not in checked]
    end = min(unread, default=None)
    whole = [p.seq for p in points if p.is_whole and p.is_known and (end is None or p.seq < end)]
    return Verified(whole[-1], time_us, "data") if whole else None


def with_verified(
    manifest: Manifest, points: Iterable[PointCheck], added: Iterable[Verified]
) -> tuple[Verified, ...]:
    """Return what a manifest should tell as verified: the newest point of each level.

    Points that are damaged now, or not listed by ``manifest``, count as verified no more; a point
    that was verified in two ways counts by the stronger.
    """
    whole = {p.seq for p in points if p.is_whole and p.is_known}
    whole &= {entry.seq for entry in manifest.points}
    newest: dict[str, Verified] = {}
    for entry in sorted([*manifest.verified, *added], key=lambda e: (e.seq, e.time_us)):
        if entry.seq in whole:
            newest[entry.level] = entry
    best: dict[int, Verified] = {}
    for entry in sorted(newest.values(), key=lambda e: _RANK[e.level]):
        best[entry.seq] = entry
    return tuple(best[seq] for seq in sorted(best))
