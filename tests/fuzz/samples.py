"""A small repository whose objects are the valid bytes that fuzzing starts from; and a forger."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from unittest.mock import patch

import msgspec

from blocksnapd.errors import BlocksnapError
from blocksnapd.store.clear import pack_clear
from blocksnapd.store.keys import load_restore
from blocksnapd.store.listing import entry_of
from blocksnapd.store.manifest_format import (
    Forgotten,
    Hold,
    LayerRef,
    Manifest,
    ManifestHeader,
    Moved,
    Patch,
    Verified,
    pack_manifest,
)
from blocksnapd.store.names import layer_name
from blocksnapd.store.pack_format import FOOTER_SIZE, Footer, unpack_footer
from blocksnapd.store.point_format import MAGIC, PackRef, unpack_point
from blocksnapd.store.records import pack_record
from blocksnapd.store.repository import Repository
from blocksnapd.store.seal import (
    Scope,
    close_box,
    new_key,
    open_box,
    open_key,
    point_tag,
    seal_key,
)
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import VOLUME, Lab


@cache
def lab() -> Lab:
    """Return four points: a full one of several packs, deltas, some with an inline pack."""
    with (
        patch("blocksnapd.store.pack_writer.BATCH_SIZE", 65536),
        patch("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 30_000),
        patch("blocksnapd.store.sink.INLINE_SIZE_MAX", 12_000),
    ):
        made = Lab(blocks=64)
        made.write(range(5, 40), noise=True)
        made.commit()
        made.commit(made.write([0, 7, 8, 9, 50, 63]))
        made.commit(made.zero([8, 50, 51, 63]))
        made.commit(made.write(range(0, 64, 2)))
    return made


def point(number: int) -> tuple[str, bytes]:
    """Return name and bytes of a point's object, counted from 0."""
    name = lab().kept[number][0].name
    return name, lab().store.objects[name]


def plain_body(number: int) -> bytes:
    """Return what lies sealed in a point."""
    name, data = point(number)
    keys = lab().keys
    found = unpack_point(data, name, keys.source.repository_id, keys.source.hash_key)
    info = Scope(keys.source.repository_id, VOLUME, name).binding("point")
    key = open_key(found.seal, keys.metadata_private, info, what=name)
    return open_box(key, 0, found.box, info + b"\0" + found.clear, what=name)


def open_forged_point(plain: bytes) -> object:
    """Open, read and verify the first point with ``plain`` as its body, sealed and tagged anew."""
    name, _ = point(0)
    store = MemoryObjects()
    store.objects = {**lab().store.objects, name: _forged(plain)}
    reader = Repository.on(store, restore=lab().keys)
    try:
        image = reader.open_image(name)
        image.data_extents()
        image.read_into(0, memoryview(bytearray(image.size)))
    except BlocksnapError:
        return reader.verify(name).problems
    return image


def _forged(plain: bytes) -> bytes:
    name, data = point(0)
    source = lab().keys.source
    header = unpack_point(data, name, source.repository_id, source.hash_key).header
    header = msgspec.structs.replace(header, body_size=len(plain) + 16, inline_size=0)
    clear, key = pack_clear(MAGIC, header), new_key()
    info = Scope(source.repository_id, VOLUME, name).binding("point")
    box = close_box(key, 0, plain, info + b"\0" + clear)
    data = clear + seal_key(key, source.metadata_public, info) + box
    return data + point_tag(source.hash_key, data)


@cache
def packs() -> list[tuple[str, bytes]]:
    """Return names and bytes of all packs that are objects."""
    objects = lab().store.objects
    return sorted((name, data) for name, data in objects.items() if name.endswith(".pk"))


def pack_refs() -> list[PackRef]:
    """Return how points name packs."""
    reader = lab().reader._reader()
    return [ref for point, _ in lab().kept for ref in reader.load(point.name).body.packs]


def pack_tail(number: int) -> bytes:
    """Return index box and footer of a pack."""
    name, data = packs()[number]
    footer = unpack_footer(data, Scope(lab().keys.source.repository_id, VOLUME, name))
    return data[footer.data_size :]


def plain_index(number: int) -> bytes:
    """Return what lies sealed in a pack's index box."""
    name, tail = packs()[number][0], pack_tail(number)
    scope = Scope(lab().keys.source.repository_id, VOLUME, name)
    info, footer = scope.binding("pack-index"), unpack_footer(tail, scope)
    key = open_key(footer.index_seal, lab().keys.metadata_private, info, what=name)
    return open_box(key, 0, tail[:-FOOTER_SIZE], info + tail[-FOOTER_SIZE:], what=name)


GOLDEN = Path(__file__).parents[1] / "store/golden/format-1"


@cache
def repacked() -> tuple[bytes, Footer, str]:
    """Return the plain index of a repacked pack of the golden repository, its footer and name."""
    keys = load_restore(str(GOLDEN / "keys/restore.key"), "golden")
    path = next((GOLDEN / "repo").glob("v/*/d/*/r*.pk"))
    name, data = path.relative_to(GOLDEN / "repo").as_posix(), path.read_bytes()
    scope = Scope(keys.source.repository_id, VOLUME, name)
    footer, info = unpack_footer(data, scope), scope.binding("pack-index")
    key = open_key(footer.index_seal, keys.metadata_private, info, what=name)
    box = data[footer.data_size : -FOOTER_SIZE]
    return open_box(key, 0, box, info + data[-FOOTER_SIZE:], what=name), footer, name


def use_forged_manifest(plain: bytes) -> object:
    """Open and read the newest point by a manifest with ``plain`` as its body, sealed anew."""
    keys, store = lab().keys, MemoryObjects()
    header = ManifestHeader(keys.source.repository_id, VOLUME, 1, "", 5)
    store.objects = {
        **lab().store.objects,
        header.name: pack_manifest(
            header, msgspec.Raw(plain), metadata_public=keys.source.metadata_public,
            hash_key=keys.source.hash_key,
        ),
    }  # fmt: skip
    reader = Repository.on(store, restore=keys)
    name, _ = point(3)
    image = reader.open_image(name)
    image.read_into(0, memoryview(bytearray(image.size)))
    return image.data_extents()


def plain_manifest() -> bytes:
    """Return the body of a manifest with something of everything."""
    entries = tuple(entry_of(point) for point, _ in lab().kept)
    ref = pack_refs()[0]
    return pack_record(
        Manifest(
            points=entries,
            layers=(LayerRef(0, 4, layer_name(VOLUME, 0, 4, "0" * 8), 900, 300, bytes(32)),),
            forgotten=(Forgotten(2, 1, 9, "because"),),
            holds=(Hold(3, 5),),
            verified=(Verified(1, 7, "data"),),
            moved=(Moved(ref.name, (ref,)),),
            patches=(Patch(ref.name, 3, 2, ref, 9),),
            epoch=3,
            pack_count=7,
            pack_bytes=1 << 30,
        )
    )
