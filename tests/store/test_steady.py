"""A place that stumbles, hangs or must not be fed too fast, seen through a steady store."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import (
    BusyError,
    ObjectExistsError,
    RepositoryFormatError,
    StoreError,
    StoreFullError,
    StoreMissingError,
)
from blocksnapd.pace import BACKOFF_S_MAX, RETRY_S_MAX, Limit, Traffic, parse_window
from blocksnapd.store.steady import (
    HANGING_MAX,
    PIECE_SIZE,
    READ_SIZE,
    Line,
    Means,
    SteadyStore,
    line_to,
)
from tests.fakes.faulty_objects import Faults, FaultyObjects, Place
from tests.fakes.memory_objects import MemoryObjects

if TYPE_CHECKING:
    from collections.abc import Callable

HASTY = Traffic(stall_s=0.05)


class World:
    """Time that passes only in sleeps, and a weekday that tests choose."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []
        self.local = time.struct_time((2026, 11, 23, 12, 0, 0, 0, 327, 0))  # a Monday
        self._guard = threading.Lock()

    def means(self, dice: Callable[[], float] = lambda: 0.5) -> Means:
        return Means(lambda: self.now, self.sleep, lambda: self.local, dice)

    def sleep(self, seconds: float) -> None:
        with self._guard:
            self.now += seconds
            self.naps.append(seconds)


class Flaky(MemoryObjects):
    """Fails ``fails`` times with ``error``; a put is carried out before it if ``loses_answers``."""

    def __init__(self, fails: int = 0, error: Exception | None = None) -> None:
        super().__init__()
        self.fails, self.error = fails, error or StoreError("reset by peer")
        self.calls, self.loses_answers = 0, False

    def stumble(self) -> None:
        self.calls += 1
        if self.fails:
            self.fails -= 1
            raise self.error

    def put(self, name, parts):
        if self.loses_answers and self.fails:
            super().put(name, parts)
        self.stumble()
        return super().put(name, parts)

    def exists(self, name):
        self.stumble()
        return super().exists(name)


