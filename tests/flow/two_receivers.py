"""Receivers before one bucket, as two hosts: what runs them, and who writes through them. Edge.

A writer is a host's volume that is protected by the real sink, client and receivers. It knows what
each of its points must hold, and goes on from whatever is the newest one, as a daemon does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    CondemnedError,
    ObjectExistsError,
    StoreError,
    StoreRefusedError,
)
from tests.flow.kit import LIMIT_S, started
from tests.servers.ports import free_ports
from tests.store.support import Lab, point_id

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.model import PointHead
    from blocksnapd.store.keys import RestoreKey
    from blocksnapd.store.objects import ObjectStore
    from tests.fakes.certificates import Authority

BLOCKS = 600
# What a writer may meet beside a receiver or the bucket that is away, a plain StoreError: its
# place taken, what it wrote collected, a lock, and its base become history that no source may read,
# as the other writer was fast. Two points in one place are none of it.
EXPECTED = (ObjectExistsError, CondemnedError, BusyError, StoreRefusedError)
SETTINGS = """\
schema = 1
[receive]
listen = ["127.0.0.1:{tcp_port}"]
root = "{root}"
credentials = "{credentials}"
spool = "{spool}"
[pki]
ca = "{ca}"
cert = "{cert}"
key = "{key}"
[host.{floored}]
floor = "1h"
"""
# Two hosts share no directory of locks; root's is in /run, that of others where this says.
_OWN_RUN = (
    "unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "own-run",
)  # fmt: skip


def lacks_own_run() -> str:
    """Return why receivers cannot have a ``/run`` each, as a sentence; empty if they can."""
    if os.geteuid() != 0:
        return ""
    done = subprocess.run([*_OWN_RUN, "true"], capture_output=True, text=True, check=False)
    return f"a mount namespace is not to be had: {done.stderr.strip()}" if done.returncode else ""


class Receiver:
    """One receiver before a bucket, a process with a ``/run`` of its own."""

    def __init__(
        self, folder: Path, authority: Authority, root: str, credentials: str, *, floored: str
    ) -> None:
        folder.mkdir()
        own = authority.receiver()
        [self.tcp_port] = free_ports(1)
        self._config, self.log = folder / "receive.toml", folder / "log"
        self._config.write_text(
            SETTINGS.format(
                tcp_port=self.tcp_port, root=root, credentials=credentials, spool=folder / "spool",
                ca=authority.ca, cert=own.cert, key=own.key, floored=floored,
            )
        )  # fmt: skip
        is_root = os.geteuid() == 0
        self._alone = _OWN_RUN if is_root else ("env", f"XDG_RUNTIME_DIR={folder}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; return once it is ready."""
        program = (sys.executable, "-m", "blocksnapd", "receive", "--config", str(self._config))
        self._process = started((*self._alone, *program), self.log)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; wait for the end."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(LIMIT_S)


class Volume:
    """What all writers of one volume know together.

    ``direct`` is the repository in the bucket. ``acknowledged`` has the places of the points that a
    writer relies on, ``given`` what all that were tried must hold, both by id.
    """

    def __init__(self, name: str, keys: RestoreKey, direct: ObjectStore) -> None:
        self.name, self.keys, self.direct = name, keys, direct
        self.acknowledged: dict[str, int] = {}
        self.given: dict[str, bytes] = {}
        self.told = Counter[str]()
        self._guard = threading.Lock()

    def acknowledge(self, seq: int, point: str) -> None:
        """Note that a writer relies on a point."""
        with self._guard:
            assert seq not in self.acknowledged.values(), "two in one place are relied on"
            self.acknowledged[point] = seq


class Writer(Lab):
    """A host that protects ``shared``; ``number`` tells two of one volume apart."""

    def __init__(self, shared: Volume, store: ObjectStore, number: int) -> None:
        self.shared, self.number = shared, number << 20
        self._base: PointHead | None = None
        self._since: dict[str, np.ndarray] = {}  # by point: what changed since it was tried
        super().__init__(store=store, keys=shared.keys, blocks=BLOCKS)
        self.rng = np.random.default_rng(number)

    def facts(self, kind: str, number: int):
        made = super().facts(kind, number)
        return replace(made, volume_id=self.shared.name, time=datetime.now(UTC))

    def sink(self, number: int, base: object = "newest"):
        return self.writer.begin(
            self.shared.name, point_id(number), block_size=self.block_size, base=self._base
        )

    def protect(self) -> None:
        """Change something, make a point; what goes wrong is counted if it may."""
        size = int(self.rng.choice((20, 320)))
        start = int(self.rng.integers(0, BLOCKS - size))
        changed = self.write(range(start, start + size), noise=True)
        self._since = {p: np.union1d(was, changed) for p, was in self._since.items()}
        self.number += 1
        point = point_id(self.number)
        self.shared.given[point] = self.bytes()
        try:
            self._commit(point)
        except BlocksnapError as error:
            if not isinstance(error, EXPECTED) and type(error) is not StoreError:
                raise
            self.shared.told[error.code] += 1

    def _commit(self, point: str) -> None:
        base = self._base = self.writer.newest(self.shared.name)
        known = None if base is None else self._since.get(base.point_id)
        if self.writer.wanted(self.shared.name).afresh:
            known = None
        kind = "full" if known is None else "delta"
        blocks = np.flatnonzero(self.image.any(axis=1)) if known is None else known
        self._since[point] = np.empty(0, dtype=np.intp)
        sink = self.sink(self.number)
        try:
            self.feed(sink, blocks, batch=64)
            made = sink.commit(self.facts(kind, self.number))
        except BaseException:
            sink.abort()
            raise
        self._since = {point: self._since[point]}
        self.shared.acknowledge(made.seq, point)
        self.shared.told[kind] += 1
