"""The verb ``wait``: until a run, or a volume's run under way, is done. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapctl.following import follow
from blocksnapd.control.messages import EXIT_OK

if TYPE_CHECKING:
    from blocksnapctl.commands import Context


def wait(context: Context) -> int:
    """See a run through; of a volume the one under way, or nothing when there is none."""
    item, out = context.arguments.item, context.output
    if "/" in item:
        active = context.daemon.get("volumes", item).get("active_run")
        if not active:
            out.say(f"No run of {item} is under way.")
            return EXIT_OK
        item = active["id"]
    from blocksnapctl.detached import teller_of  # status has no use for what this takes to load

    client = teller_of(context.daemon, item)
    return follow(client, item, out, deadline=context.deadline)
