"""Workers that outlive the command that started them: found again, and cleared away once dead."""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from blocksnapctl.client import Client
from blocksnapctl.detached import DetachedWorker, every_run, exports_directory, teller_of
from blocksnapctl.output import Output
from blocksnapctl.worker import WorkerFailedError
from blocksnapd.errors import HostError, UnreachableError
from tests.ctl.calling import FAKE_DAEMON

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = Client("/nonexistent/control.sock")


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as short:  # a socket's path may have 107 bytes
        monkeypatch.setenv("XDG_STATE_HOME", short)
        yield


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "restore.key").write_text('{"kind": "restore"}')
    return str(tmp_path / "restore.key")


def places() -> list[str]:
    return [name for name in os.listdir(exports_directory()) if not name.startswith(".")]


def said() -> tuple[Output, io.StringIO]:
    told = io.StringIO()
    arguments = argparse.Namespace(
        json=False, plain=False, quiet=False, verbose=False, no_color=True
    )
    return Output(io.StringIO(), told, arguments, {}), told


def test_one_that_is_kept_is_found_until_it_dies(key: str) -> None:
    output, told = said()
    with DetachedWorker("/srv/repo", key, None, program=FAKE_DAEMON) as worker:
        asked = {"kind": "export", "unix": "/a"}
        run_id = worker.client.post("runs", body=asked)["id"]
        worker.keep()
        process = worker._process
        assert process is not None
    try:
        assert os.getsid(process.pid) == process.pid, "no terminal of ours takes it along"
        assert os.readlink(f"/proc/{process.pid}/cwd") == "/"
        found = every_run(NOBODY, None, output)["runs"]
        assert [run["id"] for run in found] == [run_id]
        assert "Only exports" in told.getvalue()
        assert teller_of(NOBODY, run_id).socket_path == worker.client.socket_path
        assert teller_of(NOBODY, "r00000000") is NOBODY
        assert oct(os.stat(exports_directory()).st_mode & 0o777) == "0o700"
    finally:
        process.kill()
        process.wait()
    assert places()
    with pytest.raises(UnreachableError):
        every_run(NOBODY, None, output)
    assert not places()


def test_one_that_answers_is_alive_though_its_lock_is_not_seen(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, _ = said()
    with DetachedWorker("/srv/repo", key, None, program=FAKE_DAEMON) as worker:
        worker.client.post("runs", body={"kind": "export", "unix": "/a"})
        monkeypatch.setattr("fcntl.flock", lambda *_: None)
        assert len(every_run(NOBODY, None, output)["runs"]) == 1
        assert places()


def test_one_that_is_not_kept_is_gone(key: str) -> None:
    with DetachedWorker("/srv/repo", key, None, program=FAKE_DAEMON) as worker:
        assert places()
        process = worker._process
    assert process is not None
    assert process.returncode is not None
    assert not places()


def test_one_that_fails_tells_why(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WorkerFailedError) as caught:
        DetachedWorker("/missing", key, None, program=FAKE_DAEMON).__enter__()
    assert caught.value.exit_code == 11
    assert "no repository there" in capsys.readouterr().err
    assert not places()


def test_where_nothing_may_be_made_is_told(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    with pytest.raises(HostError, match="/proc/none"):
        DetachedWorker("/srv/repo", key, None, program=FAKE_DAEMON).__enter__()
    output, _ = said()
    with pytest.raises(UnreachableError):
        every_run(NOBODY, None, output)
