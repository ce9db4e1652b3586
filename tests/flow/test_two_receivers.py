"""Two receivers before one bucket, with writers, maintenance, cuts and kills all at once."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import load_restore
from blocksnapd.store.listing import entry_name, list_points
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import volume_prefix
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.receiver import ReceiverStore
from blocksnapd.store.receiver_link import TlsDialer
from blocksnapd.store.repository import Repository
from blocksnapd.store.steady import Line
from blocksnapd.store.steady_receiver import SteadyReceiver
from tests.fakes.certificates import Authority
from tests.flow.bucket_maintainer import POLICY
from tests.flow.test_one_bucket import MAINTAINER
from tests.flow.two_receivers import Receiver, Volume, Writer, lacks_own_run
from tests.servers.balancer import Balancer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blocksnapd.store.init import InitReport
    from tests.servers.seaweed import SeaweedFs

FREE, FLOORED = "db01", "db02"


class Site:
    """Both receivers, what stands before them, and the repositories of two hosts behind them."""

    def __init__(self, folder: Path, seaweed: SeaweedFs, stack: ExitStack) -> None:
        self.stack = stack
        self.folder, self.seaweed, self.prefix = folder, seaweed, folder.name
        self.authority = Authority(folder / "pki")
        self.receivers = [
            Receiver(
                folder / name, self.authority, seaweed.url(self.prefix), seaweed.admin,
                floored=FLOORED,
            )
            for name in ("a", "b")
        ]  # fmt: skip
        self.line = Balancer([receiver.tcp_port for receiver in self.receivers])
        self.made: dict[str, InitReport] = {}

    def url(self, host: str) -> str:
        """Return where a host's repository lies in the bucket."""
        return self.seaweed.url(f"{self.prefix}/{host}")

    def init(self, host: str) -> None:
        """Make a host's repository as the host does, through a receiver."""
        access = self.authority.access(self.authority.client("source", host))
        url = f"https://127.0.0.1:{self.line.tcp_port}/"
        self.made[host] = init_repository(url, str(self.folder / f"keys-{host}"), access=access)

    def volume(self, host: str, name: str) -> Volume:
        """Return what is known of a volume."""
        keys = load_restore(self.made[host].restore_key)
        return Volume(name, keys, self.seaweed.opened(self.url(host)))

    def writer(self, host: str, shared: Volume, number: int) -> Writer:
        """Return a writer that comes through the balancer with connections of its own."""
        return Writer(shared, self.store(host, self.line.tcp_port), number)

    def store(self, host: str, tcp_port: int) -> SteadyReceiver:
        """Return a host's place at a receiver, or what stands before both, on new connections."""
        access = self.authority.access(self.authority.client("source", host))
        made = ReceiverStore(
            f"https://127.0.0.1:{tcp_port}/", TlsDialer("127.0.0.1", tcp_port, access)
        )
        self.stack.callback(made.close)
        return SteadyReceiver(made, Line())

    def maintenance(self, host: str, until: float) -> subprocess.Popen[bytes]:
        """Start a maintenance of a host's repository right in the bucket."""
        key = self.made[host].maintenance_key
        with open(self.folder / "events", "a") as told:
            return subprocess.Popen(
                [*MAINTAINER, self.url(host), key, self.seaweed.admin, str(until)],
                stdout=told, stderr=told,
            )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, own_seaweed: SeaweedFs) -> Iterator[Site]:
    """Both receivers, serving; two hosts have repositories."""
    if lacks := lacks_own_run():
        pytest.skip(lacks)
    with ExitStack() as stack:
        made = Site(tmp_path, own_seaweed, stack)
        for receiver in made.receivers:
            stack.callback(receiver.kill)
        with ThreadPoolExecutor(2) as both:  # each tries the bucket out
            list(both.map(Receiver.start, made.receivers))
        stack.enter_context(made.line)
        for host in (FREE, FLOORED):
            made.init(host)
        yield made
    for receiver in made.receivers:
        assert "Traceback" not in receiver.log.read_text(), receiver.log.read_text()


def work(
    site: Site, writers: list[Writer], troubles: list[Callable[[], None]], work_s: float
) -> list[Any]:
    """Write, maintain and cut for so long, with troubles between; return what maintenance told."""
    began = time.time()
    until = began + work_s

    def protect(writer: Writer) -> None:
        while time.time() < until:
            writer.protect()

    def cut() -> None:
        dice = random.Random(3)
        while time.time() < until:
            time.sleep(dice.uniform(0.2, 0.8))
            site.line.cut_after(dice.randrange(1, 2_000_000))

    with ThreadPoolExecutor(len(writers) + 1) as pool, ExitStack() as stack:
        # A receiver takes as long to start as to try the bucket out: time to collect.
        rounds = [stack.enter_context(site.maintenance(h, until + 5)) for h in (FREE, FLOORED)]
        running = [*(pool.submit(protect, writer) for writer in writers), pool.submit(cut)]
        for number, trouble in enumerate(troubles, 1):
            time.sleep(max(0, began + number * work_s / (len(troubles) + 1) - time.time()))
            trouble()
        for one in running:
            one.result()
    said = (site.folder / "events").read_text()
    assert all(one.returncode == 0 for one in rounds), said
    return [json.loads(line) for line in said.splitlines()]


