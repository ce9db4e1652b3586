"""The Unix socket of the control server: making it, and who is at its other end. Edge."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import stat
import struct
from typing import TYPE_CHECKING

from blocksnapd.control.access import Access, Peer
from blocksnapd.errors import BusyError, ConfigError, HostError

if TYPE_CHECKING:
    from blocksnapd.control.messages import Who

BACKLOG = 64
SO_PEERGROUPS = 59  # Linux 4.13, asm-generic/socket.h; Python 3.11 has no name for it
GROUPS_MAX = 256  # as many as Python lets getsockopt return; of more, only the primary counts


def access_for(read_group: str | None, admin_group: str | None) -> Access:
    """Return the rules for these groups, of ``[control]``.

    Raises:
        ConfigError: this host has no such group.
    """
    return Access(os.geteuid(), _gid("read_group", read_group), _gid("admin_group", admin_group))


def bind(path: str, access: Access) -> socket.socket:
    """Return a listening socket at ``path``, mode 0660, in a directory made 0750 if missing.

    A socket file that nobody listens on any more is replaced. The file belongs to the read
    group if there is one, else to the admin group: whoever may connect is asked again, by name,
    at each request.

    Raises:
        BusyError: another daemon listens there. HostError: the place does not allow it.
    """
    gid = access.read_gid if access.read_gid is not None else access.admin_gid
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _make_directory(os.path.dirname(path), gid)
        _remove_stale(path)
        # The mode of the descriptor becomes the mode of the file: no moment open to everybody.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(path)
        if gid is not None:
            os.chown(path, -1, gid)
        os.chmod(path, 0o660)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise HostError(
            f"cannot listen on {path}: {error.strerror or error}",
            effect="The daemon cannot be controlled, so it did not start.",
            hint="Choose another place with [control] socket, or start as root.",
        ) from error
    except BaseException:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def peer_of(connection: socket.socket) -> Peer:
    """Return who connected, as the kernel noted it at that moment.

    Raises:
        OSError: the socket is closed.
    """
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * GROUPS_MAX)
    except OSError:  # too many groups, or an older kernel: the primary group alone
        raw = b""
    return Peer(pid, uid, frozenset({gid, *struct.unpack(f"{len(raw) // 4}I", raw)}))


def who(peer: Peer) -> Who:
    """Return the peer as the event log and the runs name it; ``login`` is empty if unknown."""
    login = ""
    with contextlib.suppress(KeyError):
        login = pwd.getpwuid(peer.uid).pw_name
    return {"pid": peer.pid, "uid": peer.uid, "login": login}


def _gid(key: str, group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"control.{key}: this host has no group {group!r}",
            effect="Nothing was started.",
            hint=f"Make it with: groupadd --system {group}",
        ) from None


def _make_directory(path: str, gid: int | None) -> None:
    if os.path.isdir(path):
        return
    os.makedirs(path, 0o750)
    if gid is not None:
        os.chown(path, -1, gid)


def _remove_stale(path: str) -> None:
    # Connecting to a plain file is refused just like connecting to a socket nobody listens on.
    if not os.path.lexists(path) or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(1.0)
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise BusyError(
        f"another daemon listens on {path}",
        effect="This one did not start; the other one goes on.",
        hint="Look with: blocksnapctl status",
    )
