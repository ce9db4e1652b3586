"""Damage of every kind, to every part of every object, is found and named."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from blocksnapd.errors import (
    BlocksnapError,
    ChecksumError,
    FormatError,
    NotFoundError,
    StoreError,
    StoreMissingError,
)
from blocksnapd.store.names import REPOSITORY_NAME
from blocksnapd.store.pack_format import FOOTER_SIZE
from blocksnapd.store.repository import Repository
from blocksnapd.store.seal import digest
from tests.fakes.memory_objects import MemoryObjects
from tests.maintain.support import flipped
from tests.store.support import BLOCK, VOLUME, Lab

FOOTER_FIELDS = {
    "data seal": 40, "index seal": 120, "repository id": 165, "data size": 177,
    "index size": 185, "blocks": 188, "frames": 192, "block size": 197, "frame blocks": 200,
    "reserved": 206, "format": 212, "footer size": 216, "magic": 222,
}  # fmt: skip


@pytest.fixture
def lab(monkeypatch) -> Lab:
    """A full point of three packs, then two deltas with their frames inline."""
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 100_000)
    lab = Lab(blocks=100)
    lab.write(range(4, 96), noise=True)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab.commit()
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 1 << 20)
    lab.commit(lab.write([0, 10, 11, 99], noise=True))
    lab.commit(np.union1d(lab.write([10, 20]), lab.zero([30, 31])))
    return lab


def flip(lab: Lab, name: str, at: int) -> None:
    data = bytearray(lab.store.objects[name])
    data[at] ^= 0x20
    lab.store.objects[name] = bytes(data)


def packs(lab: Lab) -> list[str]:
    return lab.store.list_names(f"v/{VOLUME}/d/")


def points(lab: Lab) -> list[str]:
    return lab.store.list_names(f"v/{VOLUME}/p/")


def point_borders(data: bytes) -> dict[str, tuple[int, int]]:
    """Return where each part of a point object lies, by FORMAT.md alone."""
    import msgspec

    size = struct.unpack_from("<I", data, 12)[0]
    header = msgspec.msgpack.decode(data[16 : 16 + size])
    sizes = [
        ("magic", 8), ("version", 4), ("header size", 4), ("header", size), ("seal", 80),
        ("body", header["body_size"]), ("inline", header["inline_size"]), ("tag", 32),
    ]  # fmt: skip
    borders, at = {}, 0
    for part, length in sizes:
        borders[part] = at, at + length
        at += length
    assert at == len(data)
    return borders


def assert_found(lab: Lab, name: str) -> None:
    """The newest point's verification names the object, and reading never gives wrong bytes."""
    newest, image = lab.kept[-1]
    report = lab.reader.verify(newest.name)
    assert not report.is_whole
    assert any(check.name == name and check.problem for check in report.objects), report.objects
    assert any(problem.startswith(name) for problem in report.problems)
    assert report.damaged or report.point is None
    damaged = {b for s, e in report.damaged for b in range(s, e, BLOCK)}
    with pytest.raises(BlocksnapError):
        list(lab.reader.open_image(newest.name).pieces())
    try:
        opened = lab.reader.open_image(newest.name)
    except BlocksnapError:
        return
    for start in range(0, len(image), BLOCK):
        view = bytearray(BLOCK)
        try:
            opened.read_into(start, memoryview(view))
        except FormatError:
            continue
        except StoreMissingError:
            continue
        assert view == image[start : start + BLOCK]
        assert start not in damaged


def assert_read_around(lab: Lab, name: str) -> None:
    """A point behind the damaged one lacks its damaged blocks at most, and tells of it."""
    newest, image = lab.kept[-1]
    report = lab.reader.verify(newest.name)
    assert any(text.startswith(name) for text in report.notes)
    damaged = {b for s, e in report.damaged for b in range(s, e, BLOCK)}
    assert report.is_whole is not bool(damaged)
    opened, lost = lab.reader.open_image(newest.name), set()
    for start in range(0, len(image), BLOCK):
        view = bytearray(BLOCK)
        try:
            opened.read_into(start, memoryview(view))
        except FormatError:
            lost.add(start)
        else:
            assert view == image[start : start + BLOCK]
    assert lost == damaged
    assert lost <= {0, 11 * BLOCK, 99 * BLOCK}  # what the newest still has of the damaged point
    report = lab.reader.verify(name)
    assert not report.is_whole
    with pytest.raises(FormatError):
        lab.reader.open_image(name)


def test_a_whole_point_is_said_to_be_whole(lab):
    told = []
    for point, _ in lab.kept:
        report = lab.reader.verify(point, progress=lambda done, total: told.append((done, total)))
        assert report.is_whole
        assert report.point == point
        assert report.damaged == ()
    assert told[-1][0] == told[-1][1]
    assert {check.name for check in report.objects} >= {*points(lab), *packs(lab)}
    assert all(not check.problem for check in lab.reader.history(VOLUME))


