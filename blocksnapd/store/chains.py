"""The fewest spans that lead from one point to another. Pure.

A chain is spans each of which begins where the one before ends; only where damage leaves none,
spans that overlap are good enough.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Link(NamedTuple):
    """A span as an object tells it; ``is_whole``: it is known to need nothing older."""

    from_seq: int
    to_seq: int
    name: str
    is_whole: bool = False


class Chains:
    """The spans of a volume; finds chains among them. Not thread-safe."""

    def __init__(self, links: Iterable[Link] = ()) -> None:
        self._into: dict[int, list[Link]] = {}
        self._links: dict[str, Link] = {}
        for link in links:
            self.add(link)

    def __contains__(self, name: str) -> bool:
        return name in self._links

    def add(self, link: Link) -> None:
        """Take a span; one of a name that was ever there is passed over."""
        if link.name not in self._links:
            self._links[link.name] = link
            insort(self._into.setdefault(link.to_seq, []), link)

    def drop(self, name: str) -> None:
        """Use the span of that name no more; one that is gone already is no error."""
        link = self._links[name]
        self._into[link.to_seq] = [other for other in self._into[link.to_seq] if other != link]

    def shortest(self, after: int, upto: int) -> list[Link] | None:
        """Return the fewest spans, oldest first, that tell all changes from ``after`` to ``upto``.

        They start at ``after`` or with one that needs nothing older, but never before ``after``.
        None: there is no such chain. Cost: each span is looked at once.
        """
        found = self.farthest(after, upto)
        ends = found and (found[0].from_seq == after or found[0].is_whole)
        return found if ends else None

    def farthest(self, after: int, upto: int) -> list[Link]:
        """Return ``shortest``, or else the chain that reaches back farthest; empty without any."""
        came: dict[int, Link] = {}
        here = [upto]
        while here:
            before: list[int] = []
            for seq in here:
                for link in self._into.get(seq, ()):  # the longest first
                    if link.from_seq < after:
                        continue
                    if link.from_seq == after or link.is_whole:
                        return self._follow(came, link, upto)
                    if link.from_seq not in came:
                        came[link.from_seq] = link
                        before.append(link.from_seq)
            here = sorted(before)  # of equally many spans those that reach back farthest
        return self._follow(came, came[min(came)], upto) if came else []

    def covering(self, after: int, upto: int) -> list[Link] | None:
        """Return the fewest spans that tell all changes, where one may begin within another.

        What a later one tells of changes that an earlier one told already is the same, or newer.
        They start at ``after`` or with one that needs nothing older. None: there are none.
        Cost: all spans are looked at for each one returned.
        """
        found: list[Link] = []
        reached, end = upto, upto
        while reached > after and not (found and found[-1].is_whole):
            into = [seq for seq in self._into if reached <= seq <= end]
            links = [link for seq in into for link in self._into[seq]]
            links = [
                k for k in links if k.from_seq >= after and (k.is_whole or k.from_seq < reached)
            ]
            best = min(links, key=lambda link: (not link.is_whole, link.from_seq), default=None)
            if best is None:
                return None
            found.append(best)
            reached, end = best.from_seq, best.to_seq
        return found[::-1]

    def _follow(self, came: dict[int, Link], link: Link, upto: int) -> list[Link]:
        found = [link]
        while link.to_seq != upto:
            link = came[link.to_seq]
            found.append(link)
        return found
