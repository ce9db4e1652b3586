"""How a COW device fills, what to do about it, how large it should be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.cycle.cow_sizing import (
    GROW_AHEAD_S,
    INTERVALS_MAX,
    Fill,
    Interval,
    Room,
    advice,
    advised_size,
    answer,
    cow_size_max,
    growth,
)
from blocksnapd.parse import cow_format
from blocksnapd.units import GIB, MIB

EXTENT = 4 * MIB
sizes = st.integers(0, 1 << 50)
rates = st.floats(0, 1e12, allow_nan=False)


def seen(*looks: tuple[float, int], size: int = 1000) -> tuple[float, float | None]:
    fill = Fill()
    found = [fill.see(now, used, size) for now, used in looks]
    return found[-1]


def test_one_look_foretells_nothing() -> None:
    assert seen((0, 500)) == (0.0, None)


def test_a_steady_rate() -> None:
    assert seen(*((t, 10 * t) for t in range(0, 51, 2))) == (10.0, 50.0)


def test_a_burst_counts_at_once() -> None:
    """After a quiet minute the last seconds decide."""
    quiet = [(float(t), 100) for t in range(0, 60, 2)]
    rate, full_in = seen(*quiet, (60, 300), (62, 500))
    assert rate == pytest.approx(400 / 8)
    assert full_in == pytest.approx(500 / (400 / 8))


def test_what_was_long_ago_is_forgotten() -> None:
    fill = Fill()
    fill.see(0, 0, 1000)
    fill.see(2, 900, 1000)
    for now in range(4, 200, 2):
        rate, full_in = fill.see(now, 900, 1000)
    assert (rate, full_in, fill.used, fill.size) == (0.0, None, 900, 1000)


def test_a_device_that_is_emptied_does_not_fill() -> None:
    assert seen((0, 900), (2, 10)) == (0.0, None)


@given(st.lists(st.tuples(st.floats(0.1, 100), sizes), min_size=1, max_size=50), sizes)
def test_a_forecast_is_never_negative(looks: list[tuple[float, int]], size: int) -> None:
    fill, now = Fill(), 0.0
    for step, used in looks:
        now += step
        rate, full_in = fill.see(now, used, size)
        assert rate >= 0
        assert full_in is None or full_in >= 0


@pytest.mark.parametrize(
    ("used", "full_in", "can_rotate", "can_grow", "wanted"),
    [
        (700, None, True, True, (False, False)),
        (701, None, True, True, (True, False)),  # a cycle helps, and gives all of it back
        (701, None, False, True, (False, True)),  # one is at work, or none may start
        (701, None, False, False, (False, False)),
        (100, 19.0, True, True, (True, True)),  # it would be full before a cycle ends
        (100, 19.0, False, True, (False, True)),
        (100, 19.0, True, False, (True, False)),
        (100, 21.0, True, True, (False, False)),
    ],
)
def test_answers(
    used: int, full_in: float | None, can_rotate: bool, can_grow: bool, wanted: tuple[bool, bool]
) -> None:
    found = answer(used, 1000, full_in, full_at=0.7, can_rotate=can_rotate, can_grow=can_grow)
    assert found == wanted


@pytest.mark.parametrize(
    ("wanted", "rate", "room", "grown"),
    [
        (5 * MIB, 0.0, Room(GIB, GIB, 0, EXTENT), 8 * MIB),  # whole extents
        (5 * MIB, 100.0 * MIB, Room(10 * GIB, 10 * GIB, 0, EXTENT), int(100 * GROW_AHEAD_S) * MIB),
        (64 * MIB, 0.0, Room(120 * MIB, GIB, 0, EXTENT), 20 * MIB),  # the largest it may be
        (64 * MIB, 0.0, Room(GIB, 50 * MIB, 30 * MIB, EXTENT), 20 * MIB),  # what must stay free
        (64 * MIB, 0.0, Room(GIB, 33 * MIB, 30 * MIB, EXTENT), 0),
        (64 * MIB, 0.0, Room(100 * MIB, GIB, 0, EXTENT), 0),
        (64 * MIB, 0.0, Room(50 * MIB, GIB, 0, EXTENT), 0),  # it is larger already
        (64 * MIB, 0.0, Room(GIB, 10 * MIB, 30 * MIB, EXTENT), 0),
    ],
)
def test_growth(wanted: int, rate: float, room: Room, grown: int) -> None:
    assert growth(100 * MIB, wanted, rate, room) == grown


@given(sizes, sizes, rates, sizes, sizes, sizes, st.sampled_from([MIB, EXTENT, 32 * MIB]))
def test_growth_keeps_to_its_limits(
    size: int, wanted: int, rate: float, largest: int, free: int, reserve: int, extent: int
) -> None:
    step = growth(size, wanted, rate, Room(largest, free, reserve, extent))
    assert step >= 0
    assert step % extent == 0
    assert step == 0 or (size + step <= largest and free - step >= reserve)


def test_nothing_is_advised_of_what_was_not_seen() -> None:
    assert advised_size([], every_s=300, useful=GIB) is None
    assert advised_size([Interval(0.0, 5)], every_s=300, useful=GIB) is None
    assert advice(5, None, every_s=300, useful=GIB) == ""


def test_the_worst_interval_and_half_as_much_again() -> None:
    day = [Interval(300, 100 * MIB)] * INTERVALS_MAX
    assert advised_size(day, every_s=300, useful=GIB) == 150 * MIB
    assert advised_size([*day, Interval(300, 200 * MIB)], every_s=300, useful=GIB) == 300 * MIB
    # One that filled in a tenth of the time counts with its rate, one that lasted long as it was.
    assert advised_size([*day, Interval(30, 60 * MIB)], every_s=300, useful=GIB) == 900 * MIB
    assert advised_size([Interval(3000, 400 * MIB)], every_s=300, useful=GIB) == 600 * MIB


def test_what_is_advised_is_told_only_when_there_is_too_little() -> None:
    said = advice(100 * MIB, 150 * MIB, every_s=300, useful=GIB)
    assert said.startswith("cow.size should be 150 MiB, it is 100 MiB")
    assert advice(150 * MIB, 150 * MIB, every_s=300, useful=GIB) == ""
    assert "leave cow.size out" in advice(100 * MIB, GIB, every_s=300, useful=GIB)
    assert advice(GIB, GIB, every_s=300, useful=GIB) == ""


@given(
    st.lists(st.builds(Interval, st.floats(0, 1e6), sizes), max_size=20),
    st.floats(1, 1e6), st.integers(MIB, 1 << 50),
)  # fmt: skip
def test_advice_is_never_more_than_a_volume_can_need(
    intervals: list[Interval], every_s: float, useful: int
) -> None:
    advised = advised_size(intervals, every_s=every_s, useful=useful)
    assert advised is None or 0 <= advised <= useful


@given(st.integers(min_value=1, max_value=1 << 50), st.sampled_from([4096 << n for n in range(8)]))
def test_the_largest_useful_cow_space_is_the_formats(size: int, chunk_size: int) -> None:
    """The same formula stands in parse/, which cycle/ may not import."""
    ours = cow_size_max(size, chunk_size)
    assert ours == cow_format.cow_size_max(size, chunk_size)
