"""Certificates of this host: until when they are good, and new ones long before that.

Looks every hour. A renewal that fails is tried again an hour later, for the month that is left;
the alert rule BlocksnapCertificateExpiring speaks up half-way through it. A new certificate is
taken up by the next connection; those that are open go on with the old one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import BlocksnapError
from blocksnapd.pki.certificates import read_facts
from blocksnapd.store.receiver_pairing import is_ours_to_renew, read_certificate, renew
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocksnapd.config import Config, Target
    from blocksnapd.control.messages import Severity
    from blocksnapd.metrics import Metrics
    from blocksnapd.model import Access
    from blocksnapd.ports import Clock
    from blocksnapd.service.reporting import Say

LOOK_EVERY_S: Final = 3600.0


class Renewing:
    """Keeps the certificates of all targets good. Event loop only."""

    def __init__(
        self, targets: Mapping[str, Target], *, metrics: Metrics, say: Say, clock: Clock
    ) -> None:
        self._targets, self._metrics = targets, metrics
        self._say, self._clock = say, clock

    def reconfigure(self, config: Config) -> None:
        """Look at the targets of ``config`` from now on."""
        self._targets = config.targets

    async def run(self) -> None:
        """Look for ever."""
        while True:
            for name, target in list(self._targets.items()):
                await self.look(name, target.url, target.access)
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self, name: str, url: str, access: Access) -> None:
        """Look at the certificates of one target now; renew what is due."""
        try:
            for role, path in (("source", access.cert), ("authority", access.ca)):
                if path is not None and url.startswith("https:"):
                    await self._look_at(name, role, path)
            if access.cert is not None and await asyncio.to_thread(self._is_due, access):
                ends = await asyncio.to_thread(renew, url, access)
                self._metrics.certificate(name, "source", ends)
                lasts = format_duration(ends - self._clock.now())
                said = f"the certificate for target {name} was renewed; it is good for {lasts}"
                self._tell("certificate-renewed", said, "info", name)
        except BlocksnapError as error:
            said = f"the certificate for target {name}: {error.sentences()}"
            self._tell("certificate-trouble", said, "warning", name)

    def _tell(self, kind: str, said: str, severity: Severity, target: str) -> None:
        self._say(kind, said, severity=severity, volume="", data={"target": target})

    async def _look_at(self, name: str, role: str, path: str) -> None:
        facts = read_facts(await asyncio.to_thread(read_certificate, path))
        self._metrics.certificate(name, role, facts.ends)

    def _is_due(self, access: Access) -> bool:
        assert access.cert is not None
        now = self._clock.now()
        return is_ours_to_renew(access) and read_facts(read_certificate(access.cert)).is_due(now)
