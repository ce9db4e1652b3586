"""Candidates: what nobody needs, of the kinds there are, and nothing that has another's name."""

from __future__ import annotations

import numpy as np

from blocksnapd.maintain.garbage import Named, garbage, packs_in_use
from blocksnapd.maintain.mark import LiveSlots, Mark
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.manifest_format import LayerRef, Manifest, Moved
from blocksnapd.store.names import layer_name, manifest_name, pack_name, point_name
from blocksnapd.store.point_format import PackRef


def pid(number: int) -> str:
    return f"p{number:016x}"


def pack(number: int) -> str:
    return pack_name("v", "20260102", pid(number), 0, "0a1b2c3d")


def point(seq: int) -> str:
    return point_name("v", seq, pid(seq))


def ref(name: str) -> PackRef:
    return PackRef(name, 9999, "ab" * 32, 300, "cd" * 32, 8)


def live_of(*names: str, inline: dict[str, str] | None = None, dead: tuple[str, ...] = ()):
    live, one = LiveSlots(), np.ones(1, dtype=np.uint64)
    for name in (*names, *(inline or {})):
        holder = (inline or {}).get(name, name)
        first = live.learn(PackPlace(ref(name), "v", 4096, holder, 0))
        live.add(np.array([first], dtype=np.uint64), one)
    for name in dead:
        live.learn(PackPlace(ref(name), "v", 4096, name, 0))
    return live


def test_where_what_lives_is():
    live = live_of(pack(1), pack(2), inline={pack(3): point(3), pack(5): point(5)}, dead=(pack(4),))
    moved = Manifest(moved=(Moved(pack(2), (ref(pack(8)), ref(pack(9)))),
                            Moved(pack(5), (ref(pack(8)),))))  # fmt: skip
    found = packs_in_use(live, moved, [pack(1), pack(8)])
    assert found.used == {pack(1), pack(8), pack(9)}
    assert found.holders == {point(3)}
    assert found.lost == (pack(9),)


def test_what_nobody_needs():
    layer, old, told = (layer_name("v", 0, to, "0a1b2c3d") for to in (4, 5, 6))
    manifest = Manifest(
        layers=(LayerRef(0, 4, layer, 900, 300, bytes(32)),),
        moved=(Moved(pack(2), (ref(pack(8)),)),),
    )
    live = live_of(pack(1), pack(2), inline={pack(3): point(3)})
    there = Named(
        packs=(pack(1), pack(2), pack(4), pack(8), "v/v/d/20260102/strange.pk"),
        points=(point(1), point(2), point(3), point(4), point(6), "v/v/p/strange"),
        layers=(layer, old, told, "v/v/l/strange"),
        manifests=(manifest_name("v", 1), "m/v/strange"),
        collections=("g/v/0000000000000001.cond",),
    )
    packs = packs_in_use(live, manifest, there.packs)
    found = Mark(live, frozenset([told, point(1)]), ())
    dead = garbage(found, packs, manifest, [point(4)], there)
    assert dead.packs == (pack(4),)
    assert dead.replaced == (pack(2),)
    assert dead.points == (point(2),)  # 1 tells a gap, 3 holds a pack, 6 is newer than all listed
    assert dead.layers == (old,)
    assert dead.manifests == (manifest_name("v", 1),)
    assert dead.collections == there.collections
    assert len(dead.all) == 6
    assert dead.only(lambda name: name.startswith("v/v/d/")).all == {pack(2), pack(4)}
