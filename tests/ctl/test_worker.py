"""Reading a repository with one's own key: the private worker, its key, its end."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from blocksnapctl.client import Client
from blocksnapctl.worker import Worker, WorkerFailedError, is_sealed
from blocksnapd.errors import KeyMissingError
from tests.control.serving import serving
from tests.ctl.calling import FAKE_DAEMON, call, calling

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "restore.key").write_text('{"kind": "restore"}')
    return str(tmp_path / "restore.key")


@pytest.fixture
def sealed(tmp_path: Path) -> str:
    (tmp_path / "sealed.key").write_text(json.dumps({"kind": "restore", "sealed": {}}))
    return str(tmp_path / "sealed.key")


def test_a_worker_answers_and_is_gone_afterwards(key: str) -> None:
    with Worker("/srv/repo", key, None, program=FAKE_DAEMON) as worker:
        folder = os.path.dirname(worker.client.socket_path)
        assert os.stat(folder).st_mode & 0o777 == 0o700
        assert worker.client.get("status")["host"] == "db01"
        process = worker._process
    assert process is not None
    assert process.returncode is not None
    assert not os.path.exists(folder)


def test_a_worker_ends_when_we_are_gone(key: str) -> None:
    """Closing its standard input is what our death does."""
    with Worker("/srv/repo", key, None, program=FAKE_DAEMON) as worker:
        process = worker._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_worker_that_fails_has_told_why(
    key: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WorkerFailedError) as caught:
        Worker("/missing", key, None, program=FAKE_DAEMON).__enter__()
    assert caught.value.exit_code == 11
    assert "no repository there" in capfd.readouterr().err
    assert call("points", "--repo", "/missing", "--key", key).code == 11


def test_points_and_show_without_any_daemon(key: str) -> None:
    args = ("--repo", "/srv/repo", "--key", key)
    assert "p0002" in call("points", *args).out
    assert call("show", "latest:vg0/home", *args, "--json").lines[0]["seq"] == 3


def test_reading_takes_a_key(tmp_path: Path) -> None:
    found = call("points", "--repo", "/srv/repo")
    assert found.code == 77
    assert "--key FILE" in found.err
    found = call("points", "--repo", "/srv/repo", "--key", str(tmp_path / "none"))
    assert found.code == 77
    assert "cannot read the key" in found.err


def test_restore_without_any_daemon(key: str, tmp_path: Path) -> None:
    to = tmp_path / "image"
    args = ("--repo", "/srv/repo", "--key", key)
    found = call("restore", "latest:vg0/home", "--to", str(to), *args)
    assert found.code == 0, found.err
    assert to.read_text() == f"/srv/repo {key} False"
    assert f"restored p0003000000000000 to {to}" in found.out
    assert "p0003000000000000 of vg0/home, 2026-11-22T14:04:00.000Z" in found.err
    os.truncate(to, 0)
    found = call("restore", "p0001", "--at", "x", "--to", str(to), *args)
    assert found.code == 2


async def test_restore_finds_the_repository_through_the_daemon(key: str, tmp_path: Path) -> None:
    to = tmp_path / "image"
    async with serving() as served:
        found = await calling("restore", "vg0/home", "--at", "2026-11-22T14:00", "--to", str(to),
                              "--key", key, "--socket", served.path)  # fmt: skip
    assert found.code == 0, found.err
    assert to.read_text() == f"/srv/blocksnap {key} False"
    assert "2026-11-22T14:00 read as 2026-11-22 14:00:00Z" in found.err


def test_what_exists_is_not_written_over_unasked(key: str, tmp_path: Path) -> None:
    to = tmp_path / "image"
    to.write_text("precious")
    args = ("restore", "latest:vg0/home", "--to", str(to), "--repo", "/srv/repo", "--key", key)
    found = call(*args)
    assert (found.code, to.read_text()) == (12, "precious")
    assert "--yes" in found.err
    assert call(*args, "--yes").code == 0
    assert to.read_text().endswith(" True")


def test_verify(key: str) -> None:
    args = ("--repo", "/srv/repo", "--key", key)
    for item in ([], ["vg0/home"], ["latest:vg0/home"]):
        assert call("verify", *item, *args).code == 0
    found = call("verify", "--repo", "/srv/damaged", "--key", key)
    assert found.code == 14
    assert "2 blocks are damaged [E-CHECKSUM]" in found.err


async def test_verify_finds_the_repository_through_the_daemon(key: str) -> None:
    async with serving() as served:
        served.operations.target_url = "/srv/damaged"
        args = ("--key", key, "--socket", served.path)
        for item in ([], ["vg0/home"], ["p0002"]):
            assert (await calling("verify", *item, *args)).code == 14
        assert (await calling("verify", "vg0/x", *args)).code == 11
        assert (await calling("verify", "p", *args)).code == 2


async def test_verify_asks_for_a_share_or_for_the_source(key: str) -> None:
    async with serving() as served:
        at = ("--socket", served.path)
        done = await calling("verify", "--source", "vg0/home", "--timeout", "0.2s", *at)
        assert done.code == 124  # the run goes on, and it is a whole one
        assert served.operations.asked[-1][0] == {
            "kind": "cycle", "volume": "vg0/home", "full": True,
        }  # fmt: skip
        for wrong in (["--source"], ["--source", "p0002"], ["--source", "--data", "5%"],
                      ["--data", "5"], ["--data", "101%"]):  # fmt: skip
            assert (await calling("verify", *wrong, *at)).code == 2
        found = await calling("verify", "vg0/home", *at)
        assert "--key" in found.err
    assert call("verify", "--data", "0%", "--repo", "/srv/repo", "--key", key).code == 0


def test_a_passphrase_from_a_file(sealed: str, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("open sesame\n")
    to = tmp_path / "image"
    args = ("restore", "latest:vg0/home", "--to", str(to), "--repo", "/r", "--key", sealed)
    assert call(*args, "--passphrase-file", str(tmp_path / "words")).code == 0
    assert to.read_text().startswith(f"/r {sealed} open sesame ")
    assert call(*args, "--yes", "--passphrase-file", str(tmp_path / "none")).code == 77


def test_nobody_to_type_the_passphrase(sealed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(KeyMissingError, match="nobody is here to type it"):
            Worker("/r", sealed, None, program=FAKE_DAEMON).__enter__()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [(b'{"sealed": {}}', True), (b'{"kind": 1}', False), (b"\xff", False), (b"[]", False)],
)
def test_is_sealed(tmp_path: Path, content: bytes, wanted: bool) -> None:
    (tmp_path / "k").write_bytes(content)
    assert is_sealed(str(tmp_path / "k")) is wanted


def test_the_client_is_the_worker_s(key: str) -> None:
    with Worker("/srv/repo", key, None, program=FAKE_DAEMON) as worker:
        assert isinstance(worker.client, Client)
