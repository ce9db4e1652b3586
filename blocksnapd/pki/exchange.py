"""Two who know the same short code prove it to each other and agree on a key: SPAKE2. Pure.

    source                                  receiver
    first = SPAKE2_A(code)      ─────▶
                                ◀─────      answer = SPAKE2_B(code)
    request, proof(request)     ─────▶      compares: one of the few tries is used up
                                ◀─────      certificate, authority, proof(both)

Whoever listens learns nothing to try codes against. Whoever stands in the middle must put one
guess of the code into its own messages and learns only whether that one was right: the proofs are
made with the key that comes out, and cover everything that is exchanged. The key never travels,
nor does a private key. The receiver tells nothing before the source's proof was right.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from blocksnapd.errors import FormatError, PairingError

MESSAGE_SIZE: Final = 33  # a side byte and a point of Ed25519
_RECEIVER: Final = b"blocksnap receiver"


class Proofs:
    """The two proofs that one key makes possible."""

    def __init__(self, key: bytes) -> None:
        made = HKDF(SHA256(), 64, salt=None, info=b"blocksnap pair 1").derive(key)
        self._keys = {"source": made[:32], "receiver": made[32:]}

    def make(self, side: str, *parts: bytes) -> bytes:
        """Return the proof of ``side`` (source, receiver) over ``parts``: 32 bytes."""
        found = hmac.new(self._keys[side], digestmod=sha256)
        for part in parts:
            found.update(len(part).to_bytes(8) + part)
        return found.digest()

    def check(self, proof: bytes, side: str, *parts: bytes) -> None:
        """Make sure that ``proof`` is what ``make`` returns where the same code was typed.

        Raises:
            PairingError: it is not.
        """
        if not hmac.compare_digest(proof, self.make(side, *parts)):
            raise PairingError(
                "the code was wrong, or somebody stands between the two hosts",
                effect="No certificate was made; nothing secret was given away.",
                hint="Compare the code with the receiver's screen. A code is good for a few tries.",
            )


class Asking:
    """The source's side, for one exchange."""

    def __init__(self, code: str, holder: str) -> None:
        self._spake = SPAKE2_A(code.encode(), idA=holder.encode(), idB=_RECEIVER)
        self.message: bytes = self._spake.start()

    def proofs(self, answer: bytes) -> Proofs:
        """Return the proofs that the receiver's ``answer`` makes possible.

        Raises:
            FormatError: it is no answer.
        """
        return Proofs(_finished(self._spake, answer))


class Answering:
    """The receiver's side, for one exchange.

    Raises:
        FormatError: ``message`` is not what a source begins with.
    """

    def __init__(self, code: str, holder: str, message: bytes) -> None:
        spake = SPAKE2_B(code.encode(), idA=holder.encode(), idB=_RECEIVER)
        self.message: bytes = spake.start()
        self.proofs = Proofs(_finished(spake, message))


def _finished(spake: SPAKE2_A | SPAKE2_B, message: bytes) -> bytes:
    try:
        if len(message) != MESSAGE_SIZE:
            raise ValueError("of another length")
        key: bytes = spake.finish(message)
    except (SPAKEError, NotOnCurve, ValueError) as error:
        raise FormatError(
            "what came in is no message of a pairing",
            effect="No certificate was made.",
            hint="Is it a blocksnap receiver that was asked, and of a version like this one?",
        ) from error
    return key
