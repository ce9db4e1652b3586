"""How fast an exception table is parsed, and in how much memory, beside a copy of its bytes.

    python -m tests.bench.bench_parse [--entries 1000000 50000000] [--dir /var/tmp]

``memory`` feeds the areas from memory through the reader's own port: the walk, its checks and its
result, without a disk. ``file`` reads a sparse file with O_DIRECT by ``CowDevice``: disk and
system calls included, one read per area, so a 4 KiB chunk pays one for every 256 entries. The
file is as long as the COW device would be, but only its areas are written: 16 bytes per entry on
the disk. ``copy`` is ``numpy.copy`` of the same bytes into fresh memory. Origin chunks come in
scattered order, each once.

Peak memory is the resident set's highest mark above where it stood before the call, as the kernel
counts it, in a process of its own for each line; the table itself is 16 bytes per entry. Times are
the best of three.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blocksnapd.parse import cow_format
from blocksnapd.parse.cow_device import CowDevice
from blocksnapd.parse.exception_table import ExceptionTable, read_table
from blocksnapd.units import format_size
from tests.fakes.cow_images import regular_new

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_SIZES = (4096, 65536)
FEEDS = ("memory", "file")
ROUNDS = 3
ENTRIES_PER_S_MIN = 50e6
PEAK_MAX = 24.0  # bytes per entry

Areas = NDArray[np.uint64]  # (areas, entries per area, 2)


class Result(NamedTuple):
    """One line of the table."""

    feed: str
    chunk_size: int
    entries: int
    parse_s: float
    copy_s: float
    peak: float  # bytes per entry


def make_areas(entries: int, chunk_size: int) -> Areas:
    """Return the areas of a table whose origin chunks are a scattered permutation."""
    per_area = cow_format.entries_per_area(chunk_size)
    areas = np.zeros((entries // per_area + 1, per_area, 2), dtype="<u8")
    flat = areas.reshape(-1, 2)
    step = int(entries * 0.6180339887) | 1
    while np.gcd(step, entries) != 1:
        step += 2
    flat[:entries, 0] = np.arange(entries, dtype=np.uint64) * np.uint64(step) % np.uint64(entries)
    flat[:entries, 1] = regular_new(entries, chunk_size)
    return areas


def memory_case(areas: Areas, entries: int, chunk_size: int) -> Callable[[], ExceptionTable]:
    """Return the parse of ``areas`` from memory, nothing copied on the way in."""
    header = memoryview(cow_format.Header(chunk_size).pack())
    data = areas.reshape(-1).view(np.uint8).data

    def read(offset: int, length: int, count: int, stride: int) -> memoryview:
        if offset == 0:
            return header
        at = offset // stride * chunk_size
        return data[at : at + length * count]

    cow_size = cow_format.bytes_needed(entries, chunk_size)
    return lambda: read_table(read, cow_size, origin_size=entries * chunk_size)


def write_file(path: str, areas: Areas, entries: int, chunk_size: int) -> None:
    """Write header and areas where they belong, and nothing between them."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.truncate(fd, cow_format.bytes_needed(entries, chunk_size))
        os.pwrite(fd, cow_format.Header(chunk_size).pack(), 0)
        stride = cow_format.area_stride(chunk_size)
        for index, area in enumerate(areas):
            os.pwrite(fd, area.reshape(-1).view(np.uint8).data, chunk_size + index * stride)
        os.fsync(fd)  # or the first direct read would pay for the write
    finally:
        os.close(fd)


def memory_mark(name: str) -> int:
    """Return the bytes of ``VmRSS`` or ``VmHWM``."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def measure(parse: Callable[[], ExceptionTable], entries: int) -> tuple[float, float]:
    """Return the best time in seconds and the worst peak in bytes per entry."""
    times, peaks = [], []
    for _ in range(ROUNDS):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # VmHWM := VmRSS
        before = memory_mark("VmRSS")
        start = time.perf_counter()
        table = parse()
        times.append(time.perf_counter() - start)
        peaks.append((memory_mark("VmHWM") - before) / entries)
        assert len(table) == entries
        del table
    return min(times), max(peaks)


def measure_copy(areas: Areas) -> float:
    """Return the best time in seconds of a plain copy."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        copied = areas.copy()
        times.append(time.perf_counter() - start)
        del copied
    return min(times)


def run_case(feed: str, entries: int, chunk_size: int, directory: str) -> Result:
    """Measure one line; runs in a process of its own."""
    areas = make_areas(entries, chunk_size)
    copy_s = measure_copy(areas)
    if feed == "memory":
        parse_s, peak = measure(memory_case(areas, entries, chunk_size), entries)
        return Result(feed, chunk_size, entries, parse_s, copy_s, peak)
    with tempfile.TemporaryDirectory(dir=directory) as place:
        path = os.path.join(place, "cow")
        write_file(path, areas, entries, chunk_size)
        del areas
        with CowDevice(path) as device:
            parse_s, peak = measure(lambda: device.table(origin_size=entries * chunk_size), entries)
    return Result(feed, chunk_size, entries, parse_s, copy_s, peak)


def line(result: Result) -> str:
    """Return one line for people."""
    rate = result.entries / result.parse_s
    kept = "yes" if rate >= ENTRIES_PER_S_MIN and result.peak <= PEAK_MAX else "no"
    return (
        f"{result.feed:<8}{format_size(result.chunk_size):>8}{result.entries:>12,}"
        f"{result.parse_s * 1e3:>10.1f}{rate / 1e6:>12.1f}{result.peak:>13.1f}"
        f"{result.copy_s * 1e3:>10.1f}{result.parse_s / result.copy_s:>9.1f} x"
        f"{kept if result.feed == 'memory' else '-':>7}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--entries", type=int, nargs="+", default=[1_000_000, 50_000_000])
    parser.add_argument("--feeds", nargs="+", default=FEEDS, choices=FEEDS)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the sparse file goes")
    args = parser.parse_args()
    print(f"{'feed':<8}{'chunk':>8}{'entries':>12}{'parse ms':>10}{'M entries/s':>12}"
          f"{'peak B/entry':>13}{'copy ms':>10}{'parse/copy':>11}{'bars':>7}")  # fmt: skip
    # Freed memory goes back to the kernel at once, or the next measurement would not see its use.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(128 * 1024)
    cases = [(f, n, c, args.dir) for f in args.feeds for n in args.entries for c in CHUNK_SIZES]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for case in cases:
            print(line(pool.apply(run_case, case)), flush=True)
    print(f"bars: at least {ENTRIES_PER_S_MIN / 1e6:.0f} M entries/s and at most {PEAK_MAX:.0f}"
          " bytes of peak memory per entry, from memory")  # fmt: skip


if __name__ == "__main__":
    main()
