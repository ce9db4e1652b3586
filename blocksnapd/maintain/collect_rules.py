"""What may be condemned, when it may be deleted, and what to believe of a listing. Pure.

The writer's half, and why both together lose nothing, is in ``store/collection_rules.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.keep_rules import DAY_S
from blocksnapd.store.collection_rules import SESSION_S_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

LISTED_SHARE_MIN = 0.95


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long things are left alone, in seconds by the store's clock.

    Attributes:
        young_s: nothing younger is ever condemned.
        leftover_s: nor, while a session may be going on, what could be its own.
        wait_s: from the publication of a list to the first deletion; readers that opened a point
            before have so long to finish.
        session_s: for how long a session may go on.
    """

    young_s: float = 2 * DAY_S
    leftover_s: float = SESSION_S_MAX + DAY_S
    wait_s: float = DAY_S
    session_s: float = SESSION_S_MAX

    def __post_init__(self) -> None:
        # Sessions end before what they wrote can be taken for a leftover.
        if not 0 <= self.young_s <= self.leftover_s > self.session_s or self.wait_s < 0:
            raise ValueError("leftovers must be kept for longer than a session lasts")


@dataclass(frozen=True, slots=True)
class Pending:
    """A published list that waits for its deletion.

    ``is_locked`` tells whether this collection holds the writer's lock: True, False because a
    writer has it, None where there are no locks.
    """

    epoch: int
    age_s: float
    newest_epoch: int
    newest_age_s: float
    is_locked: bool | None


def next_epoch(seen: int, manifest_epoch: int, newest_epoch: int) -> int:
    """Return the epoch of the next list: above all that was ever published or noted."""
    return max(seen, manifest_epoch, newest_epoch) + 1


def may_condemn(age_s: float, *, is_locked: bool | None, patience: Patience) -> bool:
    """Return whether a dead object of that age may go on a list.

    Args:
        age_s: since it was written.
        is_locked: as in ``Pending``; with the lock in hand there was no session that filled it.
        patience: the limits.
    """
    return age_s >= (patience.young_s if is_locked else patience.leftover_s)


def has_waited(pending: Pending, patience: Patience) -> bool:
    """Return whether readers had their time, and looks that came late have come."""
    return pending.age_s >= patience.wait_s


def has_progress(pending: Pending, patience: Patience) -> bool:
    """Return whether every session that started before the list was published has ended.

    The newest point's session saw the list; or there is no session now; or, where nobody can
    tell, none has committed for longer than a session may last.
    """
    if pending.newest_epoch >= pending.epoch or pending.is_locked is True:
        return True
    idle_s = min(pending.age_s, pending.newest_age_s)
    return pending.is_locked is None and idle_s > patience.session_s


def sweep(condemned: Iterable[str], dead: Collection[str]) -> tuple[list[str], list[str]]:
    """Return what of a list is deleted, and what is spared since it is not dead any more."""
    names = list(condemned)
    return [n for n in names if n in dead], [n for n in names if n not in dead]


def outlived(epochs: Iterable[int], done: Collection[int], newest_epoch: int) -> list[int]:
    """Return the epochs whose list and proof nobody asks for any more.

    A writer asks for all above the one it noted, or its base did. The last one stays, so that
    epochs only grow.
    """
    known = sorted(epochs)
    return [e for e in known[:-1] if e in done and e <= newest_epoch]


def replaced_manifests(
    generations: Iterable[int],
    ages_s: dict[int, float],
    *,
    keep: int = 8,
    keep_s: float = 2 * DAY_S,
) -> list[int]:
    """Return the generations that may go: not of the last ``keep``, and older than ``keep_s``.

    The first one stays: whoever is shown none, by a listing that lost all, finds its name taken.
    """
    known = sorted(generations)
    return [g for g in known[:-keep] if g != 1 and ages_s.get(g, 0.0) >= keep_s]


def distrust(
    *,
    seqs: Sequence[int],
    listed: Sequence[int],
    newest_seen: int,
    generation: int,
    generation_seen: int,
    packs: int,
    packs_before: int,
    lost: int,
    named: int,
) -> list[str]:
    """Return what speaks against believing what was listed, as sentences; empty when all is well.

    Args:
        seqs: of all points that are taken for listed, ascending.
        listed: of those that the manifest lists.
        newest_seen: the newest point any list or proof speaks of.
        generation: of the manifest.
        generation_seen: the highest that any list speaks of.
        packs: how many packs were listed.
        packs_before: how many there were after the last collection.
        lost: how many packs that points name are not there.
        named: how many packs points name.
    """
    found = []
    newest = seqs[-1] if seqs else 0
    since = [seq for seq in seqs if not listed or seq > listed[-1]]
    first = listed[-1] + 1 if listed else since[0] if since else 1
    if since != list(range(first, first + len(since))):
        found.append("points are missing between those that are there")
    if newest < newest_seen:
        found.append(f"point {newest_seen} was there, now the newest one is {newest}")
    if generation < generation_seen:
        found.append(f"manifest {generation_seen} was there, now the newest one is {generation}")
    if packs + lost < LISTED_SHARE_MIN * packs_before:
        found.append(f"{packs_before} packs were there, now there are {packs}")
    if lost > 1 and lost > (1 - LISTED_SHARE_MIN) * named:
        found.append(f"{lost} of the {named} packs that points need are not there")
    return found
