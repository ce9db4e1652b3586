"""How one receiver fares with many hosts, each a small cycle a minute.

    python -m tests.bench.bench_fleet [agents] [minutes]          200 and 5 when left out

Each agent is a host with a certificate and a repository of its own and one volume of 1 MiB, of
which 16 to 64 blocks change each minute; the real client and writer, in a few processes, over TLS
to one real receiver process. The first points are made before anything is measured. In the end
every point that was acknowledged is read back on the receiver's disk and compared by its hash.

The agents share this machine's CPU with the receiver; where they do not, latency is less.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from blake3 import blake3

from blocksnapd.errors import BlocksnapError
from blocksnapd.store.files import LocalStore
from blocksnapd.store.places import open_store
from blocksnapd.store.repository import Repository
from tests.bench.receiver import Receiver
from tests.store.support import VOLUME, Lab

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from blocksnapd.model import Access, PointFacts

MINUTE = 60.0
BLOCKS = 256
PROCESSES = 4
START_S_MAX = 600.0
_MEETINGS: list[Barrier] = []  # of all processes: everybody is ready, everybody is done


class Order(NamedTuple):
    """Which of all ``agents`` a process plays: their numbers, and what they come in with."""

    url: str
    root: str
    hosts: tuple[tuple[int, Access], ...]
    agents: int
    minutes: int


class Told(NamedTuple):
    """What became of an agent's cycles: seconds of each, and of its commit alone."""

    cycle_s: list[float]
    commit_s: list[float]
    failed: list[str]
    acknowledged: int
    whole: int


class Agent(Lab):
    """A host: its volume, and the hash of each point that was acknowledged."""

    def begin(self) -> None:
        """Make the first point."""
        self.told, self.hashes_kept = Told([], [], [], 0, 0), list[bytes]()
        self.number = 0
        self.write(range(BLOCKS))
        self.cycle(range(BLOCKS))

    def facts(self, kind: str, number: int) -> PointFacts:
        """Return the same as a Lab says, taken now."""
        return dataclasses.replace(super().facts(kind, number), time=datetime.now(UTC))

    def cycle(self, changed: object) -> tuple[float, float]:
        """Ship and commit ``changed``; return the seconds of all of it, and of the commit."""
        began = time.perf_counter()
        sink = self.sink(self.number + 1)
        try:
            self.feed(sink, changed, batch=64)
            facts = self.facts("delta" if self.number else "full", self.number + 1)
            ready = time.perf_counter()
            sink.commit(facts)
        except BaseException:
            sink.abort()
            raise
        ended = time.perf_counter()
        self.number += 1
        self.hashes_kept.append(blake3(self.bytes()).digest())
        return ended - began, ended - ready

    def run(self, first: float, minutes: int) -> None:
        """Make a cycle each minute; one that failed ships its changes with the next."""
        pending = np.zeros(0, dtype=np.intp)
        for minute in range(minutes):
            time.sleep(max(0.0, first + minute * MINUTE - time.monotonic()))
            count = int(self.rng.integers(16, 65))
            new = self.write(self.rng.choice(BLOCKS, count, replace=False))
            pending = np.union1d(pending, new)
            try:
                cycle_s, commit_s = self.cycle(pending)
            except BlocksnapError as error:
                self.told.failed.append(error.message)
                continue
            pending = pending[:0]
            self.told.cycle_s.append(cycle_s)
            self.told.commit_s.append(commit_s)

    def checked(self, directory: str) -> Told:
        """Read every point on the receiver's disk; return what is to be told."""
        reader = Repository.on(LocalStore(directory), restore=self.keys)
        found = [self._hash(reader, name) for name in reader.names(VOLUME)]
        whole = sum(a == b for a, b in zip(found, self.hashes_kept, strict=False))
        return self.told._replace(acknowledged=len(self.hashes_kept), whole=whole)

    def _hash(self, reader: Repository, name: str) -> bytes:
        image = np.zeros((BLOCKS, self.block_size), dtype=np.uint8)
        for blocks, data in reader.open_image(name).pieces():
            image[blocks.astype(np.intp)] = np.frombuffer(data, np.uint8).reshape(len(blocks), -1)
        return blake3(image.tobytes()).digest()


