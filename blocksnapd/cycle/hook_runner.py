"""Runs hooks: as transient units where systemd is at work, else as plain processes. Edge.

A transient unit is outside of the daemon's sandbox, so that the sandbox can be tight and a hook
do what it has to. ``systemd-run --wait`` needs the system's message bus; where that or systemd is
missing, the hook is a process of ours in a group of its own.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
from typing import TYPE_CHECKING

from blocksnapd.cycle import hook_text
from blocksnapd.cycle.hook_text import UNIT_STOP_S, End, Order
from blocksnapd.runtime.process import GROUP_GRACE_S, run_group

if TYPE_CHECKING:
    from collections.abc import Mapping

_SYSTEMD, _BUS = "/run/systemd/system", "/run/dbus/system_bus_socket"
_UNIT_EXTRA_S = UNIT_STOP_S + 2 * GROUP_GRACE_S


class HookRunner:
    """Runs one hook at a time for whoever asks."""

    def uses_units(self) -> bool:
        """Whether hooks become transient units here."""
        is_there = os.path.isdir(_SYSTEMD) and os.path.exists(_BUS)
        return is_there and os.geteuid() == 0 and shutil.which("systemd-run") is not None

    async def run(self, order: Order, facts: Mapping[str, str]) -> End:
        """Run a hook to its end, at the latest a few seconds after its timeout; never raises."""
        told = {**facts, "HOOK": order.at, "TIMEOUT": f"{order.timeout_s:g}"}
        try:
            if self.uses_units():
                return await self._as_unit(order, told)
            return await self._as_process(order, told)
        except LookupError:
            return End(None, f"there is no user {order.user!r}", 0.0)
        except OSError as error:
            return End(None, f"{order.run[0]}: {error.strerror}", 0.0)

    async def _as_unit(self, order: Order, facts: Mapping[str, str]) -> End:
        unit = f"blocksnap-hook-{secrets.token_hex(6)}.service"
        pwd.getpwnam(order.user)  # systemd would only say that the unit failed
        finished, in_time = await run_group(
            hook_text.unit_argv(order, facts, unit=unit),
            timeout_s=order.timeout_s + _UNIT_EXTRA_S,
            environment=hook_text.environment({}),
        )
        return hook_text.ended(order, finished, in_time=in_time)

    async def _as_process(self, order: Order, facts: Mapping[str, str]) -> End:
        home = pwd.getpwnam(order.user).pw_dir
        finished, in_time = await run_group(
            order.run,
            timeout_s=order.timeout_s,
            environment=hook_text.environment(facts, user=order.user, home=home),
            user=order.user,
        )
        return hook_text.ended(order, finished, in_time=in_time)
