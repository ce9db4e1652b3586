"""What opening a point costs after many: a sparse volume of 1 TiB, 10,000 random blocks a point.

    python -m tests.bench.bench_open [POINTS ...]      10, 1000 and 10000: half an hour, 6 GB

Points go through the real sink, layers through real merges, every 16 points. Content is cheap to
make and to compress, metadata is as it would be. Each opening runs in a process of its own; the
repository's files are dropped from the page cache before (where the kernel does as it is asked).

layers     opened for the newest point, and the most that any point needs
read       bytes out of the repository up to the first block
first      seconds to the first block: since the process began, and since it opened the point
map        seconds to walk the whole map, and how many runs it has
peak       memory of the process at the first block, and after the map
export     seconds until the first byte over NBD: since the client came, and since somebody typed
           blocksnapctl --repo URL export POINT (its own start, that of its worker, and the key's
           file included)
metadata   of shipped bytes: layers, manifest, and of points and packs all but frames
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import numpy as np

from blocksnapd.blocks import hash_blocks, state_sum
from blocksnapd.maintain.merge import merge_due
from blocksnapd.model import PointFacts, RestorePoint
from blocksnapd.store.files import LocalStore
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import load_restore
from blocksnapd.store.listing import entry_of
from blocksnapd.store.manifest_format import Manifest, PointEntry
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import layers_prefix, manifest_name, points_prefix
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.repository import Repository
from blocksnapd.store.span_set import SpanSet
from blocksnapd.store.stack import open_point
from tests.export.client import Client

if TYPE_CHECKING:
    from blocksnapd.store.keys import RestoreKey
    from blocksnapd.store.objects import ObjectStore

BLOCK = 4096
BLOCKS = 1 << 28
PER_CYCLE = 10_000
MERGE_EVERY = 16
VOLUME = "vol"
START = datetime(2026, 1, 1, tzinfo=UTC)
BUDGET = 1 << 40


class Opened(NamedTuple):
    """What the process that opened a point saw of itself."""

    depth: int
    problems: int
    read_bytes: int
    open_s: float
    first_s: float
    peak_first: int
    map_s: float
    runs: int
    peak_map: int


class Growing:
    """The repository, one cycle after the other."""

    def __init__(self, directory: str) -> None:
        self.url = f"{directory}/repo"
        report = init_repository(self.url, f"{directory}/keys")
        self.key_path = report.restore_key
        self.key = load_restore(report.restore_key)
        self.store = LocalStore(self.url)
        self.points: list[PointEntry] = []
        self.last: RestorePoint | None = None
        self.shipped = self.merged_bytes = 0
        self.merge_cpu_s = 0.0
        self._probes: list[tuple[int, int]] = []  # a block of each cycle, and its content's row
        self._repository = Repository.on(self.store, source=self.key.source)
        self._random = np.random.default_rng(5)
        # No block twice in a cycle: nothing is to be saved by deduplication.
        self._pool = np.zeros((2 * PER_CYCLE, BLOCK), dtype=np.uint8)
        self._pool[:] = self._random.integers(1, 256, (len(self._pool), 1), dtype=np.uint8)
        numbers = np.arange(len(self._pool), dtype="<u8")
        self._pool[:, :8] = numbers.view(np.uint8).reshape(-1, 8)
        self._bytes = memoryview(self._pool.reshape(-1))
        self._hashes = hash_blocks(self._bytes, BLOCK, self.key.source.hash_key)

    def cycle(self) -> None:
        """Commit one more point, and merge when enough came together."""
        blocks = np.unique(self._random.integers(0, BLOCKS, PER_CYCLE)).astype(np.uint64)
        at = int(self._random.integers(0, PER_CYCLE))
        count, number = len(blocks), len(self.points) + 1
        point_id = f"p{number:016x}"
        base = self.last.head if self.last else None
        hashes = self._hashes[at : at + count]
        sink = self._repository.begin(VOLUME, point_id, block_size=BLOCK, base=base)
        sink.add(blocks, hashes, self._bytes[at * BLOCK : (at + count) * BLOCK])
        self.last = sink.commit(
            PointFacts(
                VOLUME, "vol", point_id, START + timedelta(minutes=5 * number), BLOCKS * BLOCK,
                BLOCK, "delta" if base else "full", "tracked", "lvm", "crash", 65536,
                count * BLOCK, state_sum(blocks, hashes),
            )
        )  # fmt: skip
        self.points.append(entry_of(self.last))
        self.shipped += self.last.shipped_bytes
        gone = np.isin(np.array([block for block, _ in self._probes], dtype=np.uint64), blocks)
        self._probes = [one for one, is_gone in zip(self._probes, gone, strict=True) if not is_gone]
        self._probes.append((int(blocks[count // 2]), at + count // 2))
        if number % MERGE_EVERY == 0:
            self.maintain()

    def maintain(self) -> None:
        """Make the layers that are due, publish them, remove the manifest before the last."""
        manifests, began = Manifests(self.store, self.key), time.process_time()
        loaded = manifests.newest(VOLUME)
        done = merge_due(self.store, self.key, loaded, self.points, budget=BUDGET)
        manifest = Manifest(points=tuple(self.points), layers=done.layers)
        manifests.publish(loaded, manifest, time_us=0)
        if loaded.generation > 1:
            self.store.delete(manifest_name(VOLUME, loaded.generation - 1))
        self.merge_cpu_s += time.process_time() - began
        self.merged_bytes += sum(ref.size for ref in done.made)

    def probe(self) -> tuple[int, bytes]:
        """Return an old block that was not written again since, and its content."""
        block, row = self._probes[len(self._probes) // 3]
        return block, self._pool[row].tobytes()

    def metadata(self) -> int:
        """Return the bytes of everything that is not frames; of points, out of a sample."""
        loaded = Manifests(self.store, self.key).newest(VOLUME)
        layers = sum(self.store.size(name) for name in self.store.list_names(layers_prefix(VOLUME)))
        names = self.store.list_names(points_prefix(VOLUME))
        reader, sizes = PointReader(self.store, self.key.source, self.key), []
        for name in names[:: max(1, len(names) // 50)]:
            found = reader.load(name)
            sizes.append(found.object.size - sum(p.size - p.tail_size for p in found.body.packs))
        manifest = self.store.size(manifest_name(VOLUME, loaded.generation)) if loaded.digest else 0
        return layers + manifest + sum(sizes) * len(names) // len(sizes)

    def most_layers(self) -> int:
        """Return how many layers the point needs that needs most."""
        reader = PointReader(self.store, self.key.source, self.key)
        spans = SpanSet(self.store, reader, Manifests(self.store, self.key).newest(VOLUME))
        spans.know(self.points)
        return max(len(spans.shortest(0, point.seq) or ()) for point in self.points)


class Counting:
    """A store that counts the bytes read through it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.read = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def get(self, name: str, *, size_max: int) -> bytes:
        data = self._store.get(name, size_max=size_max)
        self.read += len(data)
        return data

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        data = self._store.get_range(name, offset, size)
        self.read += len(data)
        return data