class Hanging(MemoryObjects):
    """Does not answer before ``go`` is set; what it took then is done all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.asked = 0

    def exists(self, name):
        self.asked += 1
        self.go.wait(20)
        return super().exists(name)

    def put(self, name, parts):
        for part in parts:
            assert part
            self.go.wait(20)
        return super().put(name, [b"never"])

    def lock(self, prefix):
        self.go.wait(20)
        return super().lock(prefix)


@pytest.fixture
def world() -> World:
    return World()


def steady(
    inner: MemoryObjects | FaultyObjects, world: World, traffic: Traffic = HASTY, **more: object
) -> SteadyStore:
    return SteadyStore(inner, Line(traffic, world.means(**more)))


# --- trying again ---------------------------------------------------------------------------------


def test_a_stumble_is_not_seen(world):
    store = steady(Flaky(fails=4), world)
    assert store.put("v/a", [b"abc"]) == 3
    assert store.get("v/a", size_max=3) == b"abc"
    assert world.naps == [0.25, 0.5, 1, 2]
    assert store._line.counts().retries == 4


def test_a_place_that_stays_away_is_given_up_in_time(world):
    inner = Flaky(fails=1 << 30)
    store = steady(inner, world)
    with pytest.raises(StoreError, match=r"reset by peer \(\d+ tries in \d+\.\ds\)"):
        store.exists("v/a")
    assert RETRY_S_MAX - BACKOFF_S_MAX <= world.now <= RETRY_S_MAX
    # The next call does not wait again: a cycle that cannot succeed ends soon.
    calls, now = inner.calls, world.now
    with pytest.raises(StoreError, match="reset by peer"):
        store.exists("v/a")
    assert (inner.calls, world.now) == (calls + 1, now)
    inner.fails = 0
    assert not store.exists("v/a")
    inner.fails = 2  # it is patient again
    assert not store.exists("v/a")


@pytest.mark.parametrize(
    "error",
    [
        StoreFullError("x"),
        StoreMissingError("x"),
        ObjectExistsError("x"),
        BusyError("x"),
        OSError("x"),
    ],
)
def test_what_seconds_do_not_mend_is_told_at_once(world, error):
    inner = Flaky(fails=1, error=error)
    with pytest.raises(type(error)):
        steady(inner, world).exists("v/a")
    assert (inner.calls, world.naps) == (1, [])


def test_hosts_that_lost_one_target_do_not_come_back_in_step():
    waits = []
    for seed in range(20):
        world = World()
        store = SteadyStore(Flaky(fails=5), Line(HASTY, world.means(random.Random(seed).random)))
        store.exists("v/a")
        waits.append(world.now)
    assert max(waits) > 2 * min(waits)
    assert len(set(waits)) == 20


def test_a_lost_answer_is_success(world):
    inner = Flaky(fails=1)
    inner.loses_answers = True
    parts = [bytes([n]) * 300_000 for n in range(20)]
    assert steady(inner, world).put("v/a", parts) == 6_000_000
    assert inner.objects["v/a"] == b"".join(parts)


@pytest.mark.parametrize("there", [b"another", b"other!!"])
def test_what_somebody_else_put_is_not_taken_for_ours(world, there):
    inner = Flaky(fails=1)
    inner.objects["v/a"] = there
    with pytest.raises(ObjectExistsError):
        steady(inner, world).put("v/a", [b"an", b"other."])
    assert inner.objects["v/a"] == there


@pytest.mark.parametrize("seed", range(30))
def test_any_faults_of_a_living_place_are_hidden_or_told(world, seed):
    """Every call may go wrong: what put returned from is there, and nothing is there twice."""
    rng = random.Random(seed)
    faults = Faults(
        rng, at=set(rng.sample(range(60), 20)), kinds=frozenset(("eio", "lost-ack", "twice"))
    )
    inner = MemoryObjects()
    store = steady(Place(inner).process(faults), world, Traffic())
    wanted = {}
    for number in range(15):
        name, data = f"v/{number}", rng.randbytes(rng.choice((0, 10, PIECE_SIZE + 1)))
        try:
            store.put(name, [data[:5], data[5:]])
        except ObjectExistsError:  # its own second try, which is all that it may tell
            assert inner.objects[name] == data
        wanted[name] = data
    assert inner.objects == wanted
    assert store.list_names("v/") == sorted(wanted)


def test_an_object_of_unknown_size_is_read_in_parts(world):
    inner = MemoryObjects()
    store = steady(inner, world)
    for size in (0, 5, READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, 6 * READ_SIZE + 3):
        inner.objects["v/a"] = random.Random(size).randbytes(size)
        assert store.get("v/a", size_max=size) == inner.objects["v/a"]
        if size:
            with pytest.raises(RepositoryFormatError, match="more than"):
                store.get("v/a", size_max=size - 1)


# --- a place that hangs ---------------------------------------------------------------------------


def test_a_call_that_moves_nothing_is_given_up(world):
    inner = Hanging()
    store = steady(inner, world, dice=lambda: 0.99)
    with pytest.raises(StoreError, match=r"has not answered 4 calls for long \(8 tries"):
        store.exists("v/a")
    with pytest.raises(StoreError, match="not a byte moved for 50 ms"):
        steady(inner, world)._line._once("place", lambda _: inner.exists("v/a"), 0, None)
    inner.go.set()
    assert store._line.counts().stalls >= HANGING_MAX
    deadline = time.monotonic() + 20
    while store._line._hanging and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not store.exists("v/a")  # their threads have ended, and are forgotten


def test_a_call_that_hangs_once_is_made_again(world):
    class HangsOnce(Hanging):
        calls = 0

        def exists(self, name):
            self.calls += 1
            return super().exists(name) if self.calls == 1 else True

    inner = HangsOnce()
    store = steady(inner, world)
    assert store.exists("v/a")
    assert (store._line.counts().stalls, store._line.counts().retries) == (1, 1)
    inner.go.set()


def test_threads_that_hang_do_not_pile_up(world):
    inner = Hanging()
    store = steady(inner, world, dice=lambda: 0.99)
    for _ in range(3):
        with pytest.raises(StoreError, match="has not answered 4 calls"):
            store.exists("v/a")
    assert inner.asked == HANGING_MAX
    inner.go.set()


def test_a_put_that_was_given_up_takes_no_more_bytes(world):
    inner = Hanging()
    store = steady(inner, world, Traffic(stall_s=0.01), dice=lambda: 0.99)
    with pytest.raises(StoreError):
        store.put("v/a", [b"x" * 100] * 3)
    inner.go.set()
    time.sleep(0.1)
    assert inner.objects == {}


def test_a_lock_that_comes_too_late_is_let_go(world):
    inner = Hanging()
    with pytest.raises(StoreError):
        steady(inner, world, dice=lambda: 0.99).lock("v/")
    inner.go.set()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            inner.lock("v/").release()
            break
        except BusyError:
            time.sleep(0.01)
    else:
        pytest.fail("somebody who is gone holds the lock")


def test_a_slow_put_that_gets_on_is_no_stall(world):
    class Slow(MemoryObjects):
        def put(self, name, parts):
            taken = []
            for part in parts:
                time.sleep(0.02)
                taken.append(bytes(part))
            return super().put(name, taken)

    store = steady(Slow(), world)
    assert store.put("v/a", [b"x"] * 10) == 10
    assert store._line.counts().stalls == 0


# --- bandwidth ------------------------------------------------------------------------------------


def test_what_is_sent_keeps_to_the_limit_of_the_hour(world):
    office = Traffic((Limit(1 << 20), Limit(256 << 10, parse_window("Mon..Fri 08:00-18:00"))))
    store = steady(MemoryObjects(), world, office)
    store.put("v/a", [bytes(4 << 20)])
    assert world.now == pytest.approx(15, abs=0.01)  # the last piece need not be waited for
    assert store._line.counts().throttled_s == pytest.approx(15, abs=0.01)
    assert store._line.counts().sent_bytes == 4 << 20
    world.now += 1
    world.local = time.struct_time((2026, 11, 28, 12, 0, 0, 5, 332, 0))
    before = world.now
    store.put("v/b", [bytes(1 << 20)] * 4)
    assert world.now - before == pytest.approx(3.75, abs=0.01)


def test_what_is_read_is_not_held_back(world):
    inner = MemoryObjects()
    inner.objects["v/a"] = bytes(8 << 20)
    store = steady(inner, world, Traffic((Limit(16 << 10),)))
    assert len(store.get("v/a", size_max=1 << 30)) == 8 << 20
    assert world.now == 0


def test_all_who_send_to_a_target_share_its_limit():
    rate, traffic = 2 << 20, Traffic((Limit(2 << 20),))
    assert line_to("/a", traffic) is line_to("/a", traffic)
    assert line_to("/b", traffic) is not line_to("/a", traffic)
    line, inner = Line(traffic), MemoryObjects()
    stores = [SteadyStore(inner, line) for _ in range(3)]
    threads = [
        threading.Thread(target=store.put, args=(f"v/{n}", [bytes(512 << 10)]))
        for n, store in enumerate(stores)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= (3 * (512 << 10) - PIECE_SIZE) / rate - 0.01
    assert len(inner.objects) == 3
