"""The zone of this machine, against what the C library says of each hour of a year."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from blocksnapctl.zone import LocalZone, local_now


@pytest.mark.parametrize(
    "rule", ["UTC", "CET-1CEST,M3.5.0,M10.5.0/3", "LHST-10:30LHDT-11,M10.1.0,M4.1.0", "NPT-5:45"]
)
def test_each_half_hour_of_a_year_there_and_back(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", rule)
    time.tzset()
    try:
        zone, instant = LocalZone(), datetime(2026, 1, 1, tzinfo=UTC)
        while instant.year == 2026:
            here, known = instant.astimezone(zone), time.localtime(instant.timestamp())
            offset = here.utcoffset()
            assert offset is not None
            assert here.timetuple()[:6] == known[:6]
            assert (offset.total_seconds(), here.tzname()) == (known.tm_gmtoff, known.tm_zone)
            assert here.astimezone(UTC) == instant
            instant += timedelta(minutes=30)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_now_is_now() -> None:
    assert abs((local_now() - datetime.now(UTC)).total_seconds()) < 60
    assert isinstance(local_now().tzinfo, LocalZone)
