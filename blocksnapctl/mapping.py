"""The verb ``map``: where and when a volume changed. Edge.

The daemon reads it, if its configuration has a maintenance key; with ``--key`` our private worker.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

from blocksnapctl import render_map
from blocksnapctl.choosing import repository_of
from blocksnapctl.client import Client
from blocksnapctl.zone import local_now
from blocksnapd.control.messages import EXIT_OK, format_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapctl.commands import Context

READ_S_MAX: Final = 900.0  # thousands of points, over a slow line
_ROWS_AROUND: Final = 9  # lines of the picture that are not regions
_ROWS_MAX, _COLUMNS_MAX = 48, 1000
_SIZE_UNKNOWN: Final = (80, 24)


def draw(context: Context) -> int:
    """Draw the map of a volume."""
    arguments, out = context.arguments, context.output
    columns, lines = shutil.get_terminal_size(_SIZE_UNKNOWN)
    regions = arguments.regions or max(4, min(_ROWS_MAX, lines - _ROWS_AROUND))
    cycles = max(8, min(_COLUMNS_MAX, columns - render_map.EDGE - 1))
    if out.as_json or out.as_plain:
        regions, cycles = arguments.regions or 64, _COLUMNS_MAX
    with reading(context, arguments.volume) as client:
        found = read_map(
            client, arguments.volume, since_s=arguments.since, regions=regions, cycles=cycles
        )
    if out.as_json:
        out.document(found)
    elif out.as_plain:
        out.data(render_map.map_plain(found))
    else:
        out.data(render_map.heat(found, local_now(), colour=out.is_coloured))
    return EXIT_OK


@contextmanager
def reading(context: Context, volume: str) -> Iterator[Client]:
    """Whom to ask about ``volume``: the daemon, or with a key a worker on its repository."""
    arguments = context.arguments
    repo = arguments.repo
    if repo is None and arguments.key is None:
        yield context.daemon
        return
    if repo is None:
        repo = repository_of(context.daemon, context.daemon.get("volumes", volume)["target"])
    with context.worker(repo) as worker:
        yield worker.client


def read_map(
    client: Client, volume: str, *, since_s: float | None, regions: int, cycles: int
) -> dict[str, Any]:
    """Return the map of ``volume``; waits as long as reading many points may take.

    Raises:
        ProblemError: it cannot be read. UnreachableError: nobody answers.
    """
    query = {"regions": str(regions), "cycles": str(cycles)}
    if since_s is not None:
        since = local_now().astimezone(UTC) - timedelta(seconds=since_s)
        query["since"] = format_time(since.timestamp())
    patient = Client(client.socket_path, timeout_s=READ_S_MAX)
    return patient.get("maps", volume, **query)
