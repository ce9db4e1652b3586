"""The verb ``reload``: the daemon takes its changed configuration up. Edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapctl.render import clean
from blocksnapd.control.messages import EXIT_OK, EXIT_WARNINGS

if TYPE_CHECKING:
    from blocksnapctl.commands import Context


def reload(context: Context) -> int:
    """Reload, tell what is different now; 13 when some of it takes a restart."""
    out, found = context.output, context.daemon.post("reload", body={})
    changed, restart = found["changed"], found["restart"]
    if out.as_json:
        out.document(found)
    else:
        out.data("".join(f"{clean(line)}\n" for line in changed))
        if not changed:
            out.say("Nothing that a reload takes up was different.")
        for volume in found["waiting"]:
            out.say(f"{clean(volume)}: its run under way is seen through first.")
        if restart:
            out.say("This takes a restart (systemctl restart blocksnapd):")
            out.say("\n".join(f"  {clean(line)}" for line in restart))
    return EXIT_WARNINGS if restart else EXIT_OK
