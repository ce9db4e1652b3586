"""Guest: cycles to a receiver over a bad network made by the kernel, cut and healed in the middle.

Two network namespaces, joined by veth; netem on both ends: 25 ms each way, 1 % of all packets lost,
10 Mbit/s. The program calls itself in the far namespace as the source.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from blocksnapd.model import Access
from blocksnapd.store import pack_writer
from blocksnapd.store.files import LocalStore
from blocksnapd.store.places import open_store
from blocksnapd.store.repository import Repository
from tests.bench.receiver import Receiver
from tests.flow.test_cut_network import cycle
from tests.lab.guest import kit
from tests.store.support import BLOCK, VOLUME, Lab, check_image, point_id

RECEIVER, SOURCE = "10.77.0.1", "10.77.0.2"
LINE = ("delay", "25ms", "loss", "1%", "rate", "10mbit")
DOWN_S = 4.0
FOLDER = Path("/run/lab/tmp")
LOG, CUT = str(FOLDER / "session.log"), FOLDER / "cut"


def make_line() -> None:
    """Join this namespace and another, ``far``, by a line as bad as ``LINE``."""
    kit.run("modprobe", "-a", "veth", "sch_netem")
    kit.run("ip", "link", "set", "lo", "up")
    kit.run("ip", "netns", "add", "far")
    kit.run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", "far")
    inside = ("ip", "netns", "exec", "far")
    for prefix, device, address in (((), "here", RECEIVER), (inside, "there", SOURCE)):
        kit.run(*prefix, "ip", "address", "add", f"{address}/24", "dev", device)
        kit.run(*prefix, "ip", "link", "set", device, "up")
        kit.run(*prefix, "tc", "qdisc", "add", "dev", device, "root", "netem", *LINE)


def retransmitted() -> int:
    """Return how many segments TCP has sent again in this namespace."""
    lines = Path("/proc/net/snmp").read_text().splitlines()
    names, values = [line.split() for line in lines if line.startswith("Tcp:")]
    return int(values[names.index("RetransSegs")])


def small_cycle(lab: Lab) -> float:
    """Commit 16 blocks; return the seconds from the snapshot until the point is known."""
    changed = lab.write(np.arange(16) * 3, noise=True)
    facts = lab.facts("delta", 2)
    base = lab.writer.newest(VOLUME)
    began = time.monotonic()
    lab.writer.wanted(VOLUME)
    sink = lab.writer.begin(VOLUME, point_id(2), block_size=BLOCK, base=base)
    lab.feed(sink, changed, batch=256)
    point = sink.commit(facts)
    lab.kept.append((point, lab.bytes()))
    return time.monotonic() - began


def source(url: str, root: str, *access: str) -> None:
    """Be the source: three cycles, the last with the line cut, and all points read back."""
    pack_writer.PACK_SIZE_TARGET = 1 << 20
    before = retransmitted()
    lab = Lab(store=open_store(url, Access(*access)), blocks=5 * kit.MIB // BLOCK)
    began = time.monotonic()
    cycle(lab, 1, LOG)
    kit.tell("full", seconds=time.monotonic() - began, size=lab.size)
    kit.tell("small", seconds=small_cycle(lab))
    CUT.touch()
    began = time.monotonic()
    runs = cycle(lab, 3, LOG)
    kit.tell("cut", seconds=time.monotonic() - began, runs=runs)
    reader = Repository.on(LocalStore(root), restore=lab.keys)
    for point, image in lab.kept:
        check_image(reader, reader.load_point(point.name), image)
    kit.tell("whole", points=len(lab.kept), retransmitted=retransmitted() - before)


def main() -> None:
    make_line()
    with Receiver(FOLDER, address=RECEIVER) as receiver:
        access = receiver.access("db01")
        url = f"https://{RECEIVER}:{receiver.tcp_port}/"
        argv = [
            "ip", "netns", "exec", "far", sys.executable, __file__, url,
            str(receiver.root / "db01"), access.ca, access.cert, access.key,
        ]  # fmt: skip
        far = subprocess.Popen([str(word) for word in argv], env=os.environ)
        while far.poll() is None and not CUT.exists():
            time.sleep(0.1)
        time.sleep(2.0)  # in the middle of what takes more than four seconds
        kit.run("ip", "link", "set", "here", "down")
        time.sleep(DOWN_S)
        kit.run("ip", "link", "set", "here", "up")
        status = far.wait()
        kit.tell("line", said=kit.run("tc", "-s", "qdisc", "show", "dev", "here"))
        if status:
            raise SystemExit(f"the source ended with status {status}")


source(*sys.argv[1:]) if len(sys.argv) > 1 else main()
