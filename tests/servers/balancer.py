"""A load balancer before several receivers: each connection goes to any that answers. Edge.

with Balancer([7420, 7421]) as line:
    line.cut_after(50_000)         # every connection, in the middle of what it says
    …                              # talk to 127.0.0.1:line.tcp_port
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

from tests.servers.far_line import CHUNK_SIZE, FarLine

if TYPE_CHECKING:
    from collections.abc import Sequence


class Balancer(FarLine):
    """A line to any of ``tcp_ports``; ``taken`` counts the connections to each."""

    def __init__(self, tcp_ports: Sequence[int], *, seed: int = 1) -> None:
        super().__init__("127.0.0.1", tcp_ports[0])
        self._ports, self._dice = list(tcp_ports), random.Random(seed)
        self.taken = Counter[int]()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = self._dice.sample(self._ports, len(self._ports))
        for port in ports[:-1]:
            try:
                found = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK_SIZE)
            except OSError:
                continue
            self.taken[port] += 1
            return found
        self.taken[ports[-1]] += 1
        return await asyncio.open_connection("127.0.0.1", ports[-1], limit=CHUNK_SIZE)
