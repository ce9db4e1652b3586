"""What a reload would change: the configuration in the files beside that of the running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.config_view import differences, settled
from blocksnapd.service.daemon_client import DaemonClient

if TYPE_CHECKING:
    from blocksnapd.config import Config


async def differing(config: Config) -> list[str]:
    """Return the lines that differ, ``-`` before what holds and ``+`` before what would.

    Raises:
        UnreachableError: no daemon answers where the files say that it should.
    """
    async with DaemonClient(config.control.socket) as daemon:
        running = await daemon.get("config")
    return differences(running["settings"], settled(config))
