"""A receiver reached through ssh: one ``ssh``, and a socket that speaks to its far end. Edge.

The account there has one forced command, which says for which host it speaks, so a login can ask
for nothing else:

    restrict,command="blocksnapd receive --stdio --host db01" ssh-ed25519 AAAA… root@db01

Its first line must be ``GREETING``; what follows is what the receiver says over HTTPS. ssh is
started without a shell, asks no question, and ends when this process does: its input is our socket.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Final

from blocksnapd.store.receiver_link import LinkError

if TYPE_CHECKING:
    from typing import IO

    from blocksnapd.model import Access
    from blocksnapd.receiver_url import SshAddress

GREETING: Final = b"blocksnap-receiver 1\n"
CONNECT_S_MAX: Final = 45.0
ALIVE_EVERY_S: Final = 15
ALIVE_MISSED_MAX: Final = 4
END_S_MAX: Final = 5.0
SAID_SIZE_MAX: Final = 4096
TOLD_MAX: Final = 300
_FIRST_LINE_MAX: Final = 256
_CHANGED: Final = (
    "It was installed anew, or somebody else answers. Compare its fingerprint there, on its "
    "screen; only then forget the old one: ssh-keygen -R {host}"
)
# What ssh complains of → what that means, and what to do. The first one that fits is told.
_CAUSES: Final = {
    "IDENTIFICATION HAS CHANGED": ("its host key is not the one that is known", _CHANGED),
    "Host key verification failed": (
        "its host key is not known here",
        "Log in there once by hand, as the user that runs blocksnapd, and compare the fingerprint.",
    ),
    "Permission denied": (
        "it does not let our key in",
        "Add the key to authorized_keys there; blocksnapctl pair {url} prints the line.",
    ),
    "Could not resolve hostname": (
        "its name is not known",
        "See the name in the target's url, and the name servers of this host.",
    ),
    "connect to host": (
        "nothing answers there",
        "Is it up, does sshd run there, does a firewall let us through?",
    ),
}


def ssh_argv(address: SshAddress, access: Access) -> list[str]:
    """Return what to start; ``access.key`` is a private key, ``access.ca`` a known_hosts file."""
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f"ConnectTimeout={CONNECT_S_MAX / 2:.0f}",
        f"ServerAliveInterval={ALIVE_EVERY_S}",
        f"ServerAliveCountMax={ALIVE_MISSED_MAX}",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "ControlPath=none",
        "Compression=no",  # packs are compressed, and encrypted
        "LogLevel=ERROR",
    ]
    if access.ca is not None:
        options += [f"UserKnownHostsFile={_quoted(access.ca)}", "GlobalKnownHostsFile=none"]
    if access.key is not None:
        options += [f"IdentityFile={_quoted(access.key)}", "IdentitiesOnly=yes"]
    argv = ["ssh", "-T", *(part for option in options for part in ("-o", option))]
    if address.tcp_port is not None:
        argv += ["-p", str(address.tcp_port)]
    if address.user:
        argv += ["-l", address.user]
    return [*argv, "--", address.host, "blocksnapd receive --stdio"]


class SshDialer:
    """Dials through ssh; the dialer of ``receiver_link``."""

    def __init__(self, address: SshAddress, access: Access) -> None:
        self._address, self._access = address, access
        self.host = "receiver"  # whom it speaks for is up to the far end

    def dial(self) -> socket.socket:
        """Start an ssh; return the way there and back. Blocks for at most ``CONNECT_S_MAX``.

        Raises:
            LinkError: it could not be started, or what answers is no receiver.
        """
        near, far = socket.socketpair()
        try:
            with far:
                process = subprocess.Popen(
                    ssh_argv(self._address, self._access),
                    stdin=far.fileno(),
                    stdout=far.fileno(),
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
        except OSError as error:
            near.close()
            raise LinkError(
                f"ssh could not be started: {error.strerror}", hint="Install openssh-client."
            ) from error
        stream = _SshStream(near, process)
        try:
            self._await_greeting(stream)
        except BaseException:
            stream.close()
            raise
        return stream

    def _await_greeting(self, stream: _SshStream) -> None:
        stream.settimeout(CONNECT_S_MAX)
        line = b""
        try:
            while not line.endswith(b"\n") and len(line) < _FIRST_LINE_MAX:
                byte = stream.recv(1)
                if not byte:
                    break
                line += byte
        except TimeoutError:
            raise self._failure(stream, f"no greeting within {CONNECT_S_MAX:.0f} s") from None
        except OSError as error:
            raise self._failure(stream, "it ended before its greeting") from error
        if not line:
            raise self._failure(stream, "it ended before its greeting")
        if line != GREETING:
            raise LinkError(
                f"it does not begin as a receiver does but with {_plain(line)!r}",
                hint="A shell, its start-up files or a banner answered. The key's line in "
                'authorized_keys there must force the command: restrict,command="blocksnapd '
                'receive --stdio --host NAME" …, and nothing may print before it.',
            )

    def _failure(self, stream: _SshStream, said: str) -> LinkError:
        stream.end()
        heard = stream.heard()
        for sign, (cause, hint) in _CAUSES.items():
            if sign in heard:
                where = {"host": self._address.host, "url": self._address.url}
                return LinkError(f"{cause} ({_plain(stream.said)})", hint=hint.format(**where))
        words = f"; ssh says: {_plain(stream.said)}" if stream.said else ""
        hint = "See the log of sshd and of the receiver there."
        return LinkError(said + words, hint=hint)


class _SshStream(socket.socket):
    """Our end of an ssh; what it complains of is told when it ends."""

    def __init__(self, near: socket.socket, process: subprocess.Popen[bytes]) -> None:
        super().__init__(fileno=near.detach())
        assert process.stderr is not None  # asked for above
        self.said = b""
        self._process = process
        self._listener = threading.Thread(
            target=self._listen, args=(process.stderr,), name="ssh", daemon=True
        )
        self._listener.start()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Return what came; at the end, if ssh has words for it, raise them."""
        data = super().recv(size, flags)
        if not data and size:
            self._listener.join(END_S_MAX)
            if self.said:
                raise ConnectionResetError(errno.ECONNRESET, f"ssh says: {_plain(self.said)}")
        return data

    def end(self) -> None:
        """Close it, and see ssh end; it is killed if it does not."""
        self.close()
        self._listener.join(END_S_MAX)
        if self._listener.is_alive():
            self._process.kill()
            self._listener.join()

    def heard(self) -> str:
        """Return the last of what ssh complained of, as it was written."""
        return self.said.decode(errors="replace")

    def _listen(self, words: IO[bytes]) -> None:
        # The last of it is kept, however much there is. Once ssh closes it, ssh is over.
        with words:
            while part := os.read(words.fileno(), 4096):
                self.said = (self.said + part)[-SAID_SIZE_MAX:]
        self._process.wait()


def _quoted(path: str) -> str:
    # In its options ssh splits at spaces and replaces %.
    return '"' + path.replace("%", "%%") + '"'


def _plain(said: bytes) -> str:
    # It goes to terminals and logs, and a stranger may have written it.
    text = said.decode(errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[-TOLD_MAX:]
