"""Stands in for the daemon program in tests of the client: ``worker`` over points in memory.

    fake_daemon.py worker --socket PATH --repo URL --key FILE [--passphrase-fd N] [--detached]

Ends when standard input closes, as the real one does, or with --detached when told to. A restore
writes a line that says how the worker was called. Any other verb prints its arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from blocksnapd.control.access import Access
from blocksnapd.control.server import ControlServer
from blocksnapd.control.unix_socket import bind
from blocksnapd.errors import ChecksumError
from tests.fakes.operations import MemoryOperations

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from blocksnapd.control.messages import Run, RunRequest


class Operations(MemoryOperations):
    """Restores at once; verify finds damage in a repository whose URL says so."""

    def __init__(self, arguments: argparse.Namespace, passphrase: str) -> None:
        super().__init__()
        self.told = f"{arguments.repo} {arguments.key} {passphrase}".rstrip()
        self.is_damaged = "damaged" in arguments.repo

    def planned(self, request: RunRequest) -> dict[str, Any]:
        """Return a plan; in a repository whose URL says so the point is damaged."""
        return {
            "point": request["point"], "volume": "vg0/home", "time": self.known[2]["time"],
            "consistency": "crash", "suspect": False, "to": request["to"], "target": "file",
            "replaces": os.path.exists(request["to"]), "size": 1 << 30, "content_bytes": 1 << 20,
            "kept_bytes": 0, "damaged_bytes": 4096 * self.is_damaged, "rate": None,
            "seconds": None, "read_back": None, "read_back_packs": [0, 1], "notes": [],
        }  # fmt: skip

    async def follow_run(self, run_id: str) -> AsyncGenerator[Run, None]:
        """Do the run as soon as somebody looks."""
        request, _ = self.asked[-1]
        if request.get("dry_run"):
            await self.move(run_id, planned=self.planned(request))
        elif request["kind"] == "restore":
            text = f"{self.told} {request.get('overwrite')}"
            await asyncio.to_thread(Path(request["to"]).write_text, text)
        await self.move(run_id, done_bytes=50, expected_bytes=100, phase="write")
        async for run in super().follow_run(run_id):
            yield run
            if run["state"] != "done":
                error = ChecksumError("2 blocks are damaged", effect="They are lost.")
                is_bad = self.is_damaged and request["kind"] == "verify"
                await self.finish(run_id, "failed" if is_bad else "success",
                                  error if is_bad else None)  # fmt: skip


async def serve(arguments: argparse.Namespace, passphrase: str) -> None:
    """Answer until standard input ends."""
    access = Access(os.geteuid())
    server = ControlServer(Operations(arguments, passphrase), access)
    await server.start(bind(arguments.socket, access))
    if arguments.detached:
        signalled = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signalled.set)
        await signalled.wait()
    else:
        await asyncio.to_thread(sys.stdin.buffer.read)
    await server.stop()


def main() -> int:
    """Do what the command line says."""
    if sys.argv[1] != "worker":
        print(*sys.argv[1:])
        return 0
    parser = argparse.ArgumentParser()
    for name in ("--socket", "--repo", "--key"):
        parser.add_argument(name, required=True)
    parser.add_argument("--passphrase-fd", type=int)
    parser.add_argument("--detached", action="store_true")
    arguments = parser.parse_args(sys.argv[2:])
    if "missing" in arguments.repo:
        sys.stderr.write("blocksnapd: no repository there\n")
        return 11
    passphrase = ""
    if arguments.passphrase_fd is not None:
        with os.fdopen(arguments.passphrase_fd) as file:
            passphrase = file.readline().strip()
    asyncio.run(serve(arguments, passphrase))
    return 0


if __name__ == "__main__":
    sys.exit(main())
