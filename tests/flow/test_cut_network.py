"""The line to a receiver is cut at bytes drawn by chance, in either direction, and heals.

The real client and the real receiver over TLS, through a line that cuts. The same run ends well, or
the next one does; every point is whole on the receiver's disk, and no finished pack goes twice.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import StoreError
from blocksnapd.store import pack_writer
from blocksnapd.store.files import LocalStore
from blocksnapd.store.pack_sender import PACKS_IN_FLIGHT
from blocksnapd.store.places import open_store
from blocksnapd.store.repository import Repository
from tests.receive.running import Running
from tests.servers.far_line import FarLine
from tests.store.support import BLOCK, VOLUME, Lab, check_image, point_id

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
PACK_SIZE = 2 * MIB  # instead of 32: a cycle has several, also a small one
BLOCKS = 12 * MIB // BLOCK
CUTS = 8
RUNS_MAX = 3


@pytest.fixture
def receiver(tmp_path) -> Iterator[Running]:
    with Running(tmp_path) as running:
        yield running


@pytest.fixture
def line(receiver) -> Iterator[FarLine]:
    with FarLine("127.0.0.1", receiver.tcp_port, down_s=0.1) as line:
        yield line


def lab_over(receiver: Running, line: FarLine) -> Lab:
    """Return a volume whose repository is at the other end."""
    access = receiver.authority.access(receiver.authority.client("source", "db01"))
    store = open_store(f"https://127.0.0.1:{line.tcp_port}/", access)
    return Lab(store=store, blocks=BLOCKS)


def cycle(lab: Lab, number: int, log: str) -> int:
    """Write everything anew and commit it; return how many runs that took."""
    changed = lab.write(range(lab.blocks), noise=True)
    kind = "delta" if lab.kept else "full"
    for run in range(1, RUNS_MAX + 1):
        sink = None
        try:
            base = lab.writer.newest(VOLUME)
            if base is None or base.point_id != point_id(number):  # else only its answer was lost
                sink = lab.writer.begin(
                    VOLUME, point_id(number), block_size=BLOCK, base=base, log=log
                )
                lab.feed(sink, changed, batch=256)
                sink.commit(lab.facts(kind, number))
        except StoreError:
            if sink is not None:
                sink.abort()
        else:
            point = lab.writer.newest(VOLUME)
            assert point is not None
            lab.kept.append((point, lab.bytes()))
            return run
    raise AssertionError(f"the line healed, and {RUNS_MAX} runs did not end well")


def test_every_cut_resumes(receiver, line, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pack_writer, "PACK_SIZE_TARGET", PACK_SIZE)
    lab, log = lab_over(receiver, line), str(tmp_path / "cut.log")
    line.count_anew()
    assert cycle(lab, 1, log) == 1
    whole = line.count_anew()
    dice, sent = random.Random(5), 0
    for number in range(2, 2 + CUTS):
        line.cut_after(dice.randrange(whole.up + whole.down))
        cycle(lab, number, log)
        sent += line.count_anew().up
        line.cut_after(None)
    assert line.cuts >= CUTS - 1  # one more may lie beyond the end of its cycle
    # What was under way is sent again, never a pack that was finished.
    again = sent - CUTS * whole.up
    assert again < line.cuts * (PACKS_IN_FLIGHT + 1) * PACK_SIZE
    assert not [r for r in caplog.records if r.exc_info]  # a cut is no news worth a stack
    reader = Repository.on(LocalStore(str(receiver.root / "db01")), restore=lab.keys)
    points = reader.points(VOLUME)
    assert [p.seq for p in points] == list(range(1, 2 + CUTS))
    for point, (_, image) in zip(points, lab.kept, strict=True):
        check_image(reader, point, image)
