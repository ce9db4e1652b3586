"""What a writer decides about collections: commit, give up, or ship everything afresh. Pure.

A collection publishes what it will delete, waits, looks at the points once more, and then deletes.
A writer puts its point and then looks at what was published. Whichever of the two comes first,
the other sees it:

    writer      note the epoch … put packs … look … put the point … look ─▶ acknowledged
    collection                mark … publish the list … wait … look, mark ─▶ delete

This needs no clock. Clocks come on top: a list holds nothing young, and a session gives up when it
is old, so that honest writers and collections never meet. ``tests/model`` walks through all states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from blocksnapd.store.names import parse_pack_name, parse_point_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from blocksnapd.store.collection_format import Condemned

# As long as the first full of a very large volume may take. What no point names is left alone for
# longer than that, so a shorter limit would only free the leftovers of killed sessions earlier.
SESSION_S_MAX = 7 * 86400.0

Refusal = Literal["", "late", "shrunk", "unknown", "condemned"]


def noted_epoch(seen: int, base_epoch: int) -> int:
    """Return the epoch a session starts from.

    Args:
        seen: the highest epoch of any list or proof that is there; 0 for none.
        base_epoch: what the base says; it is the higher one where lists were lost.
    """
    return max(seen, base_epoch)


def is_unchanged(noted: int, seen: int | None) -> bool:
    """Return whether nothing was published since ``noted``; then no list needs to be read.

    That is all that a place which looks by itself goes by: it knows no session's packs. ``seen``
    None: it could not tell.
    """
    return seen == noted


def refusal(
    noted: int,
    seen: int,
    lists: Mapping[int, Condemned],
    references: Collection[str],
    *,
    age_s: float,
    age_s_max: float = SESSION_S_MAX,
) -> Refusal:
    """Return why a session must not commit, or not rely on what it committed; "" if it may.

    Args:
        noted: the epoch it started from.
        seen: the highest epoch now.
        lists: the lists above ``noted`` that are there, by epoch.
        references: the packs its point names.
        age_s: for how long it has been going on.
        age_s_max: for how long it may.
    """
    if age_s > age_s_max:
        return "late"
    if seen < noted:
        return "shrunk"
    if any(epoch not in lists for epoch in range(noted + 1, seen + 1)):
        return "unknown"
    named = set(references)
    if any(not named.isdisjoint(lists[epoch].packs) for epoch in range(noted + 1, seen + 1)):
        return "condemned"
    return ""


def is_tainted(
    point_name: str, point_epoch: int, seen: int, lists: Mapping[int, Condemned]
) -> bool:
    """Return whether packs of a committed point may have been deleted before it was seen.

    A writer that stalled for days, committed and died before its last look leaves such a point.
    Whoever goes on from it ships everything afresh.

    Args:
        point_name: the newest point.
        point_epoch: the epoch in its header.
        seen: the highest epoch now.
        lists: the lists above ``point_epoch`` that are there, by epoch.
    """
    seq, session = parse_point_name(point_name)[1:]
    for epoch in range(point_epoch + 1, seen + 1):
        found = lists.get(epoch)
        if found is None:
            return True  # nothing removes the lists above the newest point's epoch
        if found.newest_seq >= seq:
            return False  # this mark and all later ones have seen the point
        if any(parse_pack_name(name).session == session for name in found.packs):
            return True
    return False


def rivals(point_name: str, names: Iterable[str]) -> list[str]:
    """Return which of the points ``names`` took the place of ``point_name`` or follow another one.

    Call it before anything can follow ``point_name`` itself.
    """
    seq = parse_point_name(point_name).seq
    return [n for n in names if n != point_name and parse_point_name(n).seq >= seq]
