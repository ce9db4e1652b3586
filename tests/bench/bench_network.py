"""What the way to a receiver costs: on a clean line, far away, and cut again and again.

    python -m tests.bench.bench_network [MiB] [cuts]              256 and 6 when left out

Real client, real receiver process, TLS on this machine. Beside it, the same bytes as one stream
over the same TLS to a process that writes them to the same disk and syncs: as ``cat`` would send
them. The data is noise, so compression saves nothing; hashing, trying to compress and sealing are
the cycle's alone; "packs" are the same bytes put as objects that are ready.

Latency and cuts are made by a proxy (``tests/servers/far_line.py``), which also counts; it is not
in the way where throughput is measured.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import socket
import ssl
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.store.pack_sender import PACKS_IN_FLIGHT
from blocksnapd.store.pack_writer import PACK_SIZE_TARGET
from blocksnapd.store.places import open_store
from blocksnapd.store.repository import Repository
from tests.bench.bench_store import write_full
from tests.bench.receiver import START_S_MAX, Receiver
from tests.flow.test_cut_network import cycle, lab_over
from tests.servers.far_line import FarLine
from tests.store.support import BLOCK, VOLUME, Lab, make_repository, point_id

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from blocksnapd.model import Access
    from blocksnapd.store.objects import ObjectStore

MIB = 1 << 20
PIECE = MIB
LATENCY_S = 0.025  # one way
TURNS = 3  # of stream and packs, one after the other; the best of each counts


def swallow(told: Connection, cert: str, key: str, ca: str, path: str, size: int) -> None:
    """Write ``size`` bytes of one TLS connection to ``path``, sync, say so on the connection."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told.send(listening.getsockname()[1])
        plain, _ = listening.accept()
    with context.wrap_socket(plain, server_side=True) as stream, open(path, "wb", 0) as file:
        buffer = bytearray(PIECE)
        while size > 0 and (count := stream.recv_into(buffer)):
            file.write(memoryview(buffer)[:count])
            size -= count
        os.fsync(file.fileno())
        stream.sendall(b"!")


def port_of(told: Connection) -> int:
    """Return the port that ``swallow`` tells; RuntimeError: it died, or took too long."""
    with contextlib.suppress(EOFError):
        if told.poll(START_S_MAX):
            return int(told.recv())
    raise RuntimeError("the process that takes the stream did not start")


def stream_s(receiver: Receiver, access: Access, data: memoryview, path: str) -> float:
    """Return the seconds that ``data`` takes as one stream over the same TLS, synced."""
    cert, key = receiver.authority.receiver("stream")
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    words = (theirs, cert, key, access.ca, path, len(data))
    process = spawn.Process(target=swallow, args=words, daemon=True)
    process.start()
    theirs.close()  # it alone has this end now, so its death is seen at the other
    context = ssl.create_default_context(cafile=access.ca)
    context.load_cert_chain(str(access.cert), access.key)
    with socket.create_connection(("127.0.0.1", port_of(ours))) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
            began = time.perf_counter()
            for at in range(0, len(data), PIECE):
                stream.sendall(data[at : at + PIECE])
            if stream.recv(1) != b"!":
                raise RuntimeError("the process that takes the stream died before it was synced")
            took = time.perf_counter() - began
    process.join()
    return took


def put_s(store: ObjectStore, data: memoryview, turn: int) -> float:
    """Return the seconds that ready-made packs of ``data`` take, as many at once as a sink puts."""
    began = time.perf_counter()
    with ThreadPoolExecutor(PACKS_IN_FLIGHT) as threads:
        for put in [
            threads.submit(
                store.put, f"v/ready/d/20260101/{point_id(at)}-0000-{turn:08x}.pk",
                [data[at : at + PACK_SIZE_TARGET]],
            )
            for at in range(0, len(data), PACK_SIZE_TARGET)
        ]:  # fmt: skip
            put.result()
    return time.perf_counter() - began


