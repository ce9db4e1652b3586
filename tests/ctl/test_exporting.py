"""What ``export`` tells the operator to type, and how it ends. Whole exports: tests/flow."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from blocksnapctl.exporting import advice
from tests.ctl.calling import call

if TYPE_CHECKING:
    from pathlib import Path


def words_of(lines: list[str], first: str) -> list[str]:
    """Return the words of the command that the line beginning with ``first`` tells."""
    return next(shlex.split(line)[1:] for line in lines if line.split()[0] == first)


@pytest.mark.parametrize("path", ["/tmp/a/nbd.sock", "/tmp/a b/it's.sock"])
def test_commands_for_a_unix_socket_can_be_typed_as_they_stand(path):
    uri = f"nbd+unix:///?socket={quote(path)}"
    lines = advice(uri, is_writable=False, is_one=True)
    assert words_of(lines, "look") == ["nbdinfo", uri]
    assert words_of(lines, "copy")[:2] == ["qemu-img", "convert"]
    assert words_of(lines, "copy")[-2:] == [uri, "disk.qcow2"]
    mount = words_of(lines, "mount")
    assert mount[:4] == ["nbd-client", "-unix", path, "/dev/nbd0"]
    assert mount[-4:] == ["-o", "ro,norecovery", "/dev/nbd0", "/mnt"]
    assert any("--writable" in line for line in lines)


def test_commands_for_tcp_and_a_writable_export():
    lines = advice("nbd://127.0.0.1:7777/", is_writable=True, is_one=True)
    assert words_of(lines, "mount")[:4] == ["nbd-client", "127.0.0.1", "7777", "/dev/nbd0"]
    assert "norecovery" not in " ".join(lines)
    assert not any("--writable" in line for line in lines)


def test_with_every_point_the_name_is_to_be_put_in():
    lines = advice("nbd://[::1]:10809/", is_writable=True, is_one=False)
    assert "--list" in words_of(lines, "look")
    mount = words_of(lines, "mount")
    assert mount[1:3] == ["::1", "10809"]
    assert mount[mount.index("-N") + 1] == "POINT"
    assert "name of a point" in lines[0]


def test_over_tls_the_plain_client_is_not_offered():
    lines = advice("nbds://192.0.2.7:10809/", is_writable=True, is_one=True)
    assert not any("nbd-client" in line for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        ("--tls-cert", "a"), ("--tls-key", "a"), ("--tls-clients", "a"),
        ("--at", "2026-01-01T00:00"), ("--unix", "/a", "--listen", "b"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(words, tmp_path: Path):
    found = call("export", "--repo", str(tmp_path), "--key", "k", *words)
    assert (found.code, found.out) == (2, "")


def test_it_takes_a_key():
    assert call("export", "p1").code == 2