def host_name(number: int) -> str:
    """Return the name of a host."""
    return f"agent{number:04}"


def made_agents(order: Order) -> dict[int, Agent]:
    """Return the agents by their numbers, each with its first point."""
    made = {}
    for number, access in order.hosts:
        agent = Agent(store=open_store(order.url, access), blocks=BLOCKS)
        agent.rng = np.random.default_rng(number)
        agent.begin()
        made[number] = agent
    return made


def play(order: Order) -> list[Told]:
    """Play the agents of one process; return what became of each."""
    made = made_agents(order)
    _MEETINGS[0].wait()  # all processes begin at once
    start = time.monotonic()
    threads = [
        threading.Thread(target=a.run, args=(start + n * MINUTE / order.agents, order.minutes))
        for n, a in made.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _MEETINGS[1].wait()  # nothing is read back while others are measured
    return [a.checked(os.path.join(order.root, host_name(n))) for n, a in made.items()]


def _meet(*meetings: Barrier) -> None:
    _MEETINGS.extend(meetings)


def tell(what: str, seconds: list[float]) -> None:
    """Print a line of latencies."""
    if seconds:
        half, most = np.quantile(seconds, [0.5, 0.99]) * 1000
        longest = max(seconds) * 1000
        print(f"{what:8} p50 {half:6.0f} ms   p99 {most:6.0f} ms   max {longest:6.0f} ms")


def main() -> None:
    """Run and print."""
    said = [int(word) for word in sys.argv[1:3]]
    agents, minutes = [*said, *(200, 5)[len(said) :]]
    processes = min(PROCESSES, agents)
    spawn = multiprocessing.get_context("spawn")
    limit_s = START_S_MAX + minutes * MINUTE
    ready, done = (spawn.Barrier(processes + 1, timeout=limit_s) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder, Receiver(Path(folder)) as receiver:
        idle = receiver.used()
        hosts = [(number, receiver.access(host_name(number))) for number in range(agents)]
        url = f"https://127.0.0.1:{receiver.tcp_port}/"
        orders = [
            Order(url, str(receiver.root), tuple(hosts[n::processes]), agents, minutes)
            for n in range(processes)
        ]
        with ProcessPoolExecutor(processes, spawn, _meet, (ready, done)) as pool:
            playing = [pool.submit(play, order) for order in orders]
            ready.wait()
            before, began = receiver.used(), time.monotonic()
            done.wait()
            after, took = receiver.used(), time.monotonic() - began
            told = [one for part in playing for one in part.result()]
        complaints = receiver.complaints()
    cpu_s = after.cpu_s - before.cpu_s
    cycles = sum(len(one.cycle_s) for one in told)
    print(f"{agents} agents, {minutes} min, {os.cpu_count()} CPUs: {cycles} cycles in {took:.0f} s")
    print(
        f"receiver {after.memory_max >> 20} MiB at most, {idle.memory >> 20} before anybody came;  "
        f"{cpu_s:.1f} CPU s, {100 * cpu_s / took:.0f} % of one, "
        f"{1000 * cpu_s / max(1, cycles):.0f} ms a cycle"
    )
    tell("commit", [s for one in told for s in one.commit_s])
    tell("cycle", [s for one in told for s in one.cycle_s])
    acknowledged, whole = (sum(one[at] for one in told) for at in (3, 4))
    failed = [why for one in told for why in one.failed]
    print(
        f"{acknowledged} points acknowledged, {whole} there and equal, {len(failed)} cycles failed"
    )
    print(f"{complaints} lines of complaint in the receiver's log")
    for why in sorted(set(failed))[:5]:
        print(f"  {why}")


if __name__ == "__main__":
    main()
