"""Stores that would lose points are refused before a repository is made in them."""

from __future__ import annotations

import pytest

from blocksnapd.errors import ObjectExistsError, RefusedError
from blocksnapd.model import Access
from blocksnapd.store.init import init_repository
from blocksnapd.store.s3 import S3Store
from blocksnapd.store.s3_probe import PREFIX, _Probe, probe


def test_a_good_store_passes_and_nothing_stays(seaweed):
    store = seaweed.store()
    assert probe(store) == ()
    assert store.list_names(PREFIX) == []


def test_a_store_that_ignores_conditions_is_refused(rclone, tmp_path):
    with pytest.raises(RefusedError, match="wrote one object over another") as found:
        init_repository(
            rclone.url, str(tmp_path / "keys"), access=Access(credentials=rclone.credentials)
        )
    assert "could be lost" in found.value.effect
    assert "If-None-Match" in found.value.hint
    assert not (tmp_path / "keys").exists()


def test_an_upload_in_parts_without_condition_is_told(rclone):
    tried = _Probe(rclone.store())
    tried.parts()
    assert "without a look" in tried.notes[0]


class LooksThenWrites(S3Store):
    """What a store does whose condition is no lock: it looks, and then it writes."""

    def put(self, name, parts):
        if self.exists(name):
            raise ObjectExistsError(f"{name} exists")
        data = b"".join(parts)
        self.clients.data.put(name, data)
        return len(data)


def test_a_condition_that_is_no_lock_is_refused(seaweed):
    store = LooksThenWrites(seaweed.url(), Access(credentials=seaweed.admin))
    with pytest.raises(RefusedError, match="who wrote one name at once that they won"):
        probe(store)
    assert store.list_names(PREFIX) == []


class AnswersWhole(S3Store):
    """What a store does that knows no ranges."""

    def get_range(self, name, offset, size):
        return self.get(name, size_max=1 << 20)


def test_a_store_without_ranges_is_refused(seaweed):
    with pytest.raises(RefusedError, match="another part"):
        probe(AnswersWhole(seaweed.url(), Access(credentials=seaweed.admin)))


def test_a_store_that_cannot_read_parts_is_refused(rclone):
    tried = _Probe(rclone.store())
    with pytest.raises(RefusedError):
        tried.create_only()
    with pytest.raises(RefusedError, match="cannot read parts"):
        tried.ranges()
