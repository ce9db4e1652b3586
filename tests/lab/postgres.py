"""Where PostgreSQL's programs are: installed, or unpacked by ``make setup``."""

from __future__ import annotations

from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]
_PLACES = (Path("/usr/lib/postgresql"), _PROJECT / "build/postgresql/usr/lib/postgresql")


def bin_dir() -> Path | None:
    """Return the directory of a server's programs; None: there is none."""
    found = [path.parent for place in _PLACES for path in sorted(place.glob("*/bin/postgres"))]
    return found[-1] if found else None
