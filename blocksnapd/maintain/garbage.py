"""What is there, what is needed, and what is neither: the candidates of a collection. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from blocksnapd.store.names import (
    is_of,
    parse_layer_name,
    parse_manifest_name,
    parse_pack_name,
    parse_point_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blocksnapd.maintain.mark import LiveSlots, Mark
    from blocksnapd.store.manifest_format import Manifest


@dataclass(frozen=True, slots=True)
class Named:
    """Names of objects by kind: all that there are, or those that nobody needs."""

    packs: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()

    @property
    def all(self) -> frozenset[str]:
        """Every name."""
        return frozenset(name for field in fields(self) for name in getattr(self, field.name))

    def only(self, wanted: Callable[[str], bool]) -> Named:
        """Return the names that ``wanted`` is true of."""
        return Named(**{f.name: tuple(filter(wanted, getattr(self, f.name))) for f in fields(self)})


@dataclass(frozen=True, slots=True)
class Packs:
    """The packs that hold what lives, by how they are to be found.

    Attributes:
        used: objects that are packs and hold something that lives.
        holders: points within which such a pack lies.
        lost: packs that should be objects of their own and are not there.
    """

    used: frozenset[str]
    holders: frozenset[str]
    lost: tuple[str, ...]


def packs_in_use(live: LiveSlots, manifest: Manifest, there: Iterable[str]) -> Packs:
    """Return where the slots that live are now."""
    moved = {one.origin: one.packs for one in manifest.moved}
    used, holders = set[str](), set[str]()
    for name, place in live.places.items():
        if not live.count(name):
            continue
        if name in moved:
            # Of several packs any may hold what lives: all of them stay.
            used.update(ref.name for ref in moved[name])
        elif place.holder != name:
            holders.add(place.holder)
        else:
            used.add(name)
    return Packs(frozenset(used), frozenset(holders), tuple(sorted(used.difference(there))))


def garbage(
    found: Mark, packs: Packs, manifest: Manifest, listed: Iterable[str], there: Named
) -> Named:
    """Return what of ``there`` nobody needs; ``manifests`` and ``collections`` are passed through.

    Args:
        found: what the listed points need.
        packs: where that is.
        manifest: the newest one.
        listed: names of the listed points.
        there: names of what was listed; its ``manifests`` and ``collections`` are those that may
            go already.
    """
    moved = {one.origin for one in manifest.moved}
    layers = {ref.name for ref in manifest.layers}
    newest = max((parse_point_name(name).seq for name in listed), default=0)
    kept = {*listed, *packs.holders, *found.needed}

    def has_expired(name: str) -> bool:
        return (
            name not in kept
            and is_of(parse_point_name, name)
            and (parse_point_name(name).seq <= newest)
        )

    # What has a name of another kind is none of ours: it is kept, and verify reports it.
    dead = [n for n in there.packs if n not in packs.used and is_of(parse_pack_name, n)]
    return Named(
        packs=tuple(n for n in dead if n not in moved),
        replaced=tuple(n for n in dead if n in moved),
        points=tuple(filter(has_expired, there.points)),
        layers=tuple(
            n for n in there.layers
            if n not in layers and n not in found.needed and is_of(parse_layer_name, n)
        ),
        manifests=tuple(n for n in there.manifests if is_of(parse_manifest_name, n)),
        collections=there.collections,
    )  # fmt: skip
