"""A real ``blocksnapd receive`` for the benchmarks: started, told what it used, ended."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.fakes.certificates import Authority
from tests.servers.ports import free_ports
from tests.servers.receive_settings import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.model import Access

START_S_MAX = 60.0


class Used(NamedTuple):
    """Seconds of CPU so far, and bytes of memory: resident now, and at most."""

    cpu_s: float
    memory: int
    memory_max: int


class Receiver:
    """``with Receiver(folder) as receiver``: a process of its own, at ``tcp_port``."""

    def __init__(self, folder: Path, *, address: str = "127.0.0.1") -> None:
        self.root, self.authority = folder / "vault", Authority(folder / "pki")
        self.root.mkdir()
        own = self.authority.receiver(address=address)
        [self.tcp_port] = free_ports(1)
        self._config, self._log = folder / "receive.toml", folder / "receive.log"
        self._config.write_text(
            SETTINGS.format(tcp_port=self.tcp_port, root=self.root, ca=self.authority.ca,
                          cert=own.cert, key=own.key, more="").replace("127.0.0.1", address)
        )  # fmt: skip

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", "blocksnapd", "receive", "--config", str(self._config)]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        give_up = time.monotonic() + START_S_MAX
        while "ready: listening" not in self._log.read_text():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the receiver did not start:\n{self._log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def access(self, host: str) -> Access:
        """Return what a new source ``host`` comes in with."""
        return self.authority.access(self.authority.client("source", host))

    def used(self) -> Used:
        """Return what the process has used."""
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        with open(f"/proc/{self._process.pid}/status", encoding="ascii") as file:
            sizes = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", file.read()))
        ticks = os.sysconf("SC_CLK_TCK")
        cpu_s = (int(fields[11]) + int(fields[12])) / ticks
        return Used(cpu_s, int(sizes["VmRSS"]) << 10, int(sizes["VmHWM"]) << 10)

    def complaints(self) -> int:
        """Return how many lines of the log are of warnings, errors or stacks."""
        said = self._log.read_text()
        return len(re.findall(r"^(WARNING|ERROR|CRITICAL|Traceback)", said, re.MULTILINE))
