"""Spans of a volume: the fewest are opened, each checked against the next; forks never mix."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from blocksnapd.errors import ChecksumError, NotFoundError, StoreError
from blocksnapd.store.manifest_format import Manifest
from blocksnapd.store.names import points_prefix
from blocksnapd.store.span_set import SpanSet
from tests.maintain.merged_lab import MergedLab
from tests.store.support import VOLUME


def grown(points: int, *, seed: int = 3) -> MergedLab:
    lab, rng = MergedLab(blocks=40), np.random.default_rng(seed)
    lab.write(range(0, 40, 2))
    lab.commit()
    for _ in range(points - 1):
        lab.live(rng, resize=False)
    return lab


def ends(chain) -> list[tuple[int, int]]:
    return [(span.head.from_seq, span.head.to_seq) for span in chain]


@pytest.fixture
def lab() -> MergedLab:
    lab = grown(18)
    lab.maintain()
    return lab


def test_layers_are_preferred_and_points_fill_the_rest(lab):
    spans = lab.spans()
    assert ends(spans.chain(0, 18)) == [(0, 16), (16, 17), (17, 18)]
    assert ends(spans.chain(0, 11)) == [(0, 4), (4, 8), (8, 9), (9, 10), (10, 11)]
    assert ends(spans.chain(4, 8)) == [(4, 8)]
    assert ends(spans.chain(2, 8)) == [(2, 3), (3, 4), (4, 8)]
    assert spans.problems == []


def test_points_since_the_manifest_are_listed_when_they_are_needed(lab, monkeypatch):
    lab.live(np.random.default_rng(1))
    loaded = lab.manifests.newest(VOLUME)
    listed = []
    list_names = lab.store.list_names
    monkeypatch.setattr(
        lab.store, "list_names", lambda prefix: listed.append(prefix) or list_names(prefix)
    )
    spans = SpanSet(lab.store, lab.points_reader(), loaded)
    spans.chain(0, 17)
    assert listed == []
    assert ends(spans.chain(0, 19))[-1] == (18, 19)
    assert listed == [points_prefix(VOLUME)]


def test_without_any_manifest_points_lead_back_to_the_nearest_full_one():
    lab = grown(5)
    lab.live(np.random.default_rng(1), full=True)
    lab.live(np.random.default_rng(2))
    lab.store.delete(lab.kept[2][0].name)
    spans = SpanSet(lab.store, lab.points_reader(), lab.manifests.newest(VOLUME))
    assert ends(spans.chain(0, 7)) == [(5, 6), (6, 7)]
    with pytest.raises(NotFoundError):
        spans.chain(0, 5)


def test_a_layer_that_is_gone_or_damaged_is_done_without(lab):
    base = next(ref for ref in lab.layers() if ref.to_seq == 16 and ref.from_seq == 0)
    del lab.store.objects[base.name]
    spans = lab.spans()
    assert ends(spans.chain(0, 16)) == [(0, 4), (4, 8), (8, 12), (12, 16)]
    assert base.name in spans.problems[0]
    other = next(ref for ref in lab.layers() if (ref.from_seq, ref.to_seq) == (4, 8))
    data = bytearray(lab.store.objects[other.name])
    data[-1] ^= 1
    lab.store.objects[other.name] = bytes(data)
    spans = lab.spans()
    found = ends(spans.chain(0, 16))
    assert found == [(0, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 12), (12, 16)]
    assert len(spans.problems) == 2


def test_when_nothing_is_left_the_first_problem_is_told(lab):
    for ref in lab.layers():
        lab.store.delete(ref.name)
    name = lab.kept[9][0].name
    data = bytearray(lab.store.objects[name])
    data[16 + int.from_bytes(data[12:16], "little") + 80 + 5] ^= 1  # in the sealed body
    lab.store.objects[name] = bytes(data)
    with pytest.raises((ChecksumError, StoreError)):
        lab.spans().chain(0, 16)
    assert ends(lab.spans().chain(10, 16))[0] == (10, 11)
    lab.store.delete(name)
    with pytest.raises((NotFoundError, StoreError)):
        lab.spans().chain(0, 16)


def test_a_span_that_failed_is_not_opened_again(lab):
    spans = lab.spans()
    span = spans.chain(0, 16)[0]
    spans.discard(span, ChecksumError("a part is damaged"))
    assert ends(spans.chain(0, 16)) == [(0, 4), (4, 8), (8, 12), (12, 16)]
    assert spans.problems == [f"{span.name}: a part is damaged"]


def test_layers_of_a_fork_are_not_mixed_with_its_points():
    """Two histories part after point 2; a manifest of the one lists a layer of the other."""
    ours = grown(2)
    common = dict(ours.store.objects)
    rng = np.random.default_rng(5)
    image, kept = ours.image.copy(), list(ours.kept)
    for _ in range(3):
        ours.live(rng, resize=False)
    ours.maintain()
    foreign = next(ref for ref in ours.layers() if (ref.from_seq, ref.to_seq) == (0, 4))
    layer = ours.store.objects[foreign.name]
    ours.store.objects.clear()
    ours.store.objects.update(common)
    ours.image, ours.kept = image, kept
    for _ in range(4):
        ours.live(rng, resize=False)
    ours.store.objects[foreign.name] = layer
    loaded, points = ours.look()
    manifest = Manifest(points=points, layers=(foreign,))
    ours.manifests.publish(loaded, manifest, time_us=0)
    ours.check_all()
    spans = ours.spans()
    newest = ours.kept[-1][0]
    assert ends(spans.chain(0, newest.seq, newest.digest)) == [(n, n + 1) for n in range(6)]
    assert "another digest" in spans.problems[0]
    with pytest.raises(ChecksumError, match="another digest"):
        ours.spans().chain(0, newest.seq, "0" * 64)


def test_a_layer_that_is_not_the_span_it_is_listed_as_is_left_out(lab):
    loaded = lab.manifests.newest(VOLUME)
    refs = {(ref.from_seq, ref.to_seq): ref for ref in loaded.manifest.layers}
    wrong = msgspec.structs.replace(refs[4, 8], from_seq=8, to_seq=12)
    manifest = Manifest(points=loaded.manifest.points, layers=(refs[0, 4],))
    spans = SpanSet(lab.store, lab.points_reader(), dataclasses.replace(loaded, manifest=manifest))
    spans.add(wrong)
    assert (8, 9) in ends(spans.chain(0, 16))
    assert wrong.name in spans.problems[0]


def test_sizes_and_digests_of_images():
    merged = MergedLab(blocks=10)
    merged.write(range(10))
    merged.commit()
    merged.resize(7 * 4096 + 5)
    merged.commit(merged.write([1, 7]))
    merged.commit(merged.write([2]))
    spans = merged.spans()
    assert [spans.blocks(seq, 4096) for seq in (0, 1, 2, 3)] == [0, 10, 8, 8]
    assert spans.digest(2) == merged.kept[1][0].digest
    assert (spans.digest(0), spans.digest(9)) == ("", "")
    empty = SpanSet(merged.store, merged.points_reader(), merged.manifests.newest(VOLUME))
    assert empty.blocks(2, 4096) == 8
    with pytest.raises(NotFoundError):
        empty.blocks(9, 4096)
    merged.store.delete(merged.kept[1][0].name)
    assert spans.digest(2) == ""


def test_the_number_of_open_spans_is_bounded(lab, monkeypatch):
    monkeypatch.setattr("blocksnapd.store.span_set.OPEN_MAX", 3)
    spans = lab.spans()
    for upto in range(1, 19):
        assert ends(spans.chain(0, upto))[-1][1] == upto
    assert len(spans._open) <= 3
