"""Merged layers are checked against the points they span; lost points are read through them."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from blocksnapd.maintain.verify_levels import VolumeCheck, VolumeVerifier
from blocksnapd.store.layer_reader import LayerReader
from blocksnapd.store.layer_writer import LayerWriter
from blocksnapd.store.names import layer_name
from blocksnapd.store.runs import ZERO, Runs
from blocksnapd.store.seal import Scope
from tests.maintain.merged_lab import MergedLab
from tests.maintain.support import changed, flipped, points
from tests.store.support import VOLUME

if TYPE_CHECKING:
    from blocksnapd.store.manifest_format import LayerRef


@pytest.fixture
def lab(monkeypatch) -> MergedLab:
    """Twenty points, merged; 3, 6, 7 and 14 have expired."""
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab, rng = MergedLab(blocks=40), np.random.default_rng(5)
    lab.write(range(0, 40, 2))
    lab.commit()
    for number in range(2, 21):
        lab.live(rng, full=number == 12)
    lab.expire({3, 6, 7, 14})
    lab.maintain()
    for seq in (3, 6, 7, 14):
        name = next(n for n in points(lab) if f"/{seq:016x}-" in n)
        del lab.store.objects[name]
    return lab


def verify(lab: MergedLab) -> VolumeCheck:
    verifier = VolumeVerifier(lab.store, lab.key, VOLUME)
    found = verifier.structure()
    verifier.data(found, list(found.packs))
    return found


def names(lab: MergedLab) -> list[str]:
    return [ref.name for ref in lab.layers()]


def test_all_is_well(lab):
    found = verify(lab)
    assert found.told() == []
    assert len(lab.layers()) > 5
    assert {o.name for o in found.objects.values()} >= {*names(lab), *points(lab)}
    assert [p.seq for p in found.points] == [s for s in range(1, 21) if s not in {3, 6, 7, 14}]
    assert all(p.is_whole for p in found.points)


def test_a_damaged_layer_is_named_whatever_part_it_is(lab):
    for name in names(lab):
        data = lab.store.objects[name]
        for at in {0, len(data) // 3, len(data) // 2, len(data) - 140, len(data) - 1}:
            with changed(lab, name, flipped(data, at)):
                found = verify(lab)
                assert any(text.startswith(f"{name}: ") for text in found.told())


@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_layers_that_nothing_else_replaces_harm_what_follows(lab, how):
    """The points 6 and 7 have expired, and point 12 is full."""
    leading_to_8 = [ref.name for ref in lab.layers() if ref.to_seq == 8]
    with contextlib.ExitStack() as damage:
        for name in leading_to_8:
            data = lab.store.objects[name]
            other = None if how == "gone" else flipped(data, len(data) // 2)
            damage.enter_context(changed(lab, name, other))
        found = verify(lab)
    harmed = [p for p in found.points if not p.is_whole]
    assert harmed[0].seq == 8
    assert harmed[-1].seq < 12
    assert all(point.damaged == [(0, point.size)] for point in harmed if point.size)
    assert any(name in harmed[0].problems[0] for name in leading_to_8)
    assert {text.split(": ")[0] for text in found.told()} >= set(leading_to_8)


def test_a_lost_point_is_passed_by_where_a_layer_spans_it(lab):
    spanned = {
        seq: ref.to_seq
        for ref in lab.layers()
        for seq in range(ref.from_seq + 1, ref.to_seq)
        if seq in {p.seq for p, _ in lab.kept}
    }
    assert spanned
    for seq, upto in spanned.items():
        name = next(n for n in points(lab) if f"/{seq:016x}-" in n)
        with changed(lab, name, None):
            found = verify(lab)
            whole = {p.seq: p.is_whole for p in found.points}
            assert not whole[seq]
            assert whole[upto]


def forge(lab: MergedLab, ref: LayerRef, change, **head) -> str:
    """Put another layer in place of ``ref``, genuine in every byte, with other runs or head."""
    reader, source = LayerReader(lab.store, ref, lab.key, VOLUME), lab.keys.source
    runs = change(reader.runs(0, reader.head.blocks))
    packs = [place.ref for place in reader.places(0)[1]] if reader.packs else []
    name = layer_name(VOLUME, ref.from_seq, ref.to_seq, "0badcafe")
    scope = Scope(source.repository_id, VOLUME, name)
    writer = LayerWriter(scope, replace(reader.head, **head), source.metadata_public)
    weights = np.zeros(len(packs), dtype=np.uint64)
    parts = writer.add(runs, weights)
    rest, forged = writer.finish(packs, weights)
    lab.store.put(name, [*parts, *rest])
    loaded = lab.manifests.newest(VOLUME)
    layers = tuple(forged if other == ref else other for other in lab.layers())
    manifest = msgspec.structs.replace(loaded.manifest, layers=layers)
    lab.manifests.publish(loaded, manifest, time_us=0)
    return name


def longest(lab: MergedLab) -> LayerRef:
    """Return a layer of many points that no point needs: smaller ones tell the same."""
    return max(lab.layers(), key=lambda ref: ref.to_seq - ref.from_seq)


def lose(runs: Runs) -> Runs:
    return runs.take(np.arange(len(runs)) != len(runs) // 2)


def shift(runs: Runs) -> Runs:
    """Take one block from the slot of another."""
    locations = runs.locations.copy()
    at = np.flatnonzero(locations != ZERO)[0]
    locations[at] ^= np.uint64(1)
    return Runs(runs.starts, runs.lengths, locations)


def blank(runs: Runs) -> Runs:
    locations = runs.locations.copy()
    locations[np.flatnonzero(locations != ZERO)[-1]] = ZERO
    return Runs(runs.starts, runs.lengths, locations)


@pytest.mark.parametrize("change", [lose, shift, blank])
def test_a_merge_that_went_wrong_is_told(lab, change):
    """All bytes are genuine, but an entry was lost, exchanged or zeroed."""
    name = forge(lab, longest(lab), change)
    told = verify(lab).told()
    assert [text.split(": ")[0] for text in told] == [name]
    assert "does not add up" in told[0]


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ({"to_digest": "ab" * 32}, "it leads to another"),
        ({"from_digest": "ab" * 32}, "it follows another"),
        ({"size": 4096 * 90}, "another size"),
    ],
)
def test_a_layer_of_other_points_is_told(lab, head, text):
    ref = next(r for r in lab.layers() if r.from_seq > 0 and r.to_seq - r.from_seq > 1)
    name = forge(lab, ref, lambda runs: runs, **head)
    assert any(t.startswith(f"{name}: ") and text in t for t in verify(lab).told())


def test_a_faithful_copy_is_no_problem(lab):
    forge(lab, longest(lab), lambda runs: runs)
    assert verify(lab).is_whole


def test_layers_of_points_that_are_listed_no_more_are_read_too(lab):
    lab.expire({8})
    name = next(r.name for r in lab.layers() if r.to_seq == 8)
    data = lab.store.objects[name]
    with changed(lab, name, flipped(data, len(data) // 2)):
        assert any(text.startswith(f"{name}: ") for text in verify(lab).told())


def test_an_expired_full_point_in_a_layer_makes_what_follows_known(lab):
    """The way to it is lost, and what needs nothing older is read all the same."""
    lab.expire({11, 12})
    lab.maintain()
    spanning = {ref.name for ref in lab.layers() if ref.from_seq < 10 and ref.to_seq == 13}
    name = next(n for n in points(lab) if f"/{10:016x}-" in n)
    with contextlib.ExitStack() as stack:
        for lost in (name, *spanning):
            stack.enter_context(changed(lab, lost, None))
        known = {point.seq: point.is_known for point in verify(lab).points}
        assert [seq for seq, is_known in known.items() if not is_known] == [10]
        point, wanted = lab.kept[-1]
        image = bytearray(len(wanted))
        lab.reader.open_image(point).read_into(0, memoryview(image))
        assert image == wanted


def test_a_layer_after_a_salvaged_point_makes_what_follows_known(lab):
    """The sealed part of a point with a byte too many is whole; only its digest cannot be told."""
    spanning = {ref.name for ref in lab.layers() if ref.from_seq < 5 < ref.to_seq}
    name = next(n for n in points(lab) if f"/{5:016x}-" in n)
    with contextlib.ExitStack() as stack:
        stack.enter_context(changed(lab, name, lab.store.objects[name] + b"\0"))
        for lost in spanning:
            stack.enter_context(changed(lab, lost, None))
        known = {point.seq: point.is_known for point in verify(lab).points}
        assert [seq for seq, is_known in known.items() if not is_known] == [5]
