"""Addresses of receivers, ``https://backup1:7420/``, ``ssh://user@backup1``: judged. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_TCP_PORT = 7420
# Neither can be taken for an option, or end in a shell.
_SSH_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_SSH_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:%_-]{0,252}")


class ReceiverAddress(NamedTuple):
    """Where a receiver listens."""

    host: str
    tcp_port: int


def is_receiver(url: str) -> bool:
    """Return whether ``url`` is written like a receiver's."""
    return url.lower().startswith(("https:", "ssh:"))


def is_ssh(url: str) -> bool:
    """Return whether the receiver is one that is reached through ssh."""
    return url.lower().startswith("ssh:")


def parse_receiver(url: str) -> ReceiverAddress:
    """Return the address that ``url`` names.

    Raises:
        ValueError: it is none, as a sentence without its subject.
    """
    said = f"{url!r} is not a receiver's address, like 'https://backup1.example.net:7420/'"
    try:
        parts = urlsplit(url)
        host, tcp_port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(said) from None
    has_more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme != "https" or not host or tcp_port == 0 or has_more:
        raise ValueError(said)
    return ReceiverAddress(host, tcp_port or DEFAULT_TCP_PORT)


class SshAddress(NamedTuple):
    """Where ``ssh://user@host:port`` leads; what is empty or None is up to ssh's configuration."""

    url: str
    user: str
    host: str
    tcp_port: int | None


def parse_ssh(url: str) -> SshAddress:
    """Return where ``url`` leads.

    Raises:
        ValueError: it is no ``ssh://`` URL, or one with more in it than a user, a host and a port;
            as a sentence.
    """
    said = f"{url!r} does not name a receiver through ssh, like 'ssh://blocksnap@backup1'"
    try:
        parts = urlsplit(url)
        found = SshAddress(url, parts.username or "", parts.hostname or "", parts.port)
    except ValueError:
        raise ValueError(said) from None
    has_more = parts.path.strip("/") or parts.query or parts.fragment or parts.password is not None
    if parts.scheme != "ssh" or has_more or not _SSH_HOST.fullmatch(found.host):
        raise ValueError(said)
    if found.user and not _SSH_USER.fullmatch(found.user):
        raise ValueError(said)
    return found