def open_one(url: str, key_path: str, name: str, block: int, expected: str) -> Opened:
    """Open a point as a new process does; read a block, then walk the map."""
    key: RestoreKey = load_restore(key_path)
    store = Counting(LocalStore(url))
    began = time.perf_counter()
    image = Repository.on(store, restore=key).open_image(name)  # type: ignore[arg-type]
    view = bytearray(BLOCK)
    image.read_into(block * BLOCK, memoryview(view))
    open_s, first_s = time.perf_counter() - began, since_start()
    assert view.hex() == expected
    read, peak_first = store.read, peak()
    began, runs = time.perf_counter(), 0
    reader = PointReader(store, key.source, key)  # type: ignore[arg-type]
    _, stack = open_point(store, reader, name)  # type: ignore[arg-type]
    for window in stack.windows():
        runs += len(stack.content(*window))
    map_s = time.perf_counter() - began
    return Opened(
        image.depth, len(stack.problems), read, open_s, first_s, peak_first, map_s, runs, peak()
    )


def exported(growing: Growing, block: int, expected: bytes) -> tuple[float, float]:
    """Export the newest point by the command line; return seconds to the first byte, see above."""
    point = growing.points[-1].point_id
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "blocksnapctl", "--repo", growing.url, "--plain", "export", point,
         "--key", growing.key_path],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        path = unquote(command.stdout.readline().strip().partition("socket=")[2])
        came = time.perf_counter()
        with Client(path) as client:
            client.choose()
            content = client.read(block * BLOCK, BLOCK).content
        ended = time.perf_counter()
        command.terminate()  # which ends the worker, too; who runs in the background ignores Ctrl-C
    assert content == expected
    return ended - came, ended - began


def since_start() -> float:
    """Return the seconds since this process began."""
    with open("/proc/self/stat", encoding="ascii") as file:
        ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def peak() -> int:
    """Return the most memory this process had, in MiB; getrusage counts its parent's too."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = next(line for line in file if line.startswith("VmHWM"))
    return int(found.split()[1]) >> 10


def drop_cache(directory: str) -> None:
    """Ask the kernel to forget the pages of all files."""
    for path, _, files in os.walk(directory):
        for name in files:
            fd = os.open(os.path.join(path, name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def measure(growing: Growing) -> None:
    """Print the line for as many points as there are."""
    assert growing.last is not None
    drop_cache(growing.url)
    block, expected = growing.probe()
    argv = [growing.url, growing.key_path, growing.last.name, str(block), expected.hex()]
    out = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_open", "--open", *argv],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = Opened(*json.loads(out))
    drop_cache(growing.url)
    byte_s, typed_s = exported(growing, block, expected)
    metadata = growing.metadata()
    print(
        f"{len(growing.points):6d} {found.depth:4d} {growing.most_layers():4d}"
        f" {found.read_bytes / 1e6:8.2f} {found.first_s:7.2f} {found.open_s:6.2f}"
        f" {found.map_s:8.2f} {found.runs / 1e6:8.2f} {found.peak_first:6d} {found.peak_map:6d}"
        f" {byte_s:6.2f} {typed_s:6.2f}"
        f" {metadata / 1e6:9.1f} {100 * metadata / growing.shipped:6.2f} %",
        flush=True,
    )
    if found.problems:
        print(f"       {found.problems} problems met")


def main() -> None:
    """Grow the repository to each number of points, and measure there."""
    if sys.argv[1:2] == ["--open"]:
        url, key_path, name, block, expected = sys.argv[2:]
        print(json.dumps(open_one(url, key_path, name, int(block), expected)))
        return
    goals = sorted(map(int, sys.argv[1:])) or [10, 1000, 10_000]
    print(
        "points   layers    read MB  first s         map s   M runs   peak MiB     export s"
        "  metadata MB\n"
        "       open most           process   open                    first    map  client  typed"
    )
    with tempfile.TemporaryDirectory() as directory:
        growing, began = Growing(directory), time.monotonic()
        for goal in goals:
            while len(growing.points) < goal:
                growing.cycle()
            measure(growing)
        rewritten = growing.merged_bytes / 1e6
        print(
            f"built in {time.monotonic() - began:.0f} s; merging: {growing.merge_cpu_s:.1f} s CPU,"
            f" {rewritten:.1f} MB of layers written"
        )


if __name__ == "__main__":
    main()
