"""Objects of a volume beside points, packs and layers in use: genuine, and in their place. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import FormatError, StoreError
from blocksnapd.store.collection_format import COLLECTION_SIZE_MAX, unpack_collection
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import (
    collections_prefix,
    layers_prefix,
    manifests_prefix,
    packs_prefix,
    parse_collection_name,
    parse_layer_name,
    parse_manifest_name,
    parse_pack_name,
    points_prefix,
    volume_prefix,
)
from blocksnapd.store.verify import ObjectCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.objects import ObjectStore


def check_others(store: ObjectStore, key: MaintenanceKey, volume_id: str) -> Iterator[ObjectCheck]:
    """Yield each manifest, list and proof of a collection, and each object of a strange name.

    Leftovers are no problem: packs and layers that nothing names, until they are collected.

    Raises:
        StoreError: the place cannot be listed.
    """
    yield from _manifests(store, key, volume_id)
    yield from _collections(store, key, volume_id)
    yield from _strange(store, packs_prefix(volume_id), parse_pack_name, "pack")
    yield from _strange(store, layers_prefix(volume_id), parse_layer_name, "layer")
    known = {points_prefix(volume_id), packs_prefix(volume_id), layers_prefix(volume_id)}
    for child in store.children(volume_prefix(volume_id)):
        if f"{volume_prefix(volume_id)}{child}/" not in known:
            yield ObjectCheck(f"{volume_prefix(volume_id)}{child}", 0, "nothing is kept there")


def _manifests(store: ObjectStore, key: MaintenanceKey, volume_id: str) -> Iterator[ObjectCheck]:
    manifests = Manifests(store, key)
    before, digest = 0, ""
    for name in store.list_names(manifests_prefix(volume_id)):
        problem, size = "", 0
        try:
            generation = parse_manifest_name(name)[1]
            size = store.size(name)
            found = manifests.load(volume_id, generation)
            if before and generation == before + 1 and found.prev_digest != digest:
                problem = "it was written after another manifest than the one that is there"
            before, digest = generation, found.digest
        except (FormatError, StoreError) as error:
            problem, before = error.message, 0
        yield ObjectCheck(name, size, problem)


def _collections(store: ObjectStore, key: MaintenanceKey, volume_id: str) -> Iterator[ObjectCheck]:
    source = key.source
    for name in store.list_names(collections_prefix(volume_id)):
        problem, size = "", 0
        try:
            parse_collection_name(name)
            data = store.get(name, size_max=COLLECTION_SIZE_MAX)
            size = len(data)
            unpack_collection(data, name, source.repository_id, source.hash_key)
        except (FormatError, StoreError) as error:
            problem = error.message
        yield ObjectCheck(name, size, problem)


def _strange(
    store: ObjectStore, prefix: str, parse: Callable[[str], object], what: str
) -> Iterator[ObjectCheck]:
    for name in store.list_names(prefix):
        try:
            parse(name)
        except FormatError:
            yield ObjectCheck(name, 0, f"it is not a {what}")
