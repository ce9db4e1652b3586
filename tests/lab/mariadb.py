"""Where MariaDB's programs are: unpacked by ``make setup``, as its package would start a server."""

from __future__ import annotations

from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]
_PLACE = _PROJECT / "build/mariadb"
BASE = _PLACE / "usr"


def is_there() -> bool:
    """Whether there is a server."""
    return (BASE / "sbin/mariadbd").exists()


def libraries() -> str:
    """Return where those libraries are that its programs link, for the environment."""
    return ":".join(str(place) for place in sorted(_PLACE.glob("**/lib/*-linux-gnu")))
