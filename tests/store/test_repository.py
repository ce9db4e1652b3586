"""Opening repositories, finding points, and what is said when something is missing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from blocksnapd.errors import (
    ChecksumError,
    KeyMissingError,
    NotFoundError,
    RepositoryFormatError,
    StoreMissingError,
    UsageError,
)
from blocksnapd.packing import FAST, FRAME_SIZES, SMALL
from blocksnapd.store.keys import new_keys
from blocksnapd.store.names import REPOSITORY_NAME
from blocksnapd.store.repository import Repository
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import VOLUME, Lab


def test_a_volume_without_points_has_none():
    lab = Lab()
    assert lab.writer.newest(VOLUME) is None
    assert lab.reader.points(VOLUME) == []
    assert lab.writer.volumes() == []


def test_outlines_need_no_key():
    lab = Lab(blocks=30)
    lab.write(range(9))
    lab.commit()
    lab.commit(lab.write([3]))
    stranger = Repository.on(lab.store)
    outlines = stranger.outlines(VOLUME)
    assert [o.seq for o in outlines] == [1, 2]
    assert [o.kind for o in outlines] == ["full", "delta"]
    for outline, (point, image) in zip(outlines, lab.kept, strict=True):
        assert (outline.name, outline.time) == (point.name, point.facts.time)
        assert outline.size == len(image)
        assert outline.object_size == lab.store.size(point.name)
    assert stranger.volumes() == [VOLUME]
    with pytest.raises(KeyMissingError):
        stranger.newest(VOLUME)
    with pytest.raises(KeyMissingError):
        _ = stranger.hash_key


def test_leftovers_of_a_dead_session_are_never_a_point():
    lab = Lab(blocks=30)
    lab.write(range(9))
    lab.commit()
    lab.store.put(f"v/{VOLUME}/d/20260102/p00000000000000aa-0000-12345678.pk", [b"half a pack"])
    lab.store.put(f"v/{VOLUME}/p/strange", [b"?"])
    lab.store.put(f"v/{VOLUME}/l/0/1-2-x.ly", [b"of a later version"])
    assert lab.writer.newest(VOLUME) == lab.kept[0][0].head
    assert len(lab.reader.points(VOLUME)) == 1
    lab.commit(lab.write([1]))
    lab.check_all()


def test_a_fork_is_told_and_never_resolved_alone():
    lab = Lab(blocks=30)
    lab.commit()
    lab.store.objects[lab.kept[0][0].name.replace("01.pt", "0e.pt")] = b"a rival"
    with pytest.raises(RepositoryFormatError, match="two newest points"):
        lab.writer.newest(VOLUME)


def test_no_repository_says_how_to_make_one():
    with pytest.raises(StoreMissingError, match="no repository in memory") as error:
        Repository.on(MemoryObjects())
    assert "init" in error.value.hint


def test_keys_of_another_repository_are_noticed():
    lab = Lab()
    other = new_keys("f" * 32)
    with pytest.raises(StoreMissingError, match="the key is of ffffffff"):
        Repository.on(lab.store, source=other.source)
    with pytest.raises(StoreMissingError, match="the key is of ffffffff"):
        Repository.on(lab.store, source=lab.keys.source, restore=other)


@pytest.mark.parametrize("field", ["metadata_public", "data_public", "hash_key"])
def test_a_source_key_with_a_wrong_bit_seals_nothing(field):
    lab = Lab()
    wrong = bytearray(getattr(lab.keys.source, field))
    wrong[9] ^= 4
    source = replace(lab.keys.source, **{field: bytes(wrong)})
    with pytest.raises(ChecksumError, match="key file is damaged"):
        Repository.on(lab.store, source=source)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("format", 2, "format 2, this program reads 1"),
        ("format", True, "format True"),
        ("algorithms", {"identity": "md5"}, "algorithms"),
        ("repository_id", "../../x", "32 hex"),
    ],
)
def test_a_repository_of_another_kind_is_refused(field, value, said):
    lab = Lab()
    content = json.loads(lab.store.objects[REPOSITORY_NAME])
    content[field] = value
    lab.store.objects[REPOSITORY_NAME] = json.dumps(content).encode()
    with pytest.raises(RepositoryFormatError, match=said):
        Repository.on(lab.store)


def test_a_missing_point_is_not_found():
    lab = Lab()
    lab.commit()
    with pytest.raises(NotFoundError):
        lab.reader.load_point(f"v/{VOLUME}/p/{2:016x}-p{2:016x}.pt")
    with pytest.raises(RepositoryFormatError):
        lab.reader.load_point(REPOSITORY_NAME)


def test_volumes_do_not_mix():
    lab = Lab(blocks=12)
    lab.write(range(9))
    lab.commit()
    sink = lab.writer.begin("other", "p" + "0" * 16, block_size=4096, base=None)
    sink.abort()
    assert lab.writer.newest("other") is None
    assert lab.writer.newest(VOLUME) is not None


def test_a_repository_whose_disk_is_taken_away_is_not_begun_anew():
    """An empty mount point is no repository without points: nothing is written into it."""
    lab = Lab(blocks=30)
    lab.write(range(9))
    head = lab.commit().head
    whole, lab.store.objects = lab.store.objects, {}
    with pytest.raises(StoreMissingError, match="there is no repository"):
        lab.writer.newest(VOLUME)
    for base in (None, head):
        with pytest.raises(StoreMissingError, match="there is no repository"):
            lab.writer.begin(VOLUME, "p" + "0" * 16, block_size=4096, base=base)
    assert lab.store.objects == {}
    lab.store.objects = dict(Lab().store.objects)
    with pytest.raises(ChecksumError, match="not the one that init wrote"):
        lab.writer.newest(VOLUME)
    lab.store.objects = whole
    assert lab.writer.newest(VOLUME) == head


@pytest.mark.parametrize("frame_size", FRAME_SIZES)
@pytest.mark.parametrize("level", [FAST.level, SMALL.level])
def test_points_of_any_frames_read_back_and_follow_one_another(frame_size, level):
    lab = Lab(blocks=600)
    lab.write(range(600))
    lab.commit()
    lab.writer = Repository.on(
        lab.store, source=lab.keys.source, level=level, frame_size=frame_size
    )
    lab.commit(lab.write(range(0, 600, 2), noise=level == FAST.level))
    lab.check_all()
    assert lab.reader.verify(lab.kept[-1][0]).is_whole


@pytest.mark.parametrize("frame_size", [0, 4096, 65537, 2 << 20])
def test_frames_of_another_size_are_refused(frame_size):
    lab = Lab(blocks=1)
    with pytest.raises(UsageError, match=f"frames cannot have {frame_size} bytes"):
        Repository.on(lab.store, source=lab.keys.source, frame_size=frame_size)
