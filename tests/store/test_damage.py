"""Every byte class of every kind of object: flipped, cut, exchanged, replayed; found and named."""

from __future__ import annotations

import struct

import msgspec
import numpy as np
import pytest

from blocksnapd.errors import BlocksnapError, FormatError, StoreMissingError
from blocksnapd.maintain.verify_levels import VolumeCheck, VolumeVerifier
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.collection_format import Condemned, Done
from blocksnapd.store.collection_lists import CollectionLists
from blocksnapd.store.names import REPOSITORY_NAME
from blocksnapd.store.pack_format import FOOTER_SIZE
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.record_format import BadRows, bad_pack_record
from blocksnapd.store.repository import Repository
from tests.maintain.collect_lab import CollectLab
from tests.maintain.support import changed, flipped
from tests.store.support import VOLUME, check_image

KINDS = {
    "point": (f"v/{VOLUME}/p/", ".pt"), "pack": (f"v/{VOLUME}/d/", ".pk"),
    "layer": (f"v/{VOLUME}/l/", ".ly"), "manifest": (f"m/{VOLUME}/", ".mf"),
    "list": (f"g/{VOLUME}/", ".cond"), "proof": (f"g/{VOLUME}/", ".done"),
    "checked": (f"t/{VOLUME}/", ".ok"), "damage": (f"t/{VOLUME}/", ".bad"),
    "healed": (f"t/{VOLUME}/", ".healed"),
}  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> CollectLab:
    """A volume with objects of all kinds; every test puts back what it damages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
        patch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 100_000)
        patch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 20_000)
        lab, rng = CollectLab(blocks=60), np.random.default_rng(3)
        lab.write(range(50), noise=True)
        lab.commit()
        for number in range(2, 12):
            lab.live(rng, full=number == 9, resize=False)
        lab.commit(lab.write(range(10, 40), noise=True), number=12)
        lab.commit(lab.write(range(5), noise=True), number=13)
        lab.forget({3, 6, 7})
        publish_collections(lab)
    runs = VerifyRuns(lab.store, lab.keys, VOLUME)
    assert runs.whole(5).is_whole
    tell_damage(lab, runs.records)
    return lab


def publish_collections(lab: CollectLab) -> None:
    """Leave two collections that had next to nothing to delete."""
    source = lab.keys.source
    lists, repository_id = CollectionLists(lab.store, source, VOLUME), source.repository_id
    for epoch in (1, 2):
        gone = f"v/{VOLUME}/d/20260101/p{epoch:016x}-0000-00000000.pk"
        lists.put(Condemned(repository_id, VOLUME, epoch, 5, 1, 9, packs=(gone,)))
        lists.put(Done(repository_id, VOLUME, epoch, 6, 9, count=1, size=100 + epoch))


def tell_damage(lab: CollectLab, records: CheckRecords) -> None:
    """Leave two records of damage that no point needs, each closed."""
    for number in range(2):
        rows = BadRows(
            np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.uint64),
            np.ones((1, 16), dtype=np.uint8),
        )  # fmt: skip
        name = f"v/{VOLUME}/d/20260101/p000000000000000{number}-0000-00000000.pk"
        record = bad_pack_record(
            PackRef(name, 900, "", 400, "", 5), rows, "torn", time_us=6, newest_seq=1
        )
        records.close(records.add_bad(record), time_us=7)
    runs = VerifyRuns(lab.store, lab.keys, VOLUME)
    assert runs.whole(8).is_whole
    lab.reopen()


def names(lab: CollectLab, kind: str) -> list[str]:
    if kind == "point":  # those that expired are needed by nobody
        return [point.name for point, _ in lab.kept]
    prefix, ending = KINDS[kind]
    return [name for name in lab.store.list_names(prefix) if name.endswith(ending)]


def verify(lab: CollectLab) -> VolumeCheck:
    """Look at everything, with the key that reads no content."""
    verifier = VolumeVerifier(lab.store, lab.key, VOLUME)
    found = verifier.structure()
    verifier.data(found, list(found.packs))
    told = CheckRecords(lab.store, lab.keys.source, VOLUME).read()
    found.problems += [f"{name}: {text}" for name, text in told.problems.items()]
    return found


def assert_named(lab: CollectLab, name: str) -> None:
    """Verification names the object; each point reads right, or is said to be damaged."""
    found = verify(lab)
    told = found.told()
    assert any(text.startswith(f"{name}: ") for text in told), (name, told)
    said = {point.name: point for point in found.points}
    for point, image in lab.kept[::3]:
        if said[point.name].is_whole:
            check_image(lab.reader, point, image)
        else:
            with pytest.raises(BlocksnapError):
                check_image(lab.reader, point, image)


def classes(kind: str, data: bytes) -> dict[str, int]:
    """Return a byte in each part of an object, by FORMAT.md alone."""
    size = len(data)
    if kind in ("point", "manifest"):
        header = struct.unpack_from("<I", data, 12)[0]
        at = 16 + header
        said = msgspec.msgpack.decode(data[16:at])
        body, inline = at + 80, at + 80 + said["body_size"]
        parts = {
            "magic": 3, "version": 8, "header size": 12, "header": 16 + header // 2,
            "seal": at + 40, "body": (body + inline) // 2, "tag": size - 16,
        }  # fmt: skip
        if said.get("inline_size"):
            end = inline + said["inline_size"]
            parts |= {"inline frames": inline + 5, "inline index": end - 228 - 20,
                      "inline footer": end - 40}  # fmt: skip
        return parts
    if kind == "pack":
        fields = {
            "data seal": 40, "index seal": 120, "repository id": 165, "data size": 177,
            "index size": 185, "blocks": 188, "frames": 192, "block size": 197,
            "frame blocks": 200, "reserved": 206, "format": 212, "footer size": 216, "magic": 222,
        }  # fmt: skip
        footer = {name: size - FOOTER_SIZE + at for name, at in fields.items()}
        return {"first frame": 0, "frame": size // 3, "index": size - FOOTER_SIZE - 50, **footer}
    if kind == "layer":
        _, _, parts, packs, directory = struct.unpack_from("<80s16sQQI", data, size - 136)
        fields = {
            "seal": 40, "repository id": 90, "parts size": 97, "packs size": 105,
            "directory size": 113, "reserved": 118, "format": 120, "footer size": 124, "magic": 130,
        }  # fmt: skip
        footer = {name: size - 136 + at for name, at in fields.items()}
        boxes = {"part": parts // 2, "directory": size - 136 - directory // 2}
        return {**boxes, **({"packs": parts + packs // 2} if packs else {}), **footer}
    if kind in ("list", "proof"):
        return {"magic": 3, "version": 8, "plain size": 12, "record": size // 2, "tag": size - 9}
    return {"magic": 3, "version": 8, "plain size": 12, "salt": 30, "box": (48 + size) // 2,
            "end": size - 1}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_all_is_well_and_each_kind_is_there(lab, kind):
    assert len(names(lab, kind)) >= 2, kind
    assert verify(lab).told() == []
    for point, image in lab.kept:
        check_image(lab.reader, point, image)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_of_each_class(lab, kind):
    all_names = names(lab, kind)
    for name in {all_names[len(all_names) // 2], all_names[-1]}:
        data = lab.store.objects[name]
        for at in classes(kind, data).values():
            with changed(lab, name, flipped(data, at)):
                assert_named(lab, name)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_short_or_gone_on(lab, kind):
    name = names(lab, kind)[0]
    data = lab.store.objects[name]
    for other in (b"", data[:1], data[:16], data[: len(data) // 2], data[:-1], data + b"\0"):
        with changed(lab, name, other):
            assert_named(lab, name)


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_with_another_of_its_kind(lab, kind):
    one, other = names(lab, kind)[0], names(lab, kind)[-1]
    first, second = lab.store.objects[one], lab.store.objects[other]
    with changed(lab, one, second), changed(lab, other, first):
        told = verify(lab).told()
        for name in (one, other):
            assert any(text.startswith(f"{name}: ") for text in told), (name, told)


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_one_replayed(lab, kind):
    """What was there before, under the name of what is there now."""
    for old, new in zip(names(lab, kind), names(lab, kind)[1:], strict=False):
        with changed(lab, new, lab.store.objects[old]):
            assert_named(lab, new)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_another_kind(lab, kind):
    name = names(lab, kind)[-1]
    for other in KINDS:
        if other != kind:
            with changed(lab, name, lab.store.objects[names(lab, other)[-1]]):
                assert_named(lab, name)


@pytest.mark.parametrize("kind", ["point", "pack", "layer"])
def test_gone_though_it_is_needed(lab, kind):
    listed = {point.name for point, _ in lab.kept}
    in_use = {ref.name for ref in lab.layers()} | listed | set(verify(lab).packs)
    for name in names(lab, kind):
        if name in in_use:
            with changed(lab, name, None):
                assert_named(lab, name)


def test_manifests_form_a_chain(lab):
    """One that was written after another than the one that is there, genuine by itself."""
    last = names(lab, "manifest")[-1]
    whole = lab.store.objects.pop(last)
    loaded = lab.manifests.newest(VOLUME)
    before = names(lab, "manifest")[-1]
    forged = lab.store.objects.pop(before)
    lab.manifests.publish(
        lab.manifests.newest(VOLUME), msgspec.structs.replace(loaded.manifest), time_us=99
    )
    lab.store.objects[last] = whole
    told = verify(lab).told()
    assert any(text.startswith(f"{last}: it was written after another") for text in told)
    lab.store.objects[before] = forged
    assert verify(lab).told() == []


def test_any_flipped_byte_of_repo_json_is_refused(lab):
    whole = lab.store.objects[REPOSITORY_NAME]
    for at in range(0, len(whole), 3):
        with (
            changed(lab, REPOSITORY_NAME, flipped(whole, at)),
            pytest.raises((FormatError, StoreMissingError)),
        ):
            Repository.on(lab.store, restore=lab.keys)
    for other in (b"", whole[:-1], whole + b" ", whole[: len(whole) // 2]):
        with changed(lab, REPOSITORY_NAME, other), pytest.raises((FormatError, StoreMissingError)):
            Repository.on(lab.store, restore=lab.keys)


@pytest.mark.parametrize("place", ["p/x", "d/20260101/x.pk", "l/x.ly", "z/x"])
def test_objects_of_strange_names_are_told(lab, place):
    name = f"v/{VOLUME}/{place}"
    lab.store.objects[name] = b"?"
    told = verify(lab).told()
    del lab.store.objects[name]
    assert [text.startswith(name.rsplit("/x", 1)[0]) for text in told] == [True]
