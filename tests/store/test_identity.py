"""Is this the repository of the keys at hand? Asked before anything is read or written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blocksnapd.errors import ChecksumError, RepositoryFormatError, StoreMissingError
from blocksnapd.store.identity import check_repository
from blocksnapd.store.names import REPOSITORY_NAME
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import make_repository


@pytest.fixture
def store():
    return MemoryObjects()


@pytest.fixture
def keys(store):
    return make_repository(store)


def test_the_right_one_tells_its_id(store, keys):
    assert check_repository(store, keys.source) == keys.source.repository_id
    assert check_repository(store, None) == keys.source.repository_id


def test_an_empty_place_holds_none():
    with pytest.raises(StoreMissingError, match="there is no repository"):
        check_repository(MemoryObjects(), None)


def test_another_one_is_told(store, keys):
    with pytest.raises(StoreMissingError, match="the key is of ffffffff"):
        check_repository(store, replace(keys.source, repository_id="f" * 32))


def test_a_changed_repo_json_is_told(store, keys):
    store.objects[REPOSITORY_NAME] = store.objects[REPOSITORY_NAME].replace(b"2026", b"2027", 1)
    with pytest.raises(ChecksumError, match="is not the one that init wrote"):
        check_repository(store, keys.source)


def test_a_damaged_key_is_told(store, keys):
    with pytest.raises(ChecksumError, match="the key file is damaged"):
        check_repository(store, replace(keys.source, hash_key=bytes(32)))


def test_what_is_no_repository_says_what_to_do(store):
    store.put(REPOSITORY_NAME, [b"{}"])
    with pytest.raises(RepositoryFormatError) as told:
        check_repository(store, None)
    assert told.value.effect
    assert told.value.hint
