"""The program's own rules, as the model calls them; and each of them broken, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from blocksnapd.maintain import collect_rules
from blocksnapd.maintain.collect_rules import Patience, Pending
from blocksnapd.store import collection_rules
from blocksnapd.store.collection_format import Condemned
from blocksnapd.store.names import pack_name, point_name

if TYPE_CHECKING:
    from collections.abc import Callable

# Ages count in ticks and stop at 2: a tick is as long as a session may last, and as long as what
# is shown late may be late.
OLD = 2
PATIENCE = Patience(young_s=1.0, leftover_s=2.0, wait_s=1.0, session_s=1.0)


@cache
def pack_named(number: int) -> str:
    """Return the name of the pack of session ``number``, or of a repacked one."""
    session = f"p{number:016x}"
    return pack_name("v", "20260101", session, 0, "01234567")


@cache
def point_named(seq: int, session: int) -> str:
    """Return the name of the point of a session."""
    return point_name("v", seq, f"p{session:016x}")


@cache
def condemned(epoch: int, newest_seq: int, packs: tuple[int, ...]) -> Condemned:
    """Return a list as the rules read it."""
    names = tuple(map(pack_named, packs))
    return Condemned("0" * 32, "v", epoch, 0, 0, newest_seq, packs=names)


@cache
def _refusal(noted: int, seen: int, lists: tuple, references: tuple[int, ...], age: int) -> str:
    return collection_rules.refusal(
        noted, seen, {one[0]: condemned(*one) for one in lists}, tuple(map(pack_named, references)),
        age_s=float(age), age_s_max=PATIENCE.session_s,
    )  # fmt: skip


@cache
def _is_tainted(seq: int, session: int, epoch: int, seen: int, lists: tuple) -> bool:
    found = {one[0]: condemned(*one) for one in lists}
    return collection_rules.is_tainted(point_named(seq, session), epoch, seen, found)


@cache
def _has_rivals(seq: int, session: int, others: tuple[tuple[int, int], ...]) -> bool:
    names = [point_named(*one) for one in others]
    return bool(collection_rules.rivals(point_named(seq, session), names))


@cache
def _may_condemn(age: int, is_locked: bool | None) -> bool:
    return collect_rules.may_condemn(float(age), is_locked=is_locked, patience=PATIENCE)


@cache
def _has_waited(age: int) -> bool:
    return collect_rules.has_waited(Pending(1, float(age), 0, 0.0, None), PATIENCE)


@cache
def _has_progress(epoch: int, age: int, newest: int, newest_age: int, locked: bool | None) -> bool:
    pending = Pending(epoch, float(age), newest, float(newest_age), locked)
    return collect_rules.has_progress(pending, PATIENCE)


@cache
def _outlived(epochs: tuple[int, ...], done: tuple[int, ...], newest: int) -> tuple[int, ...]:
    return tuple(collect_rules.outlived(epochs, done, newest))


@dataclass(frozen=True)
class Rules:
    """The rules; ``all_listed`` and ``taken_late`` are habits of the code around them."""

    look_before: Callable[..., str] = _refusal
    look_after: Callable[..., str] = _refusal
    is_tainted: Callable[..., bool] = _is_tainted
    has_rivals: Callable[..., bool] = _has_rivals
    receiver_has_rivals: Callable[..., bool] = _has_rivals
    may_put: Callable[..., bool] = collection_rules.is_unchanged
    may_rely: Callable[..., bool] = collection_rules.is_unchanged
    may_condemn: Callable[..., bool] = _may_condemn
    has_waited: Callable[..., bool] = _has_waited
    has_progress: Callable[..., bool] = _has_progress
    sweep: Callable[..., tuple] = collect_rules.sweep
    outlived: Callable[..., tuple[int, ...]] = _outlived
    marks_forgotten: bool = True  # what can be brought back lives
    publishes_first: bool = True  # where slots moved to is told before their old pack is condemned
    lists_packs_first: bool = True  # a point put while packs are listed must not look like none
    looks_at_what_is_there: bool = True  # after a put that was answered before, as after any
    asks_where_locks_hold: bool = True  # one receiver's keeps out none that comes through another


REAL = Rules()


def _never_late(noted: int, seen: int, lists: tuple, references: tuple, age: int) -> str:
    return _refusal(noted, seen, lists, references, min(age, 1))


def _all(condemned_: tuple, dead: frozenset) -> tuple:
    return list(condemned_), []


def _without(**changed: object) -> Rules:
    return replace(REAL, **changed)  # type: ignore[arg-type]


# What each guard is for: without it, the model named beside it finds a history that breaks a rule.
BROKEN = {
    "commits without a look before": _without(look_before=lambda *_: ""),
    "acknowledges without a look after": _without(look_after=lambda *_: ""),
    "goes on from a point whatever was condemned": _without(is_tainted=lambda *_: False),
    "acknowledges beside a rival": _without(has_rivals=lambda *_: False),
    "a session may last for ever": _without(look_before=_never_late, look_after=_never_late),
    "condemns what is young": _without(may_condemn=lambda *_: True),
    "deletes at once": _without(has_waited=lambda *_: True),
    "deletes while older sessions go on": _without(has_progress=lambda *_: True),
    "deletes without marking again": _without(sweep=_all),
    "removes lists that are asked for": _without(outlived=lambda epochs, done, _: done),
    "forgets what can be brought back": _without(marks_forgotten=False),
    "condemns before it tells where slots are": _without(publishes_first=False),
    "lists points before packs": _without(lists_packs_first=False),
    "puts at a receiver at any epoch": _without(may_put=lambda *_: True),
    "relies on a receiver's look before": _without(may_rely=lambda *_: True),
    "relies on a point beside others": _without(receiver_has_rivals=lambda *_: False),
    "takes what a receiver has for done": _without(looks_at_what_is_there=False),
    "takes one receiver's lock for all": _without(asks_where_locks_hold=False),
    "never gets on": _without(has_progress=lambda *_: False),
}
