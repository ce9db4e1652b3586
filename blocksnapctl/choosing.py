"""Which point and which repository a command line means. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocksnapd.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from blocksnapctl.client import Client
    from blocksnapctl.output import Output


def found_point(output: Output, client: Client, selector: str) -> dict[str, Any]:
    """Return the point that ``selector`` names; say how it was understood.

    Raises:
        ProblemError: none, or several. UnreachableError: nobody answers.
    """
    point = client.get("points", selector)
    if point.get("note"):
        output.say(point["note"])
    return point


def repository_of(client: Client, target: str) -> str:
    """Return the URL of a target that the daemon knows.

    Raises:
        NotFoundError: it knows none of that name.
    """
    for found in client.get("status")["targets"]:
        if found["name"] == target:
            return str(found["url"])
    raise NotFoundError(
        f"the daemon knows no target {target!r}", hint="Name the repository with --repo URL."
    )


def only_repository(client: Client) -> str:
    """Return the URL of the one target there is.

    Raises:
        UsageError: there are none, or several.
    """
    targets = client.get("status")["targets"]
    if len(targets) == 1:
        return str(targets[0]["url"])
    raise UsageError(
        f"there are {len(targets)} targets", hint="Name a volume, a point or --repo URL."
    )
