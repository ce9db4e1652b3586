"""The receiver's side of pairing: exchanges under way, and who gets a certificate.

An exchange is good for one proof, right or wrong, and for a minute. Each proof that is looked at
uses up a try of the code first; no exchange begins while no code is open, so that strangers cost
a receiver next to nothing. Blocking; safe for several threads.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import BusyError, PairingError
from blocksnapd.pki.exchange import Answering
from blocksnapd.pki.wire import Issued

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.pki.registry import Registry
    from blocksnapd.ports import Clock

EXCHANGES_MAX: Final = 16
EXCHANGE_S_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Exchange:
    holder: str
    code: str
    answering: Answering
    until: float


class Registrar:
    """Pairs holders. ``reached`` is told under which name one that paired found the receiver."""

    def __init__(
        self, registry: Registry, clock: Clock, reached: Callable[[str], None] = lambda _: None
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._reached = reached
        self._exchanges: dict[str, _Exchange] = {}
        self._lock = threading.Lock()

    def begin(self, holder: str, message: bytes) -> tuple[str, bytes]:
        """Begin an exchange; return its id and the receiver's message.

        Raises:
            PairingError: no code is open for ``holder``. UsageError: that is no name.
            FormatError: ``message`` is none. BusyError: too many exchanges are under way.
        """
        code = self._registry.code_of(holder)
        with self._lock:
            self._drop_old()
            if len(self._exchanges) >= EXCHANGES_MAX:
                raise BusyError(
                    "too many pairings are under way at this receiver",
                    effect="The code was not tried; it is as good as before.",
                    hint=f"Try again in {EXCHANGE_S_MAX:.0f} seconds. If no one else is pairing, "
                    "somebody is trying codes: see the receiver's log.",
                )
            answering = Answering(code, holder, message)
            name = secrets.token_hex(16)
            until = self._clock.monotonic() + EXCHANGE_S_MAX
            self._exchanges[name] = _Exchange(holder, code, answering, until)
        return name, answering.message

    def finish(self, exchange: str, request: bytes, reached_as: str, proof: bytes) -> Issued:
        """Return a certificate for ``request`` if the source's proof is right.

        Raises:
            PairingError: it is wrong, the exchange is over, or the code ended meanwhile.
            CertificateError: ``request`` is none.
        """
        with self._lock:
            self._drop_old()
            found = self._exchanges.pop(exchange, None)
            if found is None or self._registry.code_of(found.holder) != found.code:
                raise PairingError(
                    "this pairing is not under way, or not any more",
                    effect="No certificate was made.",
                    hint="Begin anew: type the same command again.",
                )
            self._registry.take_try(found.holder)
            proofs = found.answering.proofs
            proofs.check(proof, "source", request, reached_as.encode())
            certificate = self._registry.admit(found.holder, request)
        authority = self._registry.authority.certificate
        self._reached(reached_as)
        return Issued(certificate, authority, proofs.make("receiver", certificate, authority))

    def _drop_old(self) -> None:
        now = self._clock.monotonic()
        self._exchanges = {n: e for n, e in self._exchanges.items() if e.until > now}
