"""How often a cycle waits for its place: calls one after the other, not calls in all."""

from __future__ import annotations

import threading
import time

import pytest

from blocksnapd.store.steady import Line
from blocksnapd.store.steady_receiver import SteadyReceiver
from tests.fakes.memory_objects import MemoryObjects
from tests.receive.running import Running
from tests.servers.far_line import FarLine
from tests.store.support import VOLUME, Lab

LATENCY_S = 0.05
FREE = {"settle"}  # nothing to ask a place for that is durable when it answers


class Far(MemoryObjects):
    """A place ``LATENCY_S`` away, once ``is_far``; notes when each call began and ended."""

    def __init__(self) -> None:
        super().__init__()
        self.is_far, self.calls, self.guard2 = False, [], threading.Lock()

    def __getattribute__(self, verb):
        found = object.__getattribute__(self, verb)
        verbs = (
            "put",
            "get",
            "get_range",
            "size",
            "age",
            "exists",
            "list_names",
            "children",
            "lock",
        )
        if verb not in verbs or not object.__getattribute__(self, "is_far"):
            return found

        def call(*args, **more):
            began = time.monotonic()
            time.sleep(LATENCY_S)
            result = found(*args, **more)
            with self.guard2:
                self.calls.append((began, time.monotonic(), verb))
            return result

        return call

    def in_sequence(self) -> list[str]:
        """Return the longest chain of calls of which each began after the one before had ended."""
        chain, last = [], 0.0
        for began, ended, verb in sorted(self.calls, key=lambda call: call[1]):
            if began >= last:
                chain.append(verb)
                last = ended
        self.calls.clear()
        return chain


@pytest.fixture
def lab() -> Lab:
    lab = Lab(store=Far(), blocks=400)
    lab.write(range(10, 60))
    lab.commit()
    lab.reopen()
    return lab


def test_a_small_cycle_commits_in_three_round_trips(lab):
    """Look whether it may be, put the point, look whether it may be relied on; each at once."""
    changed = lab.write(range(100))
    sink = lab.sink(2)
    lab.store.is_far = True
    lab.feed(sink, changed)
    assert lab.store.in_sequence() == []
    sink.finish(lab.facts("delta", 2))
    assert lab.store.in_sequence() == []  # what is small goes into the point
    sink.commit(lab.facts("delta", 2))
    chain = lab.store.in_sequence()
    assert (len(chain), chain[1]) == (3, "put")
    lab.store.is_far = False
    lab.kept.append((lab.reader.points("vol-1")[-1], lab.bytes()))
    lab.check_all()


def test_what_comes_before_it_is_bounded(lab):
    """Finding the newest point, what is wanted, and beginning: however long the history is."""
    chains = []
    for number in range(2, 12, 3):
        for more in range(number, number + 3):
            lab.commit(lab.write([more]), number=more)
        lab.store.is_far = True
        head = lab.writer.newest("vol-1")
        lab.writer.wanted("vol-1")
        lab.writer.begin("vol-1", f"p{99:016x}", block_size=4096, base=head).abort()
        chains.append(lab.store.in_sequence())
        lab.store.is_far = False
    assert len({len(chain) for chain in chains}) == 1
    assert len(chains[0]) <= 13


def test_to_a_receiver_three_are_enough_from_the_snapshot_on(tmp_path):
    """What is wanted; the lock and the place, at once; the point with a look on both sides."""
    with Running(tmp_path) as receiver, FarLine("127.0.0.1", receiver.tcp_port) as line:
        receiver.tcp_port = line.tcp_port
        lab = Lab(store=SteadyReceiver(receiver.store("source"), Line()), blocks=400)
        lab.write(range(10, 60))
        lab.commit()
        changed, facts = lab.write(range(100)), lab.facts("delta", 2)
        line.latency_s = 0.02  # so that what is asked at once is on its way at once
        line.count_anew()
        head = lab.writer.newest(VOLUME)
        assert line.count_anew().turns == 2
        lab.writer.wanted(VOLUME)
        assert line.count_anew().turns == 1
        sink = lab.sink(2, base=head)
        assert line.count_anew().turns == 1
        lab.feed(sink, changed)
        sink.commit(facts)
        assert line.count_anew().turns == 1
        lab.commit(lab.write([7]), number=3)  # what was let go without waiting is free
