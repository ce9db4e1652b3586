"""The zone of this machine, or of whoever set TZ, as the C library knows it. Edge.

Its rules are those of ``localtime(3)``: a name, a file or a POSIX rule in TZ, or /etc/localtime.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


class LocalZone(tzinfo):
    """A zone whose offset goes with the time of the year, as clocks on this machine show it."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Return what is to be added to UTC."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None) -> timedelta | None:  # noqa: ARG002
        """Return nothing: what is due to summer time is not told apart."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """Return the zone's name at that time."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """Return a time of UTC in this zone; of a time that comes twice it knows which it is."""
        instant = moment.replace(tzinfo=UTC)
        wall = instant.astimezone().replace(tzinfo=None, fold=0)
        return wall.replace(tzinfo=self, fold=wall.astimezone(UTC) != instant)


def local_now() -> datetime:
    """Return this instant in the zone of this machine."""
    return datetime.now(LocalZone())