@pytest.mark.parametrize(
    "part", ["magic", "version", "header size", "header", "seal", "body", "inline", "tag"]
)
@pytest.mark.parametrize("which", [1, 2])
def test_a_flipped_bit_in_a_point(lab, part, which):
    name = points(lab)[which]
    low, high = point_borders(lab.store.objects[name])[part]
    flip(lab, name, (low + high) // 2)
    if which == 1 and part in ("inline", "tag"):
        assert_read_around(lab, name)
    else:
        assert_found(lab, name)
    history = {check.name: check.problem for check in lab.writer.history(VOLUME)}
    assert history[name]


def test_a_flipped_bit_anywhere_in_a_point_is_found(lab):
    name = points(lab)[-1]
    whole = lab.store.objects[name]
    borders = point_borders(whole)
    for at in range(borders["inline"][0] + 100):
        flip(lab, name, at)
        with pytest.raises(FormatError):
            lab.reader.load_point(name)
        assert lab.writer.newest(VOLUME).is_damaged
        lab.store.objects[name] = whole


@pytest.mark.parametrize("field", FOOTER_FIELDS)
def test_a_flipped_bit_in_a_footer(lab, field):
    name = packs(lab)[1]
    size = len(lab.store.objects[name])
    flip(lab, name, size - FOOTER_SIZE + FOOTER_FIELDS[field])
    assert_found(lab, name)


def test_a_flipped_bit_in_an_index(lab):
    name = packs(lab)[1]
    flip(lab, name, len(lab.store.objects[name]) - FOOTER_SIZE - 100)
    assert_found(lab, name)
    assert not lab.reader.verify(lab.kept[-1][0], data=False).is_whole


def test_a_flipped_bit_in_a_frame_is_found_to_the_block(lab):
    name = packs(lab)[0]
    flip(lab, name, 70_000)  # the second frame: blocks 20 to 35 of the first point
    assert_found(lab, name)
    report = lab.reader.verify(lab.kept[0][0])
    assert report.damaged == ((20 * BLOCK, 36 * BLOCK),)
    assert report.damaged_bytes == 16 * BLOCK
    # 20 was written again, 30 and 31 are zero by now: what is left of the frame is lost.
    report = lab.reader.verify(lab.kept[-1][0])
    assert report.damaged == ((21 * BLOCK, 30 * BLOCK), (32 * BLOCK, 36 * BLOCK))
    assert lab.reader.verify(lab.kept[-1][0], data=False).is_whole


@pytest.mark.parametrize("keep", [0, 1, 227, 228, 5000, -1])
def test_a_truncated_pack(lab, keep):
    name = packs(lab)[2]
    lab.store.objects[name] = lab.store.objects[name][:keep]
    assert_found(lab, name)
    assert not lab.reader.verify(lab.kept[-1][0], data=False).is_whole


@pytest.mark.parametrize("keep", [0, 7, 8, 15, 16, 100, -32, -1])
def test_a_truncated_point(lab, keep):
    name = points(lab)[1]
    lab.store.objects[name] = lab.store.objects[name][:keep]
    if keep < 0:
        assert_read_around(lab, name)
    else:
        assert_found(lab, name)


def test_bytes_after_the_end(lab):
    name, pack = points(lab)[1], packs(lab)[1]
    whole = lab.store.objects[name]
    lab.store.objects[name] = whole + b"\0"
    assert_read_around(lab, name)
    lab.store.objects[name] = whole
    lab.store.objects[pack] += b"\0"  # nothing is lost, but it is not what was written
    for data in (True, False):
        report = lab.reader.verify(lab.kept[-1][0], data=data)
        assert f"{pack}: it has" in report.problems[0]
        assert report.damaged == ()


def test_a_missing_pack(lab):
    name = packs(lab)[0]
    del lab.store.objects[name]
    assert_found(lab, name)
    report = lab.reader.verify(lab.kept[0][0], data=False)
    assert report.damaged[0][0] == 4 * BLOCK


def test_a_missing_point_in_the_chain(lab):
    name = points(lab)[1]
    del lab.store.objects[name]
    assert_found(lab, name)
    assert lab.reader.verify(lab.kept[0][0]).is_whole
    assert "follows" in lab.writer.history(VOLUME)[1].problem


def test_a_point_that_never_was(lab):
    with pytest.raises(NotFoundError):
        lab.reader.verify(points(lab)[0].replace("1.pt", "9.pt"))


def test_exchanged_packs(lab):
    one, other = packs(lab)[:2]
    objects = lab.store.objects
    objects[one], objects[other] = objects[other], objects[one]
    assert_found(lab, one)
    assert_found(lab, other)


def test_an_older_point_replayed_under_a_newer_name(lab):
    old, new = points(lab)[1:3]
    lab.store.objects[new] = lab.store.objects[old]
    report = lab.reader.verify(new)
    assert report.point is None
    assert "named" in report.problems[0]
    assert lab.writer.newest(VOLUME).is_damaged


@pytest.mark.parametrize("stumbles", [1, 2, 3])
def test_a_newest_point_that_reads_badly_now_and_then(lab, stumbles, monkeypatch):
    """No point is ever chained to bytes that are not there."""
    newest, get, left = points(lab)[-1], lab.store.get, list(range(1, stumbles + 1))

    def stumbling(name: str, *, size_max: int) -> bytes:
        data = get(name, size_max=size_max)
        return flipped(data, left.pop()) if name == newest and left else data

    monkeypatch.setattr(lab.store, "get", stumbling)
    if stumbles == 3:
        with pytest.raises(StoreError, match="differently"):
            lab.writer.newest(VOLUME)
        return
    head = lab.writer.newest(VOLUME)
    assert head.digest == digest(lab.store.objects[newest])
    assert head.is_damaged == (stumbles == 2)


def test_a_genuine_point_of_another_history_is_not_followed(lab, monkeypatch):
    """A source that was rolled back wrote another second point; its bytes replace the first's."""
    store = MemoryObjects()
    for name in (REPOSITORY_NAME, points(lab)[0], *packs(lab)):
        store.objects[name] = lab.store.objects[name]
    other = Lab(store=store, keys=lab.keys, blocks=100)
    other.image[:] = np.frombuffer(lab.kept[0][1], dtype=np.uint8).reshape(-1, BLOCK)
    other.commit(other.write([5]), number=2)
    name = points(lab)[1]
    lab.store.objects[name] = other.store.objects[name]
    assert lab.reader.verify(name).is_whole
    assert_found(lab, name)
    assert "another" in lab.writer.history(VOLUME)[2].problem


def test_a_point_moved_to_another_volume(lab):
    name = points(lab)[0]
    moved = name.replace(VOLUME, "vol-2")
    lab.store.objects[moved] = lab.store.objects[name]
    assert lab.reader.verify(moved).point is None
    assert lab.writer.newest("vol-2").is_damaged


def test_a_layer_that_does_not_add_up_is_found(lab):
    """The source told a wrong state sum, or a later program lost an entry: all bytes are whole."""
    changed = lab.write([40])
    sink = lab.sink(4)
    lab.feed(sink, changed)
    lab.write([41])  # the sum is of an image with a block that was not given
    point = sink.commit(lab.facts("delta", 4))
    for data in (True, False):
        report = lab.reader.verify(point, data=data)
        assert not report.is_whole
        assert "do not add up" in report.problems[0]
        assert report.damaged == ()


def test_a_block_damaged_before_it_was_sealed_is_found(lab):
    """Memory of the source failed between hashing and sealing."""
    changed = lab.write([60, 61])
    sink = lab.sink(4)
    data = bytearray(lab.image[60:62].tobytes())
    data[BLOCK + 9] ^= 1
    sink.add(changed.astype(np.uint64), lab.hashes(changed), memoryview(data))
    point = sink.commit(lab.facts("delta", 4))
    report = lab.reader.verify(point)
    assert report.damaged == ((61 * BLOCK, 62 * BLOCK),)
    assert "identity" in report.problems[0]
    opened = lab.reader.open_image(point)
    with pytest.raises(ChecksumError, match="identity"):
        opened.read_into(61 * BLOCK, memoryview(bytearray(1)))
    with pytest.raises(ChecksumError, match="identity"):
        list(opened.pieces())


def test_strange_objects_and_forks_among_the_points_are_told(lab):
    lab.store.objects[f"v/{VOLUME}/p/junk"] = b""
    fork = points(lab)[1].replace("0002.pt", "0009.pt")
    lab.store.objects[fork] = lab.store.objects[points(lab)[1]]
    told = {check.name: check.problem for check in lab.reader.history(VOLUME)}
    assert told[f"v/{VOLUME}/p/junk"] == "it is not a point"
    assert told[fork]


def test_any_flipped_byte_of_repo_json_is_refused(lab):
    whole = lab.store.objects[REPOSITORY_NAME]
    for at in range(len(whole)):
        flip(lab, REPOSITORY_NAME, at)
        with pytest.raises((FormatError, StoreMissingError)):
            Repository.on(lab.store, source=lab.keys.source)
        lab.store.objects[REPOSITORY_NAME] = whole
