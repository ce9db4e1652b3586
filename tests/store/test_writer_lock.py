"""One writer at a time on a host, also where the place has no lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from blocksnapd.errors import BusyError, StoreError
from blocksnapd.store import writer_lock
from blocksnapd.store.writer_lock import lock_on_host


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_lock, "_runtime_dir", lambda: str(tmp_path / "run"))
    return tmp_path / "run"


def test_one_place_and_prefix_has_one_writer():
    held = lock_on_host("s3://a/", "v/1/")
    assert not held.is_everywhere
    for url, prefix in (("s3://a/", "v/2/"), ("s3://b/", "v/1/")):
        lock_on_host(url, prefix).release()
    with pytest.raises(BusyError) as found:
        lock_on_host("s3://a/", "v/1/")
    assert found.value.effect
    assert found.value.hint
    held.release()
    lock_on_host("s3://a/", "v/1/").release()


def test_the_death_of_a_writer_frees_its_lock(runtime):
    code = (
        "import sys, time; from blocksnapd.store import writer_lock as w;"
        "w._runtime_dir = lambda: sys.argv[1]; held = w.lock_on_host('s3://a/', 'v/1/');"
        "print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(runtime)], stdout=subprocess.PIPE) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == b"held\n"
        with pytest.raises(BusyError):
            lock_on_host("s3://a/", "v/1/")
        it.send_signal(signal.SIGKILL)
    lock_on_host("s3://a/", "v/1/").release()


def test_nobody_else_can_prepare_the_place_of_the_locks(runtime, tmp_path):
    os.symlink(tmp_path, runtime)
    with pytest.raises(StoreError, match="not a directory of this user"):
        lock_on_host("s3://a/", "v/1/")


@pytest.mark.parametrize(
    ("user", "environment", "expected"),
    [
        (0, {"XDG_RUNTIME_DIR": "/run/user/0"}, "/run/blocksnap"),
        (1000, {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/blocksnap"),
        (1000, {}, "/tmp/blocksnap-1000"),
    ],
)
def test_each_user_has_a_place_for_locks(monkeypatch, user, environment, expected):
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "environ", environment)
    assert writer_lock._runtime_dir() == expected
