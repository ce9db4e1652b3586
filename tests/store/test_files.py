"""The local directory: what only a directory can do wrong."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys

import pytest

from blocksnapd.errors import (
    BusyError,
    ObjectExistsError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    UsageError,
)
from blocksnapd.store.files import LocalStore, local_path
from tests.store.support import VOLUME, Lab


@pytest.mark.parametrize(
    ("url", "path"),
    [("/srv/b", "/srv/b"), ("file:///srv/b%20c", "/srv/b c"), ("/srv/x/../b/", "/srv/b")],
)
def test_a_url_names_a_directory(url, path):
    assert local_path(url) == path


@pytest.mark.parametrize("url", ["s3://bucket/x", "https://host/x", "file://host/x", ""])
def test_a_url_of_another_kind_is_refused_with_what_works(url):
    with pytest.raises(UsageError) as error:
        local_path(url)
    assert "file:///path" in error.value.hint


def test_a_missing_directory_is_not_made(tmp_path):
    with pytest.raises(StoreMissingError, match="no directory"):
        LocalStore(str(tmp_path / "mnt"))
    assert not (tmp_path / "mnt").exists()


def test_a_directory_that_went_missing_is_not_made_anew(tmp_path):
    root = tmp_path / "mnt"
    root.mkdir()
    store = LocalStore(str(root))
    root.rmdir()
    for call in (
        lambda: store.put("v/a/p/x", [b""]),
        lambda: store.lock("v/a/"),
        lambda: store.exists("v/a/p/x"),
        lambda: store.list_names("v/"),
    ):
        with pytest.raises(StoreMissingError, match="gone"):
            call()
    assert not root.exists()


def test_objects_are_for_the_owner_only(tmp_path):
    store = LocalStore(str(tmp_path))
    store.put("v/a/p/x", [b"1"])
    assert stat.S_IMODE(os.stat(tmp_path / "v/a/p/x").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "v/a").st_mode) == 0o700


def test_a_full_disk_is_told_with_cause_consequence_and_next_step(tmp_path):
    """RLIMIT_FSIZE makes the kernel refuse in the middle of the write, as a full disk would."""
    store = LocalStore(str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreFullError) as error:
            store.put("v/a/d/x.pk", [b"x" * 60_000, b"y" * 60_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "no room" in error.value.message
    assert "Nothing was committed" in error.value.effect
    assert "Free room" in error.value.hint
    assert store.list_names("v/") == []
    assert os.listdir(tmp_path / "v/a/.tmp") == []


def test_a_failing_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    store = LocalStore(str(tmp_path))

    def fail(_fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("blocksnapd.runtime.durable.os.fsync", fail)
    with pytest.raises(StoreError, match="Input/output error") as error:
        store.put("x", [b"1"])
    assert error.value.retryable
    monkeypatch.undo()
    assert not store.exists("x")


def test_unfinished_writes_are_never_objects_and_go_with_the_next_writer(tmp_path):
    store = LocalStore(str(tmp_path))
    store.lock("v/a/").release()
    (tmp_path / "v/a/.tmp").mkdir()
    (tmp_path / "v/a/.tmp/.tmp-torn").write_bytes(b"half a pack")
    assert store.list_names("v/") == []
    lock = store.lock("v/a/")
    assert os.listdir(tmp_path / "v/a/.tmp") == []
    lock.release()


def test_old_unfinished_writes_at_the_top_go_at_open(tmp_path):
    (tmp_path / ".tmp").mkdir()
    old, new = tmp_path / ".tmp/.tmp-old", tmp_path / ".tmp/.tmp-new"
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (1, 1))
    LocalStore(str(tmp_path))
    assert not old.exists()
    assert new.exists()


def test_the_death_of_a_writer_releases_its_lock(tmp_path):
    store = LocalStore(str(tmp_path))
    program = (
        "import os, sys; from blocksnapd.store.files import LocalStore;"
        "held = LocalStore(sys.argv[1]).lock('v/a/'); print('held', flush=True); os.abort()"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=False
    )
    assert child.stdout == b"held\n"
    assert child.returncode < 0
    lock = store.lock("v/a/")
    with pytest.raises(BusyError, match="another writer"):
        store.lock("v/a/")
    lock.release()


def test_what_a_dead_writer_left_is_made_durable_before_anyone_goes_on(tmp_path, monkeypatch):
    """It died between giving a name and syncing the directory: the name is seen, not yet safe."""
    lab = Lab(store=LocalStore(str(tmp_path)), blocks=9)
    lab.write([1])
    lab.commit()
    synced = []
    monkeypatch.setattr("blocksnapd.store.files.durable.sync_dir", synced.append)
    lab.writer.newest(VOLUME)
    top = str(tmp_path)
    folders = [top, f"{top}/v", f"{top}/v/{VOLUME}", f"{top}/v/{VOLUME}/p"]
    assert synced == folders
    synced.clear()
    (tmp_path / "v" / VOLUME / "d").mkdir()
    lab.sink(2).abort()
    assert f"{top}/v/{VOLUME}/d" in synced


def test_strange_files_are_not_listed(tmp_path):
    store = LocalStore(str(tmp_path))
    store.put("v/a/p/good", [b""])
    (tmp_path / "v/a/p/bad name").write_bytes(b"")
    (tmp_path / "v/a/p/link").symlink_to("/etc/passwd")
    assert store.list_names("v/") == ["v/a/p/good"]


def test_an_object_written_in_pieces_has_no_name_before_it_is_whole(tmp_path):
    store = LocalStore(str(tmp_path))
    with store.begin("v/a/d/x.pk") as upload:
        upload.write(b"abc")
        upload.write(memoryview(b"def"))
        assert not store.exists("v/a/d/x.pk")
        assert upload.publish() == 6
        upload.close()
        upload.close()
    assert store.get("v/a/d/x.pk", size_max=6) == b"abcdef"
    with store.begin("v/a/d/x.pk") as upload:
        upload.write(b"other")
        with pytest.raises(ObjectExistsError):
            upload.publish()
    with store.begin("v/a/d/y.pk") as upload:
        upload.write(b"given up")
    assert store.list_names("v/") == ["v/a/d/x.pk"]
    assert list((tmp_path / "v/a/.tmp").iterdir()) == []
