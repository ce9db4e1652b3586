"""The socket's file: its mode, its group, whose it is; and who is at the other end."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blocksnapd.control.access import Access, Peer
from blocksnapd.control.unix_socket import access_for, bind, peer_of, who
from blocksnapd.errors import BusyError, ConfigError, HostError

if TYPE_CHECKING:
    from pathlib import Path

OWN = Access(own_uid=os.geteuid())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change user and group")


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    with bind(str(path), OWN):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
        assert stat.S_ISSOCK(path.stat().st_mode)


@needs_root
def test_groups(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    with bind(str(path), Access(0, read_gid=4321, admin_gid=1234)):
        assert path.stat().st_gid == path.parent.stat().st_gid == 4321
    path.unlink()
    with bind(str(path), Access(0, admin_gid=1234)):
        assert path.stat().st_gid == 1234


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    bind(path, OWN).close()
    with bind(path, OWN), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_living_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    with bind(path, OWN), pytest.raises(BusyError, match="another daemon listens"):
        bind(path, OWN)


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    path.write_text("mine")
    with pytest.raises(HostError, match="cannot listen"):
        bind(str(path), OWN)
    assert path.read_text() == "mine"


def test_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot listen") as caught:
        bind(str(tmp_path / "file" / "c.sock"), OWN)
    assert caught.value.hint


def test_access_for() -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    assert access_for(None, None) == OWN
    assert access_for(group, None).read_gid == os.getegid()
    assert access_for(None, group).admin_gid == os.getegid()
    with pytest.raises(ConfigError, match="read_group: this host has no group 'no such'"):
        access_for("no such", None)


def test_the_peer_is_ourselves(tmp_path: Path) -> None:
    with bind(str(tmp_path / "c.sock"), OWN) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.setblocking(True)
        client.connect(str(tmp_path / "c.sock"))
        connection, _ = listening.accept()
        with connection:
            peer = peer_of(connection)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.gids == {os.getegid(), *os.getgroups()}
    assert who(peer) == {
        "pid": os.getpid(), "uid": os.geteuid(), "login": pwd.getpwuid(os.geteuid()).pw_name,
    }  # fmt: skip


CONNECT = """
import os, socket
os.setgroups([4321, 1234])
os.setgid(65534)
os.setuid(65534)
socket.socket(socket.AF_UNIX).connect("\\0blocksnap-test-peer")
"""


@needs_root
def test_the_peer_is_somebody_with_groups() -> None:
    """Supplementary groups count: that is how ``usermod -aG blocksnap`` works."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0blocksnap-test-peer")
        listening.listen()
        with subprocess.Popen([sys.executable, "-c", CONNECT]) as process:
            connection, _ = listening.accept()
            with connection:
                peer = peer_of(connection)
        assert process.returncode == 0
    assert (peer.pid, peer.uid) == (process.pid, 65534)
    assert peer.gids == {65534, 4321, 1234}


def test_a_user_without_a_name() -> None:
    assert who(Peer(1, 3_999_999_999, frozenset()))["login"] == ""
