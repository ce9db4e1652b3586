"""Hooks as text: what they are told, how they become a transient unit, what their end means. Pure.

A hook is an operator's program. It is told what happens in its environment, in ``BLOCKSNAP_…``
variables, and answers with its exit status: 0 well, 75 (EX_TEMPFAIL) skip this run, any other:
it failed.

Source: systemd-run(1), systemd.service(5) (a ``$`` in an argument is for systemd to replace).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocksnapd.runtime.process import Finished

SKIP_STATUS = 75
PREFIX = "BLOCKSNAP_"
UNIT_STOP_S = 2.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAID_MAX = 500


class Order(msgspec.Struct, frozen=True):
    """One program to run: ``at`` which moment, as which ``user``, for at most ``timeout_s``.

    ``name`` is what events and metrics call it.
    """

    name: str
    at: str
    run: tuple[str, ...]
    user: str
    timeout_s: float


class End(msgspec.Struct, frozen=True):
    """How a hook ended. ``status`` is None when it did not end in time, or could not be started.

    ``said`` is what it complained about, or why it could not be started.
    """

    status: int | None
    said: str
    duration_s: float

    @property
    def is_well(self) -> bool:
        """Whether it did what it was to do."""
        return self.status == 0

    @property
    def is_skip(self) -> bool:
        """Whether it asks to skip this run."""
        return self.status == SKIP_STATUS

    def sentence(self, order: Order) -> str:
        """Return what went wrong, in words."""
        said = f": {self.said[-_SAID_MAX:]}" if self.said else "."
        if self.status is not None:
            return f"The hook {order.name} ended with status {self.status}{said}"
        if self.duration_s >= order.timeout_s:
            limit = format_duration(order.timeout_s)
            return f"The hook {order.name} did not end within {limit} and was killed{said}"
        return f"The hook {order.name} could not be run{said}"


def environment(facts: Mapping[str, str], *, user: str = "root", home: str = "/") -> dict[str, str]:
    """Return a hook's whole environment: the system's paths, who it is, and the facts."""
    return {
        "PATH": _PATH, "LC_ALL": "C.UTF-8", "USER": user, "LOGNAME": user, "HOME": home,
        **{PREFIX + name: value for name, value in facts.items()},
    }  # fmt: skip


def unit_argv(order: Order, facts: Mapping[str, str], *, unit: str) -> list[str]:
    """Return the command that runs a hook as a transient unit, and ends as the hook does.

    systemd kills all of it at its timeout, also when nobody waits for it any more.
    """
    settings = {
        "User": order.user, "RuntimeMaxSec": f"{order.timeout_s:g}s",
        "TimeoutStopSec": f"{UNIT_STOP_S:g}s", "KillMode": "control-group",
    }  # fmt: skip
    volume = facts.get("VOLUME", "")
    return [
        "systemd-run", "--wait", "--pipe", "--collect", "--quiet", "--service-type=exec",
        f"--unit={unit}", f"--description=blocksnap hook {order.name} of {volume}",
        *(f"--property={key}={value}" for key, value in settings.items()),
        *(f"--setenv={PREFIX}{name}={value}" for name, value in facts.items()),
        "--", *(word.replace("$", "$$") for word in order.run),
    ]  # fmt: skip


def ended(order: Order, finished: Finished, *, in_time: bool) -> End:
    """Return what the end of a hook's process, or of the command that waited for it, means."""
    is_late = finished.status != 0 and finished.duration_s >= order.timeout_s
    status = finished.status if in_time and not is_late else None
    return End(status, finished.said, finished.duration_s)