def clean(receiver: Receiver, folder: Path, size: int) -> None:
    """Print the throughput of a full cycle beside that of a stream."""
    access = receiver.access("clean")
    url = f"https://127.0.0.1:{receiver.tcp_port}/"
    data = np.random.default_rng(3).bytes(size)
    store = open_store(url, access)
    keys = make_repository(store)
    theirs = packs = float("inf")
    for turn in range(TURNS):
        stream = stream_s(receiver, access, memoryview(data), str(folder / "stream"))
        os.unlink(folder / "stream")
        theirs, packs = min(theirs, stream), min(packs, put_s(store, memoryview(data), turn))
    (folder / "image").write_bytes(data)
    began = time.perf_counter()
    write_full(Repository.on(store, source=keys.source), str(folder / "image"), size)
    ours = time.perf_counter() - began
    for what, took in (("stream", theirs), ("packs", packs), ("cycle", ours)):
        print(f"clean line, {what:7} {took:6.2f} s  {size / took / 1e6:6.0f} MB/s")
    print(f"bytes that are compressed already: packs x{theirs / packs:.2f} of the stream")
    print(
        f"a whole full cycle: x{theirs / ours:.2f}; it reads, hashes, compresses and seals, too, "
        f"on the {os.cpu_count()} CPUs that both sides share here"
    )


def far(receiver: Receiver) -> None:
    """Print what a small cycle waits for at 50 ms there and back, on connections that are open.

    The newest point is asked for before the snapshot is taken.
    """
    with FarLine("127.0.0.1", receiver.tcp_port) as line:
        access = receiver.access("far")
        store = open_store(f"https://127.0.0.1:{line.tcp_port}/", access)
        lab = Lab(store=store, blocks=4096)
        lab.write(range(1024))
        lab.commit()
        changed = lab.write(np.arange(64) * 16, noise=True)
        facts = lab.facts("delta", 2)
        line.latency_s = LATENCY_S
        line.count_anew()
        times = [time.perf_counter()]
        base = lab.writer.newest(VOLUME)
        times.append(time.perf_counter())
        counts = [line.count_anew()]
        lab.writer.wanted(VOLUME)
        sink = lab.writer.begin(VOLUME, point_id(2), block_size=BLOCK, base=base)
        times.append(time.perf_counter())
        counts.append(line.count_anew())
        lab.feed(sink, changed)
        sink.commit(facts)
        times.append(time.perf_counter())
        counts.append(line.count_anew())
        line.latency_s = 0.0
    for what, took, counted in zip(
        ("newest point", "begin", "commit"), np.diff(times).tolist(), counts, strict=True
    ):
        print(
            f"50 ms, 256 KiB, {what:12} {counted.turns} round trips, {took * 1000:4.0f} ms; "
            f"{counted.up >> 10} KiB up, {counted.down >> 10} down"
        )
    trips, took = counts[1].turns + counts[2].turns, times[3] - times[1]
    print(
        f"from the snapshot until the point is durable and known: {trips} round trips, "
        f"{took * 1000:.0f} ms = {took / (2 * LATENCY_S):.1f} of time, with hashing and sealing"
    )


def cut(receiver: Receiver, cuts: int) -> None:
    """Print what is sent again when each of some cycles is cut at a byte drawn by chance."""
    with FarLine("127.0.0.1", receiver.tcp_port, down_s=0.1) as line:
        lab = lab_over(receiver, line)
        line.count_anew()
        log = str(receiver.root.parent / "cut.log")
        cycle(lab, 1, log)
        whole = line.count_anew()
        dice, runs = random.Random(1), []
        for number in range(2, cuts + 2):
            line.cut_after(dice.randrange(whole.up))
            runs.append(cycle(lab, number, log))
        sent, made = line.count_anew().up, line.cuts
    again = sent - cuts * whole.up
    print(
        f"{made} cuts in {cuts} cycles of {whole.up / 1e6:.1f} MB: all {len(runs)} ended well, "
        f"{runs.count(1)} in the run that was cut; "
        f"{again / max(1, made) / 1e6:.1f} MB sent again a cut"
    )


def main() -> None:
    """Run and print."""
    said = [int(word) for word in sys.argv[1:3]]
    size, cuts = [*said, *(256, 6)[len(said) :]]
    with tempfile.TemporaryDirectory() as name, Receiver(Path(name)) as receiver:
        clean(receiver, Path(name), size * MIB)
        far(receiver)
        cut(receiver, cuts)


if __name__ == "__main__":
    main()
