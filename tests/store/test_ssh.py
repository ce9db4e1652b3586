"""The way to a receiver through a real ssh and sshd: open, cut, and each thing that goes wrong."""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.model import NO_ACCESS, Access
from blocksnapd.receiver_url import parse_ssh
from blocksnapd.store import ssh
from blocksnapd.store.receiver_link import LinkError
from blocksnapd.store.ssh import SshDialer, ssh_argv
from tests.sshd import Sshd

ECHO = "echo blocksnap-receiver 1; exec cat"


@pytest.fixture
def sshd(tmp_path):
    made = Sshd(tmp_path / "sshd", ECHO)
    made.start()
    yield made
    made.stop()


def dialled(sshd: Sshd) -> socket.socket:
    return SshDialer(parse_ssh(sshd.url), sshd.access).dial()


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_url_can_slip_an_option_or_a_command_in(host, user):
    try:
        found = parse_ssh(f"ssh://{user}@{host}")
    except ValueError:
        return
    argv = ssh_argv(found, NO_ACCESS)
    assert argv[-3:] == ["--", found.host, "blocksnapd receive --stdio"]
    assert not found.host.startswith("-")
    assert not found.user.startswith("-")


def test_bytes_go_there_and_back(sshd):
    with dialled(sshd) as found:
        data = os.urandom(300_000)
        found.settimeout(20)
        got = bytearray()
        for at in range(0, len(data), 30_000):
            found.sendall(data[at : at + 30_000])
            while len(got) < at + 30_000:
                got += found.recv(65536)
        assert bytes(got) == data
    found.close()


def test_the_far_end_ends_with_us(sshd, tmp_path):
    sign = tmp_path / "ended"
    sshd.force(f"echo blocksnap-receiver 1; cat; touch {sign}")
    dialled(sshd).close()
    deadline = time.monotonic() + 20
    while not sign.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_connection_that_dies_is_told_with_what_was_said(sshd):
    sshd.force("echo blocksnap-receiver 1; read x; echo 'the disk is on fire' >&2; exit 3")
    with dialled(sshd) as found:
        found.sendall(b"x\n")
        with pytest.raises(ConnectionError, match="ssh says: the disk is on fire"):
            found.recv(10)


def test_a_host_key_that_changed_is_told(sshd):
    dialled(sshd).close()
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    with pytest.raises(LinkError, match="not the one that is known") as caught:
        dialled(sshd)
    assert "ssh-keygen -R 127.0.0.1" in caught.value.hint
    sshd.know_host()
    dialled(sshd).close()


def test_a_host_key_that_is_not_known_is_told(sshd, tmp_path):
    (tmp_path / "sshd/known_hosts").write_text("")
    with pytest.raises(LinkError, match="not known here"):
        dialled(sshd)


def test_a_key_that_is_not_let_in_is_told(sshd, tmp_path):
    (tmp_path / "sshd/authorized_keys").write_text("")
    with pytest.raises(LinkError, match="does not let our key in") as caught:
        dialled(sshd)
    assert "blocksnapctl pair" in caught.value.hint


def test_a_shell_that_greets_first_is_told(sshd):
    sshd.force("echo Welcome to backup1; exec cat")
    with pytest.raises(LinkError, match="begin as a receiver does but with 'Welcome to backup1'"):
        dialled(sshd)


def test_a_program_that_is_not_there_is_told(sshd):
    sshd.force("/none/blocksnapd receive --stdio --host db01")
    with pytest.raises(LinkError, match=r"before its greeting; ssh says: .*/none/blocksnapd"):
        dialled(sshd)


def test_nobody_there_is_told(sshd):
    sshd.stop()
    with pytest.raises(LinkError, match="nothing answers there"):
        dialled(sshd)
    gone = parse_ssh("ssh://nowhere.invalid")
    with pytest.raises(LinkError, match="name is not known"):
        SshDialer(gone, sshd.access).dial()


def test_one_who_never_greets_is_given_up(sshd, monkeypatch):
    monkeypatch.setattr(ssh, "CONNECT_S_MAX", 2.0)
    monkeypatch.setattr(ssh, "END_S_MAX", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"ssh://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(LinkError, match=r"no greeting|nothing answers|timed out"):
            SshDialer(parse_ssh(url), sshd.access).dial()


def test_endless_complaints_take_bounded_memory(sshd):
    sshd.force("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo last words >&2; exit 1")
    with pytest.raises(LinkError, match="last words") as caught:
        dialled(sshd)
    assert len(str(caught.value)) < 1500


def test_terminals_get_no_control_characters(sshd):
    sshd.force("printf 'a\\033[2Jb\\n'; exit 1")
    with pytest.raises(LinkError) as caught:
        dialled(sshd)
    assert "\x1b" not in str(caught.value)


def test_paths_with_spaces_and_percents(sshd, tmp_path):
    odd = tmp_path / "a %h b"
    odd.mkdir()
    for name in ("known_hosts", "key"):
        (odd / name).write_bytes((tmp_path / "sshd" / name).read_bytes())
        (odd / name).chmod(0o600)
    access = Access(ca=str(odd / "known_hosts"), key=str(odd / "key"))
    SshDialer(parse_ssh(sshd.url), access).dial().close()


def test_without_ssh_it_is_said(sshd, monkeypatch):
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(LinkError, match="could not be started"):
        dialled(sshd)
