"""Making a repository: what is made, what is refused, what people are told."""

from __future__ import annotations

import os

import pytest

from blocksnapd.errors import RefusedError, StoreError, UsageError
from blocksnapd.model import Access
from blocksnapd.store.init import init_in, init_repository
from blocksnapd.store.keys import KdfCost, load_source
from blocksnapd.store.new_place import make_place
from blocksnapd.store.repository import Repository
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import Lab, check_image


def test_a_new_repository_works_at_once(tmp_path):
    report = init_repository(f"file://{tmp_path}/srv/repo", str(tmp_path / "keys"))
    writer = Repository.open(str(tmp_path / "srv/repo"), source_key=report.source_key)
    reader = Repository.open(str(tmp_path / "srv/repo"), restore_key=report.restore_key)
    assert writer.repository_id == reader.repository_id == report.repository_id
    lab = Lab(store=writer._store, keys=reader._metadata, blocks=9)
    lab.write([1, 2])
    point = lab.commit()
    check_image(reader, point, lab.bytes())
    assert reader.volumes() == [point.facts.volume_id]


def test_a_passphrase_seals_the_restore_key(tmp_path):
    cost = KdfCost(memory_kib=64, iterations=1, lanes=1)
    report = init_repository(str(tmp_path / "r"), str(tmp_path / "k"), "secret", kdf_cost=cost)
    assert report.is_sealed
    assert "sealed by your passphrase" in report.advice()
    opened = Repository.open(
        str(tmp_path / "r"), restore_key=report.restore_key, passphrase="secret"
    )
    assert opened.hash_key


def test_the_advice_names_both_files_and_where_they_belong(tmp_path):
    report = init_repository(str(tmp_path / "r"), str(tmp_path / "k"))
    advice = report.advice()
    assert report.source_key in advice
    assert report.restore_key in advice
    assert "neither this host nor" in advice
    assert "no passphrase" in advice
    assert all(len(line) < 100 for line in advice.splitlines() if "/" not in line)


def test_a_second_repository_in_the_same_place_is_refused(tmp_path):
    init_repository(str(tmp_path / "r"), str(tmp_path / "k"))
    with pytest.raises(RefusedError, match="a repository in") as error:
        init_repository(str(tmp_path / "r"), str(tmp_path / "k2"))
    assert "not touched" in error.value.effect
    assert not (tmp_path / "k2").exists()


def test_a_directory_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(RefusedError, match=r"holiday\.jpg"):
        init_repository(str(tmp_path), str(tmp_path.parent / "k"))


def test_an_empty_file_system_is_empty(tmp_path):
    (tmp_path / "r" / "lost+found").mkdir(parents=True)
    init_repository(str(tmp_path / "r"), str(tmp_path / "k"))


def test_existing_keys_are_never_touched(tmp_path):
    (tmp_path / "k").mkdir()
    (tmp_path / "k/restore.key").write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        init_repository(str(tmp_path / "r"), str(tmp_path / "k"))
    assert (tmp_path / "k/restore.key").read_text() == "precious"
    assert os.listdir(tmp_path / "r") == []


def test_keys_inside_the_repository_are_refused(tmp_path):
    with pytest.raises(UsageError, match="inside the repository"):
        init_repository(str(tmp_path / "r"), str(tmp_path / "r/keys"))
    assert not (tmp_path / "r").exists()


def test_a_place_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be used"):
        init_repository(str(tmp_path / "file"), str(tmp_path / "k"))
    with pytest.raises(StoreError):
        init_repository(str(tmp_path / "file/r"), str(tmp_path / "k"))
    with pytest.raises(UsageError, match="place this version"):
        init_repository("gopher://bucket", str(tmp_path / "k"))


def test_a_place_that_was_made_ready_and_left_can_be_made_ready_again(tmp_path, seaweed):
    access = Access(credentials=seaweed.admin)
    for url in (str(tmp_path / "r"), seaweed.url()):
        assert make_place(url, access).notes == ()
        assert make_place(url, access).store.list_names("v/") == []


def test_any_empty_store_can_hold_a_repository(tmp_path):
    store = MemoryObjects()
    report = init_in(store, str(tmp_path / "k"), notes=("What is odd about this place.",))
    assert report.advice().endswith("What is odd about this place.\n")
    assert Repository.on(store, source=load_source(report.source_key)).volumes() == []


def test_a_repository_in_object_storage_works_at_once(tmp_path, seaweed):
    url, access = seaweed.url(), Access(credentials=seaweed.admin)
    report = init_repository(url, str(tmp_path / "k"), access=access)
    assert report.notes == ()
    assert report.url == url
    writer = Repository.open(url, access=access, source_key=report.source_key)
    reader = Repository.open(url, access=access, restore_key=report.restore_key)
    lab = Lab(store=writer._store, keys=reader._metadata, blocks=900)
    lab.write(range(900), noise=True)
    lab.commit()
    lab.write([5, 6])
    lab.commit([5, 6])
    lab.check_all()
    with pytest.raises(RefusedError, match="a repository in"):
        init_repository(url, str(tmp_path / "k2"), access=access)
    assert not (tmp_path / "k2").exists()


def test_a_prefix_with_something_in_it_is_refused(tmp_path, seaweed):
    url, access = seaweed.url(), Access(credentials=seaweed.admin)
    seaweed.store(url).put("holiday.jpg", [b""])
    with pytest.raises(RefusedError, match=r"holiday\.jpg"):
        init_repository(url, str(tmp_path / "k"), access=access)
    assert not (tmp_path / "k").exists()
