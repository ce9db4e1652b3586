"""The daemon program: how to start it, and that it failed. Edge: knows this interpreter."""

from __future__ import annotations

import sys


class WorkerFailedError(Exception):
    """A private worker ended before it answered; it has told why on standard error."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the worker ended with {exit_code}")
        self.exit_code = exit_code


def daemon_program() -> list[str]:
    """Return how to start the daemon program; ``-P`` keeps this directory's modules out."""
    return [sys.executable, "-P", "-m", "blocksnapd"]
