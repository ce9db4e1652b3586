"""Two receivers before one bucket, as if on two hosts: sources go from one to the other.

Neither knows of the other. What they share is the bucket, and what each looks at there.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BlocksnapError, ObjectExistsError, QuotaError
from blocksnapd.receive import bucket, turns
from blocksnapd.receive.caller import Caller
from blocksnapd.store import writer_lock
from blocksnapd.store.names import is_point_name, pack_name, points_prefix
from blocksnapd.store.repository import Repository
from blocksnapd.store.steady import Line
from blocksnapd.store.steady_receiver import SteadyReceiver
from tests.receive.before_bucket import BeforeBucket
from tests.receive.running import Dialer
from tests.store.support import VOLUME, Lab

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Caller("db01", "source")


@pytest.fixture
def two(tmp_path, seaweed, monkeypatch):
    made = iter(range(10_000))
    # Locks of a host: here each one is another host's.
    monkeypatch.setattr(writer_lock, "_runtime_dir", lambda: str(tmp_path / f"run{next(made)}"))
    with (
        BeforeBucket(tmp_path / "a", seaweed) as a,
        BeforeBucket(tmp_path / "b", seaweed, a.url) as b,
    ):
        yield a, b


class Switching(Dialer):
    """Reaches another receiver with each new connection, as through a balancer."""

    def __init__(self, *receivers: BeforeBucket) -> None:
        super().__init__(receivers[0], SOURCE)
        self._receivers = receivers

    def dial(self):
        self._receiver = self._receivers[self.dialed % len(self._receivers)]
        return super().dial()


def names(receiver: BeforeBucket) -> list[str]:
    return receiver.bucket("db01").list_names(points_prefix(VOLUME))


def test_points_go_on_at_the_other_receiver(two):
    a, b = two
    lab = Lab(store=SteadyReceiver(a.store("source"), Line()))
    lab.write(range(10, 60))
    lab.commit()
    lab.store = SteadyReceiver(b.store("source"), Line())
    lab.reopen()
    lab.commit(lab.write(range(30)), number=2)
    lab.store = SteadyReceiver(a.store("source"), Line())
    lab.reopen()
    lab.commit(lab.write(range(40, 64)), number=3)
    assert len(names(a)) == 3
    lab.reader = Repository.on(a.bucket("db01"), restore=lab.keys)
    lab.check_all()


@pytest.mark.parametrize("lost", range(1, 7))
def test_an_answer_that_one_lost_is_given_by_the_other(two, lost):
    """Whatever the answer was to: a point stands once, and is known."""
    a, b = two
    lab = Lab(store=SteadyReceiver(a.store("source"), Line()))
    lab.write(range(10, 60))
    lab.commit()
    dialer = Switching(a, b)
    lab.store = SteadyReceiver(a.opened(dialer), Line())
    lab.reopen()
    dialer.lost_answers = lost
    lab.commit(lab.write(range(30)), number=2)
    assert dialer.lost_answers == 0
    assert len(names(a)) == 2
    lab.reader = Repository.on(a.bucket("db01"), restore=lab.keys)
    lab.check_all()


@pytest.fixture
def rivals(two) -> tuple[Lab, Lab]:
    """Two writers of one volume that go on from one point, each at a receiver of its own."""
    a, b = two
    one = Lab(store=SteadyReceiver(a.store("source"), Line()))
    one.write(range(10, 60))
    one.commit()
    other = dataclasses.replace(one, store=SteadyReceiver(b.store("source"), Line()), kept=[])
    other.image[:] = one.image
    return one, other


def commit_at_once(rivals: tuple[Lab, Lab]) -> list[tuple[Lab, BlocksnapError]]:
    """Commit a point each; return who was told what."""
    told: list[tuple[Lab, BlocksnapError]] = []

    def commit(lab: Lab, number: int) -> None:
        sink = lab.sink(number)
        try:
            lab.feed(sink, lab.write(range(number)))
            lab.kept.append((sink.commit(lab.facts("delta", number)), lab.bytes()))
        except BlocksnapError as error:
            sink.abort()
            told.append((lab, error))

    threads = [
        threading.Thread(target=commit, args=(lab, number)) for number, lab in enumerate(rivals, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def meet(monkeypatch, does_wait: Callable[[str], bool]) -> None:
    """Have both writers be at their first put of such a name before either is made."""
    start, put = threading.Barrier(2), bucket.BucketStore.put
    left = [start, start]

    def put_at_once(self, name, parts):
        if does_wait(name) and left:
            left.pop().wait(30)
        return put(self, name, parts)

    monkeypatch.setattr(bucket.BucketStore, "put", put_at_once)


def test_of_two_writers_in_one_place_one_commits_and_the_other_goes_on(two, rivals, monkeypatch):
    """Both want their turn at once: the one that comes second is told by what the first put."""
    meet(monkeypatch, lambda name: name.startswith("turns/"))
    told = commit_at_once(rivals)
    [(late, error)] = told
    assert isinstance(error, ObjectExistsError)
    assert len(names(two[0])) == 2
    late.reopen()
    late.commit(number=9)
    for lab in rivals:
        lab.reader = Repository.on(two[0].bucket("db01"), restore=lab.keys)
        lab.check_all()


def test_two_in_one_place_are_seen_by_whoever_looks_last(two, rivals, monkeypatch):
    """A clock of the bucket that lies ends turns at once; then both looked, and both put."""
    monkeypatch.setattr(turns, "TURN_S_MAX", -1.0)
    meet(monkeypatch, is_point_name)
    told = commit_at_once(rivals)
    assert len(names(two[0])) == 3
    assert told
    assert all(isinstance(error, ObjectExistsError) for _, error in told)
    for lab in rivals:
        lab.reopen()
        with pytest.raises(BlocksnapError, match="two newest points"):
            lab.writer.newest(VOLUME)


def test_a_quota_is_exceeded_by_what_others_took_since_it_was_counted_and_no_more(two, monkeypatch):
    a, b = two
    Lab(store=SteadyReceiver(a.store("source"), Line()))
    clock = [0.0]
    for receiver in two:
        receiver.tell(quota="300 KB")
        usage = receiver.places.of(SOURCE).usage
        monkeypatch.setattr(usage, "_clock", lambda: clock[0])
        usage.used()

    def put(receiver: BeforeBucket, number: int) -> None:
        pack = pack_name("vol", "20260102", "p" + "0" * 16, number, "0" * 8)
        receiver.store("source").put(pack, [b"x" * 100_000])

    put(a, 1)
    put(a, 2)
    put(b, 3)  # counted when there was nothing
    put(b, 4)
    clock[0] += 31  # nobody is refused before it was counted again
    for receiver in two:
        with pytest.raises(QuotaError):
            put(receiver, 5)
    clock[0] += 301
    assert a.places.of(SOURCE).usage.used() == b.places.of(SOURCE).usage.used() > 400_000