def restarted(receiver: Receiver) -> Callable[[], None]:
    """Kill a receiver in the middle; the other one serves alone for a while."""

    def trouble() -> None:
        receiver.kill()
        time.sleep(2)
        receiver.start()

    return trouble


def bucket_restarted(seaweed: SeaweedFs) -> None:
    """Kill the bucket's server."""
    seaweed.kill()
    seaweed.start()


def check(site: Site, host: str, volume: Volume) -> set[str]:
    """Compare all points with what their writers gave; return the ids of those forgotten."""
    store, keys = volume.direct, volume.keys
    manifests, reader = Manifests(store, keys), Repository.on(store, restore=keys)
    forgotten: dict[int, str] = {}
    for generation in manifests.generations(volume.name):
        manifest = manifests.load(volume.name, generation).manifest
        ids = {entry.seq: entry.point_id for entry in manifest.points}
        forgotten |= {one.seq: ids[one.seq] for one in manifest.forgotten}
    loaded = manifests.newest(volume.name)
    listing = list_points(store, PointReader(store, keys.source, keys), loaded)
    assert not listing.missing
    listed = {entry.point_id for entry in listing.points}
    lost = set(volume.acknowledged) - listed - set(forgotten.values())
    assert not lost, (volume.told, lost)
    for entry in listing.points:
        if entry.seq not in forgotten:
            found = bytearray(len(volume.given[entry.point_id]))
            with closing(reader.open_image(entry_name(volume.name, entry))) as image:
                image.read_into(0, memoryview(found))
            assert found == volume.given[entry.point_id], entry
    outcome = VerifyRuns(store, keys, volume.name).whole(round(time.time() * 1e6))
    assert outcome.is_whole, outcome.problems
    return set(forgotten.values())


def check_locks(site: Site) -> None:
    """Make sure that both receivers grant one lock: nothing here rests on a shared one."""
    locks = [
        site.store(FREE, receiver.tcp_port).lock(volume_prefix("shared"))
        for receiver in site.receivers
    ]
    assert not any(lock.is_everywhere for lock in locks)
    for lock in locks:
        lock.release()


@pytest.mark.parametrize(
    ("work_s", "kills_bucket"), [(14.0, False), pytest.param(240.0, True, marks=pytest.mark.long)]
)
def test_two_receivers_writers_and_maintenance(
    site: Site, work_s: float, kills_bucket: bool, capsys
) -> None:
    check_locks(site)
    own, kept = site.volume(FREE, "own"), site.volume(FLOORED, "kept")
    shared = site.volume(FREE, "shared")
    writers = [
        site.writer(FREE, own, 1), site.writer(FLOORED, kept, 2),
        site.writer(FREE, shared, 3), site.writer(FREE, shared, 4),
    ]  # fmt: skip
    first, second = site.receivers
    troubles: list[Callable[[], None]] = [restarted(first)]
    if kills_bucket:
        troubles += [lambda: bucket_restarted(site.seaweed), restarted(second)]
    events = work(site, writers, troubles, work_s)
    counted = {volume.name: dict(volume.told) for volume in (own, kept, shared)}
    happened = Counter(kind for kind, *_ in events)
    with capsys.disabled():
        taken = dict(site.line.taken)
        print(f"\n{counted}\n{dict(happened)}\n{site.line.cuts} cuts, connections {taken}")
    assert all(volume.acknowledged for volume in (own, kept, shared))
    assert check(site, FREE, own)
    assert check(site, FREE, shared)
    assert not check(site, FLOORED, kept)
    assert happened["collected"]
    # See test_one_bucket.py; and a bucket that is away may fail any step.
    may_fail = ("maintenance-failed", "place-failed") if kills_bucket else ()
    wrong = [(kind, said) for kind, said, severity, _ in events if severity != "info"]
    wrong = [one for one in wrong if one[0] not in may_fail]
    assert all("is there and was not listed" in said for _, said in wrong), wrong
    plan = Pruner(kept.direct, kept.keys, time.time).plan("kept", POLICY)
    assert any("floor" in reason for point in plan.points for reason in point.reasons)
