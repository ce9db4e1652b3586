"""Addresses of receivers, ``https://backup1.example.net:7420/``: read and judged. Pure."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_TCP_PORT = 7420


class ReceiverAddress(NamedTuple):
    """Where a receiver listens."""

    host: str
    tcp_port: int


def is_receiver(url: str) -> bool:
    """Return whether ``url`` is written like a receiver's."""
    return url.lower().startswith("https:")


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
